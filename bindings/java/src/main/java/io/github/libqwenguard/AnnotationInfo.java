package io.github.libqwenguard;

import java.nio.ByteBuffer;

/** What an annotation says, but for its texts. */
final class AnnotationInfo {
    private static final int LEVELS = 3;

    final AnnotationMode mode;
    final Risk risk;
    /** Null where they are not known, as those of categories. */
    final float[] risks;
    final int[] named;
    final int modeCategories;
    final float[] categories;
    final float none;
    final int refusal;
    final Float refusalProbability;
    final boolean parsed;
    final ByteRange judged;
    final boolean cut;
    final int windows;
    final long ids;

    AnnotationInfo(ByteBuffer memory, int place) {
        mode = AnnotationMode.of(memory.getInt(place + Layout.AnnotationInfo.MODE));
        risk = Risk.of(memory.getInt(place + Layout.AnnotationInfo.RISK));
        risks = memory.getInt(place + Layout.AnnotationInfo.HAS_RISK_PROBABILITIES) == 0
                ? null
                : Verdict.floats(memory, place + Layout.AnnotationInfo.RISK_PROBABILITIES, LEVELS);
        named = new int[memory.getInt(place + Layout.AnnotationInfo.CATEGORY_COUNT)];
        for (int index = 0; index < named.length; index++) {
            named[index] = memory.getInt(place + Layout.AnnotationInfo.CATEGORIES + Integer.BYTES * index);
        }
        modeCategories = memory.getInt(place + Layout.AnnotationInfo.MODE_CATEGORY_COUNT);
        categories = memory.getInt(place + Layout.AnnotationInfo.HAS_CATEGORY_PROBABILITIES) == 0
                ? null
                : Verdict.floats(memory, place + Layout.AnnotationInfo.CATEGORY_PROBABILITIES, modeCategories);
        none = memory.getFloat(place + Layout.AnnotationInfo.NONE_PROBABILITY);
        refusal = memory.getInt(place + Layout.AnnotationInfo.REFUSAL);
        refusalProbability = memory.getInt(place + Layout.AnnotationInfo.HAS_REFUSAL_PROBABILITY) == 0
                ? null
                : (Float) memory.getFloat(place + Layout.AnnotationInfo.REFUSAL_PROBABILITY);
        parsed = memory.getInt(place + Layout.AnnotationInfo.PARSED) != 0;
        judged = new ByteRange(
                memory.getLong(place + Layout.AnnotationInfo.JUDGED_START),
                memory.getLong(place + Layout.AnnotationInfo.JUDGED_END));
        cut = memory.getInt(place + Layout.AnnotationInfo.IS_CUT) != 0;
        windows = memory.getInt(place + Layout.AnnotationInfo.WINDOWS);
        ids = memory.getLong(place + Layout.AnnotationInfo.ID_COUNT);
    }
}
