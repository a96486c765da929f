package io.github.libqwenguard;

/** What of a conversation was judged. */
public enum AnnotationMode {
    /** What the user asks: the last message is the user's. Categories are those of {@link Heads#PROMPT}. */
    PROMPT(0),
    /** What is answered: the last message is of any other role. Categories are those of {@link Heads#ANSWER}. */
    RESPONSE(1),
    /** One that this version does not know. */
    UNKNOWN(-1);

    private static final AnnotationMode[] VALUES = values();

    private final int number;

    AnnotationMode(int number) {
        this.number = number;
    }

    /** The number of the C interface; -1 for {@link #UNKNOWN}. */
    public int number() {
        return number;
    }

    static AnnotationMode of(int number) {
        for (AnnotationMode value : VALUES) {
            if (value.number == number) {
                return value;
            }
        }
        return UNKNOWN;
    }
}
