package io.github.libqwenguard;

import java.nio.ByteBuffer;

/** Where an answer turned. Bytes and tokens count from the start of the answer, tags and thinking included. */
public final class Violation {
    private final Action action;
    private final Channel channel;
    private final Risk risk;
    private final int category;
    private final float probability;
    private final ByteRange bytes;
    private final long firstToken;
    private final long confirmingToken;

    private Violation(ByteBuffer memory, int place) {
        action = Action.of(memory.getInt(place + Layout.Violation.ACTION));
        channel = Channel.of(memory.getInt(place + Layout.Violation.CHANNEL));
        risk = Risk.of(memory.getInt(place + Layout.Violation.RISK));
        category = memory.getInt(place + Layout.Violation.CATEGORY);
        probability = memory.getFloat(place + Layout.Violation.PROBABILITY);
        bytes = new ByteRange(
                memory.getLong(place + Layout.Violation.BYTE_START), memory.getLong(place + Layout.Violation.BYTE_END));
        firstToken = memory.getLong(place + Layout.Violation.FIRST_TOKEN);
        confirmingToken = memory.getLong(place + Layout.Violation.CONFIRMING_TOKEN);
    }

    static Violation read(ByteBuffer memory, int place) {
        return new Violation(memory, place);
    }

    /** What is to be done about it. */
    public Action action() {
        return action;
    }

    /** Whether it is in the thinking. */
    public Channel channel() {
        return channel;
    }

    /** The level that it counts as. */
    public Risk risk() {
        return risk;
    }

    /** Index among the categories of {@link Heads#ANSWER}. */
    public int category() {
        return category;
    }

    /** Probability of the level, 0 to 1. */
    public float probability() {
        return probability;
    }

    /** From the first token that counts to the one that confirmed it. */
    public ByteRange bytes() {
        return bytes;
    }

    /** The first token that counts. */
    public long firstToken() {
        return firstToken;
    }

    /**
     * The token that confirmed it. Level, category and probability are those of its verdict, or of what a second opinion
     * confirmed at it.
     */
    public long confirmingToken() {
        return confirmingToken;
    }

    @Override
    public String toString() {
        return action + " " + risk + " " + probability + " in bytes " + bytes;
    }
}
