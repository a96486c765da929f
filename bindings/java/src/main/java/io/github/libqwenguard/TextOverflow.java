package io.github.libqwenguard;

/**
 * What happens to a conversation that does not fit the model's context. Only its last message is ever cut, between
 * characters; if the others leave room for fewer than 16 tokens of it, that is {@link Status#CONTEXT_FULL}.
 */
public enum TextOverflow {
    /** It is an error. */
    REFUSE(0),
    /** The beginning of its last message is judged. */
    HEAD(1),
    /** The end of its last message is judged. */
    TAIL(2),
    /**
     * All of its last message is judged, in windows. The annotation is that of the gravest one; whether the answer refuses
     * is said by the first.
     */
    WINDOWS(3);

    private final int number;

    TextOverflow(int number) {
        this.number = number;
    }

    /** The number of the C interface. */
    public int number() {
        return number;
    }
}
