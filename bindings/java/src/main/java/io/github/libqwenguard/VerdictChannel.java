package io.github.libqwenguard;

/** What a verdict is about, where verdicts are counted. */
public enum VerdictChannel {
    /** The prompt of a stream. */
    PROMPT(0),
    /** A token of an answer's thinking. */
    THINKING(1),
    /** A token of what an answer says. */
    ANSWER(2),
    /** A whole conversation, by what the user asks. */
    ANNOTATED_PROMPT(3),
    /** A whole conversation, by what is answered. */
    ANNOTATED_RESPONSE(4),
    /** One that this version does not know. */
    UNKNOWN(-1);

    private static final VerdictChannel[] VALUES = values();

    private final int number;

    VerdictChannel(int number) {
        this.number = number;
    }

    /** The number of the C interface; -1 for {@link #UNKNOWN}. */
    public int number() {
        return number;
    }

    static VerdictChannel of(int number) {
        for (VerdictChannel value : VALUES) {
            if (value.number == number) {
                return value;
            }
        }
        return UNKNOWN;
    }
}
