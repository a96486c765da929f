package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/** What values look like in a log. */
class ValuesTest {
    /** They stand for something, or have only static methods; enumerations have names, exceptions messages. */
    private static final Set<String> OBJECTS = Set.of("Guard", "GuardLog", "GuardStream", "CompletionQueue", "Qwenguard");

    @Test
    void everyValueHasAText() throws Exception {
        Path sources = Fixtures.ROOT.resolve("bindings/java/src/main/java/io/github/libqwenguard");
        TreeSet<String> without = new TreeSet<>();
        try (Stream<Path> files = Files.list(sources)) {
            for (Path file : files.filter(path -> path.toString().endsWith(".java")).toList()) {
                String name = file.getFileName().toString().replace(".java", "");
                Class<?> type = Class.forName("io.github.libqwenguard." + name);
                boolean isValue = Modifier.isPublic(type.getModifiers()) && !type.isInterface();
                if (isValue && type.getMethod("toString").getDeclaringClass() == Object.class) {
                    without.add(name);
                }
            }
        }
        assertEquals(new TreeSet<>(OBJECTS), without);
    }

    @Test
    void stats() throws Exception {
        try (Guard guard = Guard.nano(Fixtures.small());
                GuardStream stream = Fixtures.prompted(guard)) {
            Stats stats = guard.stats();
            String text = stats.toString();
            assertTrue(text.startsWith("Stats[openStreams=1, ") && text.endsWith("]"), text);
            for (Method method : Stats.class.getDeclaredMethods()) {
                if (Modifier.isPublic(method.getModifiers()) && !method.getName().equals("toString")) {
                    String part = method.getName() + "=" + method.invoke(stats);
                    assertTrue(text.contains("[" + part) || text.contains(" " + part), part + " in " + text);
                }
            }
            stream.pushText("Hi.");
        }
    }

    @Test
    void optionsAndCalls() {
        assertEquals("GuardOptions[threads=1, cacheMib=64, configToml=null, runtimeLibrary=null]",
                Fixtures.small().toString());
        assertEquals("FREE, REFUSE", new AnnotateOptions().decoding(Decoding.FREE).toString());
        try (Guard guard = Guard.nano(Fixtures.small());
                GuardStream stream = guard.stream()) {
            assertEquals("PUSH_TEXT of 6 bytes", Call.pushText(stream, "secret").toString());
        }
    }

    @Test
    void exceptionsSayTheStatus() {
        try (Guard guard = Guard.nano(Fixtures.small());
                GuardStream stream = guard.stream()) {
            QwenguardException failure = assertThrows(QwenguardException.class, stream::finish);
            assertEquals("WRONG_STATE: " + failure.detail(), failure.getMessage());
            Reply reply = GuardStream.callAll(List.of(Call.finish(stream))).get(0);
            assertEquals("WRONG_STATE: " + reply.message(),
                    assertThrows(QwenguardException.class, reply::update).getMessage());
        }
        assertEquals("status 77: of a later library", new QwenguardException(77, "of a later library").getMessage());
    }
}
