package io.github.libqwenguard;

import java.util.Objects;

/** How conversations are annotated. */
public final class AnnotateOptions {
    private Decoding decoding = Decoding.CONSTRAINED;
    private TextOverflow overflow = TextOverflow.REFUSE;

    /** How the verdict is had of a model that writes it: {@link Decoding#CONSTRAINED} if it is not set. */
    public AnnotateOptions decoding(Decoding decoding) {
        this.decoding = Objects.requireNonNull(decoding, "decoding");
        return this;
    }

    /** What happens to a conversation that does not fit: {@link TextOverflow#REFUSE} if it is not set. */
    public AnnotateOptions overflow(TextOverflow overflow) {
        this.overflow = Objects.requireNonNull(overflow, "overflow");
        return this;
    }

    void write(Frame frame, int place) {
        frame.memory
                .putInt(place + Layout.AnnotateOptions.STRUCT_SIZE, Layout.AnnotateOptions.SIZE)
                .putInt(place + Layout.AnnotateOptions.DECODING, decoding.number())
                .putInt(place + Layout.AnnotateOptions.OVERFLOW, overflow.number())
                .putInt(place + Layout.AnnotateOptions.RESERVED, 0);
    }

    @Override
    public String toString() {
        return decoding + ", " + overflow;
    }
}
