package io.github.libqwenguard;

import java.nio.charset.StandardCharsets;
import java.util.Objects;

/** Text as the library takes it. */
final class Utf8 {
    /** Java would put a question mark in the place of half a character, which nobody wrote. */
    static byte[] encode(String argument, String text) {
        Objects.requireNonNull(text, argument);
        for (int index = 0; index < text.length(); index++) {
            if (Character.isSurrogate(text.charAt(index))) {
                if (Character.charCount(text.codePointAt(index)) == 1) {
                    throw new IllegalArgumentException(
                            argument + ": half a surrogate pair at index " + index + "; cut text as bytes instead");
                }
                index++;
            }
        }
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private Utf8() {}
}
