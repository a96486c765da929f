package io.github.libqwenguard;

/** How a verdict on a whole conversation is had of a model that writes it. */
public enum Decoding {
    /** Held to the answer's grammar. Always gives a verdict, and probabilities of all decisions. */
    CONSTRAINED(0),
    /** Held to the grammar, and only the level is decided, without categories and refusal. */
    LABEL_ONLY(1),
    /** As the official code has it, and what can be read in that. Slower by far, and without probabilities. */
    FREE(2);

    private final int number;

    Decoding(int number) {
        this.number = number;
    }

    /** The number of the C interface. */
    public int number() {
        return number;
    }
}
