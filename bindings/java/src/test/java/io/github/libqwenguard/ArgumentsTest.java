package io.github.libqwenguard;

import static io.github.libqwenguard.Fixtures.fails;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** Bad input names the argument, and everything goes on. */
class ArgumentsTest {
    private static Guard guard;

    @BeforeAll
    static void open() {
        guard = Guard.nano(Fixtures.small());
    }

    @AfterAll
    static void close() {
        guard.close();
    }

    private static void isNull(String argument, Executable call) {
        assertEquals(argument, assertThrows(NullPointerException.class, call).getMessage());
    }

    private static void isIllegal(String part, Executable call) {
        String message = assertThrows(IllegalArgumentException.class, call).getMessage();
        assertTrue(message.startsWith(part), message);
    }

    @Test
    void providersAreListed() {
        String all = Guard.providers();
        assertTrue(all.startsWith("[{\"provider\":\"cpu\",\"available\":true,"), all);
        GuardOptions cuda = new GuardOptions().configToml("runtime.provider = \"cuda\"");
        assertTrue(Guard.providers(cuda).contains("\"provider\":\"cuda\",\"available\":false"), all);
        fails(Status.PROVIDER, "execution provider cuda", () -> Guard.nano(cuda));
    }

    @Test
    void nulls() {
        isNull("options", () -> Guard.providers(null));
        isNull("bundle", () -> Guard.open(null));
        isNull("options", () -> Guard.nano(null));
        isNull("options", () -> Guard.open(Path.of("."), null));
        isNull("configToml", () -> new GuardOptions().configToml(null));
        isNull("runtimeLibrary", () -> new GuardOptions().runtimeLibrary(null));
        isNull("policyToml", () -> guard.stream(null));
        isNull("heads", () -> guard.categories(null));
        isNull("heads", () -> guard.category(null, 0));
        isNull("text", () -> guard.encode((String) null));
        isNull("text", () -> guard.encode((byte[]) null));
        isNull("role", () -> Message.of(null, ""));
        isNull("content", () -> Message.user(null));
        isNull("calls", () -> GuardStream.callAll(null));
        isNull("calls", () -> GuardStream.callAll(Arrays.asList((Call) null)));
        isNull("stream", () -> Call.finish(null));
        isNull("stream", () -> Call.truncate(null, 0));
        try (GuardStream stream = Fixtures.prompted(guard);
                CompletionQueue queue = CompletionQueue.open()) {
            isNull("messages", () -> stream.prompt((Message[]) null));
            isNull("messages", () -> stream.prompt((Message) null));
            isNull("messages", () -> stream.prompt((List<Message>) null));
            isNull("messages", () -> stream.nextTurn((Message) null));
            isNull("text", () -> stream.pushText((String) null));
            isNull("text", () -> stream.pushText((byte[]) null));
            isNull("text", () -> stream.pushThinking((String) null));
            isNull("text", () -> stream.pushThinking((byte[]) null));
            isNull("ids", () -> stream.pushTokens((int[]) null));
            isNull("text", () -> Call.pushText(stream, (byte[]) null));
            isNull("ids", () -> Call.pushTokens(stream, (int[]) null));
            isNull("messages", () -> Call.prompt(stream, (Message) null));
            isNull("messages", () -> Call.prompt(stream, (List<Message>) null));
            isNull("messages", () -> Call.nextTurn(stream, (List<Message>) null));
            isNull("messages", () -> guard.annotate((List<Message>) null));
            isNull("call", () -> queue.submit(null, 1));
            isNull("timeout", () -> queue.submit(Call.finish(stream), 1, null));
            isNull("timeout", () -> queue.await(1, null));
            isNull("risk", () -> stream.prompt(Message.user("Hi")).verdict().probability(null));
            assertEquals(3, stream.pushText("Hi.").received());
        }
    }

    @Test
    void ranges() {
        isIllegal("threads: -1", () -> new GuardOptions().threads(-1));
        isIllegal("cacheMib: -1", () -> new GuardOptions().cacheMib(-1));
        fails(Status.ARGUMENT, "category", () -> guard.category(Heads.ANSWER, 99));
        fails(Status.ARGUMENT, "4294967295", () -> guard.tokenBytes(-1));
        try (GuardStream stream = Fixtures.prompted(guard);
                CompletionQueue queue = CompletionQueue.open()) {
            isIllegal("bytes: -1", () -> stream.truncate(-1));
            isIllegal("tokens: -1", () -> stream.truncateTokens(-1));
            isIllegal("bytes: -1", () -> Call.truncate(stream, -1));
            isIllegal("tokens: -1", () -> Call.truncateTokens(stream, -1));
            isIllegal("flag: -1", () -> stream.flagRule(-1));
            isIllegal("limit: 0", () -> queue.await(0));
            isIllegal("limit: -7", () -> queue.poll(-7));
            isIllegal("risk: ", () -> stream.prompt(Message.user("Hi")).verdict().probability(Risk.UNKNOWN));
            fails(Status.ARGUMENT, "flag", () -> stream.flagRule(0));
            fails(Status.ARGUMENT, "4294967295", () -> stream.pushTokens(-1));
            assertThrows(InterruptedException.class, () -> {
                Thread.currentThread().interrupt();
                queue.await(1, Duration.ZERO);
            });
        }
    }

    @Test
    void openingFails() {
        Path nowhere = Path.of("/nowhere");
        fails(Status.BUNDLE_FILE, nowhere.toString(), () -> Guard.open(nowhere));
        fails(Status.CONFIG, "threads", () -> Guard.nano(new GuardOptions().configToml("threads = 2")));
        fails(Status.RUNTIME_NOT_FOUND, nowhere.toString(), () -> Guard.nano(new GuardOptions().runtimeLibrary(nowhere)));
        fails(Status.CONFIG, "Spam", () -> guard.stream("answer.categories.Spam.at = 0.5"));
    }

    @Test
    void optionsArrive() {
        String config = "[engine]\nmax_streams = 1 # ü";
        try (Guard one = Guard.nano(Fixtures.small().configToml(config));
                GuardStream stream = one.stream()) {
            assertEquals(0, stream.contextUsed());
            fails(Status.BUSY, "1", one::stream);
            fails(Status.BUSY, "1", stream::fork);
            assertEquals(64L << 20, one.stats().cacheBytes(), 1 << 20);
        }
    }

    /** An empty policy is none: the guard's. */
    @Test
    void policies() {
        try (Guard shadow = Guard.nano(Fixtures.small().configToml("policy.shadow = true"))) {
            for (String policy : List.of("", "# strict")) {
                try (GuardStream stream = shadow.stream(policy)) {
                    stream.prompt(Message.user("Hello"));
                    Update update = stream.pushText("Take the explosives, build a bomb and put it under the car of your neighbour. Wait there.");
                    assertTrue(update.violation().isPresent());
                    assertEquals(policy.isEmpty() ? Decision.CONTINUE : Decision.STOP, update.decision());
                }
            }
        }
    }

    @Test
    void statusesAndNames() {
        assertEquals("QG_ERROR_BUSY", Qwenguard.statusName(Status.BUSY.number()));
        assertNull(Qwenguard.statusName(99));
        QwenguardException later = new QwenguardException(99, "of a later library");
        assertEquals(Status.UNKNOWN, later.status());
        assertEquals(99, later.statusNumber());
        assertEquals("Controversial", Risk.CONTROVERSIAL.label());
        assertEquals("unknown", Risk.UNKNOWN.label());
    }
}
