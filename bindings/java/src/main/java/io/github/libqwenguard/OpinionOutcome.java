package io.github.libqwenguard;

/** What came of a second opinion. */
public enum OpinionOutcome {
    /** It found something: the violation stands, or uncertain tokens are one. */
    CONFIRMED(0),
    /** It found nothing: the violation is lifted. */
    LIFTED(1),
    /** It found nothing: uncertain tokens do not count any more. */
    CLEARED(2),
    /** By the policy it changes nothing. */
    REPORTED(3),
    /** It could not be had: what is in dispute stands, unless by the policy it changes nothing. */
    FAILED(4),
    /** One that this version does not know. */
    UNKNOWN(-1);

    private static final OpinionOutcome[] VALUES = values();

    private final int number;

    OpinionOutcome(int number) {
        this.number = number;
    }

    /** The number of the C interface; -1 for {@link #UNKNOWN}. */
    public int number() {
        return number;
    }

    static OpinionOutcome of(int number) {
        for (OpinionOutcome value : VALUES) {
            if (value.number == number) {
                return value;
            }
        }
        return UNKNOWN;
    }
}
