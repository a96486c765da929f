package io.github.libqwenguard;

/** Why a second opinion was asked for. */
public enum OpinionTrigger {
    /** A violation was confirmed. */
    VIOLATION(0),
    /** Tokens were uncertain. */
    UNCERTAIN(1),
    /** One that this version does not know. */
    UNKNOWN(-1);

    private static final OpinionTrigger[] VALUES = values();

    private final int number;

    OpinionTrigger(int number) {
        this.number = number;
    }

    /** The number of the C interface; -1 for {@link #UNKNOWN}. */
    public int number() {
        return number;
    }

    static OpinionTrigger of(int number) {
        for (OpinionTrigger value : VALUES) {
            if (value.number == number) {
                return value;
            }
        }
        return UNKNOWN;
    }
}
