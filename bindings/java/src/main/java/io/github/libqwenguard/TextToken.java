package io.github.libqwenguard;

import java.util.List;
import java.util.Objects;

/** A token of a text. */
public final class TextToken {
    private final int id;
    private final ByteRange bytes;

    TextToken(int id, ByteRange bytes) {
        this.id = id;
        this.bytes = bytes;
    }

    static int[] ids(List<TextToken> tokens) {
        return Objects.requireNonNull(tokens, "tokens").stream().mapToInt(TextToken::id).toArray();
    }

    /** Its id in the guard's vocabulary, as {@link GuardStream#pushTokens(int...)} takes it. */
    public int id() {
        return id;
    }

    /** The bytes of the text that it stands for. */
    public ByteRange bytes() {
        return bytes;
    }

    @Override
    public String toString() {
        return id + " in bytes " + bytes;
    }
}
