package io.github.libqwenguard;

import java.nio.ByteBuffer;

/** One judged token of an answer. */
public final class TokenVerdict {
    private final long index;
    private final ByteRange bytes;
    private final int id;
    private final Channel channel;
    private final boolean isFinal;
    private final Verdict verdict;

    private TokenVerdict(ByteBuffer memory, int place) {
        index = memory.getLong(place + Layout.TokenVerdict.INDEX);
        bytes = new ByteRange(
                memory.getLong(place + Layout.TokenVerdict.BYTE_START),
                memory.getLong(place + Layout.TokenVerdict.BYTE_END));
        id = memory.getInt(place + Layout.TokenVerdict.TOKEN_ID);
        channel = Channel.of(memory.getInt(place + Layout.TokenVerdict.CHANNEL));
        isFinal = memory.getInt(place + Layout.TokenVerdict.IS_FINAL) != 0;
        verdict = Verdict.read(memory, place + Layout.TokenVerdict.VERDICT);
    }

    static TokenVerdict read(ByteBuffer memory, int place) {
        return new TokenVerdict(memory, place);
    }

    /** Which token of the answer, from 0. Those around thinking count but are not judged. */
    public long index() {
        return index;
    }

    /** The bytes of the answer that it stands for. */
    public ByteRange bytes() {
        return bytes;
    }

    /** Its id in the guard's vocabulary. */
    public int id() {
        return id;
    }

    /** Whether it is thinking. */
    public Channel channel() {
        return channel;
    }

    /** Whether no later text can change it. A provisional token moves neither the horizon nor the decision. */
    public boolean isFinal() {
        return isFinal;
    }

    /** What the model says about the answer up to here. */
    public Verdict verdict() {
        return verdict;
    }

    @Override
    public String toString() {
        return index + ": " + id + " in bytes " + bytes + ", " + verdict;
    }
}
