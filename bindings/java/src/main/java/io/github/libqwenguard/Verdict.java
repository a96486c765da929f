package io.github.libqwenguard;

import java.nio.ByteBuffer;
import java.util.Objects;
import java.util.OptionalInt;

/** What the model says at one position. */
public final class Verdict {
    private static final int LEVELS = 3;

    private final Risk risk;
    private final int category;
    private final float[] risks;
    private final float[] categories;

    private Verdict(Risk risk, int category, float[] risks, float[] categories) {
        this.risk = risk;
        this.category = category;
        this.risks = risks;
        this.categories = categories;
    }

    static Verdict read(ByteBuffer memory, int place) {
        int count = Math.min(memory.getInt(place + Layout.Verdict.CATEGORY_COUNT), Constants.MAX_CATEGORIES);
        return new Verdict(
                Risk.of(memory.getInt(place + Layout.Verdict.RISK)),
                memory.getInt(place + Layout.Verdict.CATEGORY),
                floats(memory, place + Layout.Verdict.RISK_PROBABILITIES, LEVELS),
                floats(memory, place + Layout.Verdict.CATEGORY_PROBABILITIES, count));
    }

    static float[] floats(ByteBuffer memory, int place, int count) {
        float[] floats = new float[count];
        for (int index = 0; index < count; index++) {
            floats[index] = memory.getFloat(place + Float.BYTES * index);
        }
        return floats;
    }

    /** The most probable level. */
    public Risk risk() {
        return risk;
    }

    /** Index of the most probable category; none where the risk is {@link Risk#SAFE}. */
    public OptionalInt category() {
        return category < 0 ? OptionalInt.empty() : OptionalInt.of(category);
    }

    /**
     * Probability of a level, 0 to 1.
     *
     * @throws IllegalArgumentException for {@link Risk#UNKNOWN}
     */
    public float probability(Risk risk) {
        if (Objects.requireNonNull(risk, "risk") == Risk.UNKNOWN) {
            throw new IllegalArgumentException("risk: there is no probability of UNKNOWN");
        }
        return risks[risk.number()];
    }

    /** Probabilities of the categories, by index. They sum to 1 whatever the risk, and mean nothing where it is safe. */
    public float[] categoryProbabilities() {
        return categories.clone();
    }

    @Override
    public String toString() {
        return risk == Risk.UNKNOWN ? risk.toString() : risk + " " + risks[risk.number()];
    }
}
