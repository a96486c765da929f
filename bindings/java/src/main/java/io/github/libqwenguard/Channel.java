package io.github.libqwenguard;

/** A part of an answer with rules of its own. */
public enum Channel {
    /** What the answer says. */
    ANSWER(0),
    /** The thinking before it. */
    THINKING(1),
    /** One that this version does not know. */
    UNKNOWN(-1);

    private static final Channel[] VALUES = values();

    private final int number;

    Channel(int number) {
        this.number = number;
    }

    /** The number of the C interface; -1 for {@link #UNKNOWN}. */
    public int number() {
        return number;
    }

    static Channel of(int number) {
        for (Channel value : VALUES) {
            if (value.number == number) {
                return value;
            }
        }
        return UNKNOWN;
    }
}
