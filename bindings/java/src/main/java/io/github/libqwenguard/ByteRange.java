package io.github.libqwenguard;

/** A part of a text, in bytes of its UTF-8: from start up to, and without, end. */
public final class ByteRange {
    private final long start;
    private final long end;

    ByteRange(long start, long end) {
        this.start = start;
        this.end = end;
    }

    public long start() {
        return start;
    }

    public long end() {
        return end;
    }

    @Override
    public String toString() {
        return start + ".." + end;
    }
}
