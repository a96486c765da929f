package io.github.libqwenguard;

import java.nio.ByteBuffer;
import java.util.Optional;

/** The verdict on a prompt. */
public final class PromptCheck {
    private final Decision decision;
    private final Finding finding;
    private final Verdict verdict;

    private PromptCheck(Decision decision, Finding finding, Verdict verdict) {
        this.decision = decision;
        this.finding = finding;
        this.verdict = verdict;
    }

    static PromptCheck read(ByteBuffer memory, int place) {
        Finding finding = null;
        if (memory.getInt(place + Layout.PromptCheck.HAS_FINDING) != 0) {
            finding = new Finding(
                    Action.of(memory.getInt(place + Layout.PromptCheck.ACTION)),
                    Risk.of(memory.getInt(place + Layout.PromptCheck.RISK)),
                    memory.getInt(place + Layout.PromptCheck.CATEGORY),
                    memory.getFloat(place + Layout.PromptCheck.PROBABILITY));
        }
        return new PromptCheck(
                Decision.of(memory.getInt(place + Layout.PromptCheck.DECISION)),
                finding,
                Verdict.read(memory, place + Layout.PromptCheck.VERDICT));
    }

    /** What the policy makes of it. */
    public Decision decision() {
        return decision;
    }

    /** What a rule of the policy applies to: {@link GuardStream#rule} tells which. */
    public Optional<Finding> finding() {
        return Optional.ofNullable(finding);
    }

    /** What the model says about the message that is judged, in the light of all before it. */
    public Verdict verdict() {
        return verdict;
    }

    @Override
    public String toString() {
        return decision + ", " + (finding == null ? verdict : finding);
    }
}
