package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.function.Executable;

/** What several tests use. */
final class Fixtures {
    static final Path ROOT = Path.of(System.getProperty("test.root"));
    static final Path DIST = Path.of(System.getProperty("test.dist"));
    /** The provider to run on instead of the CPU, or nothing: see tests/vectors/README.md. */
    static final String PROVIDER = System.getenv().getOrDefault("QWENGUARD_TEST_PROVIDER", "");
    /** An answer that takes the model a while. */
    static final String LONG = "Mix flour and water, and wait. ".repeat(200);

    static GuardOptions small() {
        return new GuardOptions().threads(1).cacheMib(64);
    }

    static GuardStream prompted(Guard guard) {
        GuardStream stream = guard.stream();
        stream.prompt(Message.user("How do I bake bread?"));
        return stream;
    }

    static String read(Path path) throws IOException {
        return Files.readString(path, StandardCharsets.UTF_8);
    }

    static void fails(Status status, String part, Executable call) {
        QwenguardException failure = assertThrows(QwenguardException.class, call);
        assertEquals(status, failure.status(), failure.getMessage());
        assertTrue(failure.getMessage().contains(part), failure.getMessage());
    }

    static void isClosed(Executable call) {
        IllegalStateException failure = assertThrows(IllegalStateException.class, call);
        assertTrue(failure.getMessage().endsWith(" is closed"), failure.getMessage());
    }

    private Fixtures() {}
}
