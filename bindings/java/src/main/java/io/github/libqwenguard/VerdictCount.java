package io.github.libqwenguard;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** How often a guard gave a verdict of one channel, level and category, and what policies made of it. */
public final class VerdictCount {
    /** Of channels, levels and categories there are no more; later versions may have some. */
    private static final int EXPECTED = 256;

    private final VerdictChannel channel;
    private final Risk risk;
    private final int category;
    private final long verdicts;
    private final long stops;
    private final long flags;

    private VerdictCount(ByteBuffer memory, int place) {
        channel = VerdictChannel.of(memory.getInt(place + Layout.VerdictCount.CHANNEL));
        risk = Risk.of(memory.getInt(place + Layout.VerdictCount.RISK));
        category = memory.getInt(place + Layout.VerdictCount.CATEGORY);
        verdicts = memory.getLong(place + Layout.VerdictCount.VERDICTS);
        stops = memory.getLong(place + Layout.VerdictCount.STOPS);
        flags = memory.getLong(place + Layout.VerdictCount.FLAGS);
    }

    static List<VerdictCount> of(Guard guard) {
        for (long capacity = EXPECTED; ; capacity *= 2) {
            try (Frame frame = guard.handle().enter(guard, capacity * Layout.VerdictCount.SIZE)) {
                frame.check(Native.get().guardVerdictCounts(
                        frame.raw(), frame.in(), capacity, frame.out(), frame.error()));
                long count = frame.outLong();
                if (count <= capacity) {
                    List<VerdictCount> counts = new ArrayList<>();
                    for (int index = 0; index < count; index++) {
                        counts.add(new VerdictCount(frame.memory, Frame.IN + index * Layout.VerdictCount.SIZE));
                    }
                    return Collections.unmodifiableList(counts);
                }
            }
        }
    }

    /** What was judged. */
    public VerdictChannel channel() {
        return channel;
    }

    /** The level: of a verdict the most probable one, of a stop or a flag the one that it counts as. */
    public Risk risk() {
        return risk;
    }

    /**
     * Index among the categories of {@link Heads#PROMPT} for prompts and annotated prompts, else of {@link Heads#ANSWER}; -1 of
     * safe verdicts, and where none is known.
     */
    public int category() {
        return category;
    }

    /**
     * Final verdicts: one for each prompt, for each token of an answer and for each annotation. Tokens that are judged again
     * after an answer was cut back count again.
     */
    public long verdicts() {
        return verdicts;
    }

    /** How often the host was told to stop: a prompt, an answer or an annotation whose decision became STOP. */
    public long stops() {
        return stops;
    }

    /** What was reported and let the answer go on, and in shadow mode what would have stopped. */
    public long flags() {
        return flags;
    }

    @Override
    public String toString() {
        return channel + " " + risk + " " + category + ": " + verdicts + " verdicts, " + stops + " stops, " + flags + " flags";
    }
}
