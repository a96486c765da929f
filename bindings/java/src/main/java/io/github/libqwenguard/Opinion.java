package io.github.libqwenguard;

import java.nio.ByteBuffer;
import java.util.Optional;

/** A second opinion on an answer. Bytes and tokens count from the start of the answer, tags and thinking included. */
public final class Opinion {
    private final OpinionTrigger trigger;
    private final OpinionOutcome outcome;
    private final Channel channel;
    private final Risk risk;
    private final float[] risks = new float[3];
    private final ByteRange bytes;
    private final long firstToken;
    private final long confirmingToken;

    private Opinion(ByteBuffer memory, int place) {
        trigger = OpinionTrigger.of(memory.getInt(place + Layout.Opinion.TRIGGER));
        outcome = OpinionOutcome.of(memory.getInt(place + Layout.Opinion.OUTCOME));
        channel = Channel.of(memory.getInt(place + Layout.Opinion.CHANNEL));
        risk = memory.getInt(place + Layout.Opinion.IS_ANNOTATED) == 0
                ? null
                : Risk.of(memory.getInt(place + Layout.Opinion.RISK));
        for (int level = 0; level < risks.length; level++) {
            risks[level] = memory.getFloat(place + Layout.Opinion.RISK_PROBABILITIES + Float.BYTES * level);
        }
        bytes = new ByteRange(
                memory.getLong(place + Layout.Opinion.BYTE_START), memory.getLong(place + Layout.Opinion.BYTE_END));
        firstToken = memory.getLong(place + Layout.Opinion.FIRST_TOKEN);
        confirmingToken = memory.getLong(place + Layout.Opinion.CONFIRMING_TOKEN);
    }

    static Opinion read(ByteBuffer memory, int place) {
        return new Opinion(memory, place);
    }

    /** Why it was asked for. */
    public OpinionTrigger trigger() {
        return trigger;
    }

    /** What came of it. */
    public OpinionOutcome outcome() {
        return outcome;
    }

    /** Whether what is in dispute is in the thinking. */
    public Channel channel() {
        return channel;
    }

    /** The level that it says. Empty if it could not be had. */
    public Optional<Risk> risk() {
        return Optional.ofNullable(risk);
    }

    /** Probability of a level, 0 to 1. 0 if it could not be had. */
    public float probability(Risk level) {
        return level.number() >= 0 && level.number() < risks.length ? risks[level.number()] : 0;
    }

    /** What is in dispute. The opinion is about all of the answer up to its end, whole characters only. */
    public ByteRange bytes() {
        return bytes;
    }

    /** The first token in dispute. */
    public long firstToken() {
        return firstToken;
    }

    /** The last one, at which it was asked for. */
    public long confirmingToken() {
        return confirmingToken;
    }

    @Override
    public String toString() {
        return trigger + " " + outcome + " in bytes " + bytes;
    }
}
