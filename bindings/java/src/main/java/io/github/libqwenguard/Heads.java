package io.github.libqwenguard;

/** The model's heads, which have categories of their own. */
public enum Heads {
    /** Those that judge prompts. */
    PROMPT(0),
    /** Those that judge answers, thinking included. */
    ANSWER(1);

    private final int number;

    Heads(int number) {
        this.number = number;
    }

    /** The number of the C interface. */
    public int number() {
        return number;
    }
}
