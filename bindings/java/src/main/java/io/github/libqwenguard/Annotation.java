package io.github.libqwenguard;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;

/** The verdict on a whole conversation: a value, which needs no guard any more and is not closed. */
public final class Annotation {
    private final Handle handle;
    private final AnnotationInfo info;
    private final List<String> names;
    private final String answer;
    private final Judgement judgement;

    /** Takes an annotation of the library over. */
    Annotation(long raw) {
        handle = new Handle(this, "annotation", raw, Native.get()::annotationFree);
        try (Frame frame = frame(0)) {
            frame.check(Native.get().annotationGet(raw, frame.out(), frame.error()));
            info = new AnnotationInfo(frame.memory, Frame.OUT);
            names = new ArrayList<>(info.modeCategories);
            for (int category = 0; category < info.modeCategories; category++) {
                frame.check(Native.get().annotationCategoryName(raw, category, frame.out(), frame.error()));
                names.add(Native.get().string(frame.outLong()));
            }
            answer = frame.outText(Native.get().annotationAnswer(raw, frame.out(), frame.error()));
            judgement = judge(frame, 0);
        }
    }

    /** There may be many annotations, so none keeps memory for calls. */
    private Frame frame(long inputs) {
        SafetyNet.sweep();
        Frame frame = Frame.allocate(null, inputs);
        frame.owner = this;
        return frame;
    }

    /** What was judged. */
    public AnnotationMode mode() {
        return info.mode;
    }

    /** The level; of equally probable ones the gravest. */
    public Risk risk() {
        return info.risk;
    }

    /**
     * Probability of a level, 0 to 1; empty with {@link Decoding#FREE}.
     *
     * @throws IllegalArgumentException for {@link Risk#UNKNOWN}
     */
    public Optional<Float> probability(Risk risk) {
        if (Objects.requireNonNull(risk, "risk") == Risk.UNKNOWN) {
            throw new IllegalArgumentException("risk: there is no probability of UNKNOWN");
        }
        return info.risks == null ? Optional.empty() : Optional.of(info.risks[risk.number()]);
    }

    /** The categories that are named, in the order in which the model names them. */
    public List<String> categories() {
        List<String> named = new ArrayList<>(info.named.length);
        for (int category : info.named) {
            named.add(names.get(category));
        }
        return Collections.unmodifiableList(named);
    }

    /**
     * Probability of each category of the mode of being named first, in the model's order. With {@link #noneProbability} they
     * sum to 1. Empty where that was not decided, as where the level is safe.
     */
    public Map<String, Float> categoryProbabilities() {
        Map<String, Float> probabilities = new LinkedHashMap<>();
        for (int category = 0; info.categories != null && category < names.size(); category++) {
            probabilities.put(names.get(category), info.categories[category]);
        }
        return Collections.unmodifiableMap(probabilities);
    }

    /** Probability that no category is named. 0 where that was not decided. */
    public float noneProbability() {
        return info.none;
    }

    /** Whether the answer refuses; empty where that is not known, as for prompts. */
    public Optional<Boolean> refusal() {
        return info.refusal < 0 ? Optional.empty() : Optional.of(info.refusal == 1);
    }

    /** Probability that the answer refuses; empty where that was not decided. */
    public Optional<Float> refusalProbability() {
        return Optional.ofNullable(info.refusalProbability);
    }

    /**
     * Whether all lines of the answer could be read. False with {@link Decoding#FREE} only: a level that is missing counts as
     * the gravest.
     */
    public boolean isParsed() {
        return info.parsed;
    }

    /** What the model writes; empty if it writes nothing. */
    public String answer() {
        return answer;
    }

    /** Which bytes of the last message were judged. */
    public ByteRange judged() {
        return info.judged;
    }

    /** Whether that is a part of it only: see {@link TextOverflow}. */
    public boolean isCut() {
        return info.cut;
    }

    /** How many windows of it were judged. */
    public int windows() {
        return info.windows;
    }

    /** How many tokens the model writes its answer to. 0 if it writes nothing. */
    public long idCount() {
        return info.ids;
    }

    /** What the policy of the guard makes of it. */
    public Decision decision() {
        return judgement.decision();
    }

    /** What a rule of the guard's policy applies to. */
    public Optional<AnnotationFinding> finding() {
        return judgement.finding();
    }

    /** The line that {@code qwenguard annotate} writes, without an id. */
    public String json() {
        try (Frame frame = frame(0)) {
            return frame.outText(Native.get().annotationJson(handle.raw(), frame.out(), frame.error()));
        }
    }

    /**
     * What another policy makes of it, without the model.
     *
     * @param policyToml a TOML document; an empty one means the guard's policy
     * @throws QwenguardException CONFIG if the policy is wrong or names a category that the model does not have
     */
    public Judgement judge(String policyToml) {
        byte[] policy = Utf8.encode("policyToml", policyToml);
        try (Frame frame = frame(policy.length)) {
            frame.put(Frame.IN, policy);
            return judge(frame, policy.length);
        }
    }

    private Judgement judge(Frame frame, long policyLength) {
        int rule = Frame.OUT + Layout.Judgement.SIZE;
        frame.check(Native.get().annotationJudge(
                handle.raw(), frame.in(), policyLength, frame.out(), frame.at(rule), frame.error()));
        return judgement(frame, frame.memory.getLong(rule));
    }

    private Judgement judgement(Frame frame, long rule) {
        Decision decision = Decision.of(frame.memory.getInt(Frame.OUT + Layout.Judgement.DECISION));
        if (frame.memory.getInt(Frame.OUT + Layout.Judgement.HAS_FINDING) == 0) {
            return new Judgement(decision, null);
        }
        int category = frame.memory.getInt(Frame.OUT + Layout.Judgement.CATEGORY);
        return new Judgement(decision, new AnnotationFinding(
                Action.of(frame.memory.getInt(Frame.OUT + Layout.Judgement.ACTION)),
                Risk.of(frame.memory.getInt(Frame.OUT + Layout.Judgement.RISK)),
                category < 0 ? null : names.get(category),
                frame.memory.getFloat(Frame.OUT + Layout.Judgement.PROBABILITY),
                Native.get().take(rule)));
    }

    /** The reward of a response by the default rule: 1 if it is safe, 0 if not. */
    public double reward() {
        return reward("", 0);
    }

    /** As {@link #reward(String, double, Annotation)}, without thinking. */
    public double reward(String ruleToml, double helpfulness) {
        return reward(ruleToml, helpfulness, null);
    }

    /**
     * The reward of a response for reinforcement learning.
     *
     * @param ruleToml a TOML document: {@code form} ("guard" or "hybrid"), {@code controversial_is_safe}, {@code safe},
     *     {@code not_safe}, {@code not_safe_cap} and {@code refusal_cap}; an empty one means the defaults
     * @param helpfulness the score of a reward model, which the form "guard" has no use for
     * @param thinking the annotation of its thinking, judged as a response of its own, or null: the response is safe if both
     *     say so
     * @throws QwenguardException CONFIG if the rule is wrong; ARGUMENT if an annotation is of a prompt, the score is needed and
     *     is no finite number, or it matters whether the response refuses and that is not known
     */
    public double reward(String ruleToml, double helpfulness, Annotation thinking) {
        byte[] rule = Utf8.encode("ruleToml", ruleToml);
        try (Frame frame = frame(rule.length)) {
            frame.put(Frame.IN, rule);
            frame.check(Native.get().annotationReward(
                    handle.raw(), thinking == null ? 0 : thinking.handle.raw(), frame.in(), rule.length, helpfulness,
                    frame.out(), frame.error()));
            return frame.memory.getDouble(Frame.OUT);
        } finally {
            Fence.keep(thinking);
        }
    }

    @Override
    public String toString() {
        return info.mode + " " + info.risk + " " + categories();
    }
}
