package io.github.libqwenguard;

/** What a host should do with a conversation. */
public enum Decision {
    /** The conversation may go on. */
    CONTINUE(0),
    /** Stop writing, and show nothing past the horizon. */
    STOP(1),
    /** One that this version does not know. */
    UNKNOWN(-1);

    private static final Decision[] VALUES = values();

    private final int number;

    Decision(int number) {
        this.number = number;
    }

    /** The number of the C interface; -1 for {@link #UNKNOWN}. */
    public int number() {
        return number;
    }

    static Decision of(int number) {
        for (Decision value : VALUES) {
            if (value.number == number) {
                return value;
            }
        }
        return UNKNOWN;
    }
}
