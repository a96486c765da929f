package io.github.libqwenguard;

import java.util.Optional;

/** What a policy found in an annotation. */
public final class AnnotationFinding {
    private final Action action;
    private final Risk risk;
    private final String category;
    private final float probability;
    private final String rule;

    AnnotationFinding(Action action, Risk risk, String category, float probability, String rule) {
        this.action = action;
        this.risk = risk;
        this.category = category;
        this.probability = probability;
        this.rule = rule;
    }

    /** What is to be done about it. */
    public Action action() {
        return action;
    }

    /** The level that it counts as. */
    public Risk risk() {
        return risk;
    }

    /** The category whose rule applies, or that is named; empty if none is known. */
    public Optional<String> category() {
        return Optional.ofNullable(category);
    }

    /** Probability of the level, 0 to 1. */
    public float probability() {
        return probability;
    }

    /** The rule that applies, by the names of its settings, such as "answer.strict". */
    public String rule() {
        return rule;
    }

    @Override
    public String toString() {
        return action + " " + risk + " " + probability + ", " + rule;
    }
}
