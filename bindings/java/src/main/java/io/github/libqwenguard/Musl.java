package io.github.libqwenguard;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;

/** Systems with musl, for which there is no ONNX Runtime. The words of their loader do not say what is wrong. */
final class Musl {
    static final String REFUSAL = "musl is not supported: use an image with glibc, such as debian:stable-slim, instead of Alpine";

    /** Whether this Java is one for musl. Systems with glibc may have its loader too. */
    static boolean isHere() {
        return isIn(Paths.get("/proc/self/maps"));
    }

    static boolean isIn(Path maps) {
        try {
            return new String(Files.readAllBytes(maps), StandardCharsets.ISO_8859_1).contains("/ld-musl-");
        } catch (IOException none) {
            return false;
        }
    }

    private Musl() {}
}
