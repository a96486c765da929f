package io.github.libqwenguard;

/** A call that is done. */
public final class Completion {
    private final long tag;
    private final GuardStream stream;
    private final Reply reply;

    Completion(long tag, GuardStream stream, Reply reply) {
        this.tag = tag;
        this.stream = stream;
        this.reply = reply;
    }

    /** What the call was submitted with. */
    public long tag() {
        return tag;
    }

    /** The stream, which is free for its next call; null for an annotation. */
    public GuardStream stream() {
        return stream;
    }

    /** What the call answers. */
    public Reply reply() {
        return reply;
    }

    @Override
    public String toString() {
        return tag + ": " + reply;
    }
}
