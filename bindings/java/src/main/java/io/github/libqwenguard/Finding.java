package io.github.libqwenguard;

/** What a policy found in a prompt. */
public final class Finding {
    private final Action action;
    private final Risk risk;
    private final int category;
    private final float probability;

    Finding(Action action, Risk risk, int category, float probability) {
        this.action = action;
        this.risk = risk;
        this.category = category;
        this.probability = probability;
    }

    /** What is to be done about it. */
    public Action action() {
        return action;
    }

    /** The level that it counts as. */
    public Risk risk() {
        return risk;
    }

    /** Index among the categories of {@link Heads#PROMPT}. */
    public int category() {
        return category;
    }

    /** Probability of the level, 0 to 1. */
    public float probability() {
        return probability;
    }

    @Override
    public String toString() {
        return action + " " + risk + " " + probability;
    }
}
