package io.github.libqwenguard;

import java.util.Optional;

/** What a policy makes of an annotation. */
public final class Judgement {
    private final Decision decision;
    private final AnnotationFinding finding;

    Judgement(Decision decision, AnnotationFinding finding) {
        this.decision = decision;
        this.finding = finding;
    }

    /** What is to be done. */
    public Decision decision() {
        return decision;
    }

    /** What a rule of the policy applies to. */
    public Optional<AnnotationFinding> finding() {
        return Optional.ofNullable(finding);
    }

    @Override
    public String toString() {
        return finding == null ? decision.toString() : decision + ", " + finding;
    }
}
