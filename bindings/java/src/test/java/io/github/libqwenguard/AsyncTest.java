package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class AsyncTest {
    private static Guard guard;

    @BeforeAll
    static void open() {
        guard = Guard.nano(Fixtures.small());
    }

    @AfterAll
    static void close() {
        guard.close();
    }

    private static QwenguardException failure(CompletableFuture<?> future) {
        Throwable cause = assertThrows(CompletionException.class, future::join).getCause();
        return assertInstanceOf(QwenguardException.class, cause);
    }

    @Test
    void aConversation() {
        try (GuardStream stream = guard.stream();
                GuardStream waits = guard.stream()) {
            CompletionStage<String> stages = stream.promptAsync(Message.user("Hello"))
                    .thenCompose(check -> stream.pushThinkingAsync("Hm."))
                    .thenCompose(update -> stream.pushTextAsync("Hello "))
                    .thenCompose(update -> stream.pushTextAsync("there.".getBytes(StandardCharsets.UTF_8)))
                    .thenCompose(update -> stream.truncateAsync(5))
                    .thenCompose(update -> stream.finishAsync())
                    .thenCompose(update -> stream.nextTurnAsync(List.of(Message.user("And now?"))))
                    .thenCompose(check -> stream.pushTokensAsync(guard.encode("Bread")))
                    .thenCompose(update -> stream.truncateTokensAsync(0))
                    .thenApply(Update::toString);
            waits.prompt(Message.user("Hello"));
            waits.pushThinking("Hm.");
            waits.pushText("Hello there.");
            waits.truncate(5);
            waits.finish();
            waits.nextTurn(Message.user("And now?"));
            waits.pushTokens(guard.encode("Bread"));
            assertEquals(waits.truncateTokens(0).toString(), stages.toCompletableFuture().join());
        }
    }

    @Test
    void manyStreams() {
        List<GuardStream> streams = new ArrayList<>();
        List<CompletableFuture<Update>> updates = new ArrayList<>();
        for (int count = 0; count < 40; count++) {
            GuardStream stream = guard.stream();
            streams.add(stream);
            updates.add(stream.promptAsync(List.of(Message.user("Hello"))).thenCompose(check -> stream.pushTextAsync("Hi ")));
        }
        for (CompletableFuture<Update> update : updates) {
            assertEquals(3, update.join().received());
        }
        streams.forEach(GuardStream::close);
    }

    @Test
    void failuresAreInTheFuture() {
        GuardStream stream = guard.stream();
        assertEquals(Status.WRONG_STATE, failure(stream.pushTextAsync("too early")).status());
        assertEquals(Status.CONVERSATION, failure(stream.promptAsync()).status());
        assertThrows(NullPointerException.class, () -> stream.pushTextAsync((String) null));
        assertThrows(IllegalArgumentException.class, () -> stream.truncateAsync(-1));
        assertThrows(IllegalArgumentException.class, () -> stream.pushTextAsync("half \ud83d"));
        stream.close();
        CompletableFuture<Update> closed = stream.finishAsync();
        assertInstanceOf(
                IllegalStateException.class, assertThrows(CompletionException.class, closed::join).getCause());
    }

    /** Nothing was added, and the next call waits until the stream is free. */
    @Test
    void cancellationReachesTheModel() {
        for (int round = 0; round < 20; round++) {
            try (GuardStream stream = Fixtures.prompted(guard)) {
                CompletableFuture<Update> future = stream.pushTextAsync(Fixtures.LONG);
                CompletableFuture<String> dependent = future.thenApply(Update::toString);
                boolean cancelled = future.cancel(true);
                long received = stream.pushTextAsync("Hi.").join().received();
                if (!cancelled) {
                    assertEquals(Fixtures.LONG.length() + 3, received);
                    continue;
                }
                // Cancelled is what was not done: a call that was done at that moment was made all the same.
                assertTrue(received == 3 || received == Fixtures.LONG.length() + 3, () -> "received " + received);
                assertThrows(CancellationException.class, future::join);
                assertInstanceOf(CancellationException.class,
                        assertThrows(CompletionException.class, dependent::join).getCause());
                assertEquals(received + 1, stream.pushText("!").received());
            }
        }
    }

    @Test
    void whatIsCompletedElsewhereIsCancelledToo() {
        try (GuardStream stream = Fixtures.prompted(guard)) {
            CompletableFuture<Update> late = stream.pushTextAsync(Fixtures.LONG);
            if (late.completeExceptionally(new TimeoutException())) {
                CompletableFuture<Update> after = stream.pushTextAsync("a");
                CompletableFuture<Update> given = after.thenCompose(update -> stream.pushTextAsync(Fixtures.LONG));
                given.join();
                assertTrue(after.isDone());
            }
            assertFalse(stream.finish().received() == 0);
        }
    }

    @Test
    void annotations() throws Exception {
        Message[] messages = {Message.user("Hello"), Message.assistant("Hi.")};
        String waits = guard.annotate(messages).toString();
        assertEquals(waits, guard.annotateAsync(messages).get(30, TimeUnit.SECONDS).toString());
        assertEquals(waits, guard.annotate(List.of(messages)).toString());
        assertEquals(waits, guard.annotateAsync(List.of(messages)).get(30, TimeUnit.SECONDS).toString());
        assertEquals(Status.CONVERSATION, failure(guard.annotateAsync()).status());
        CompletableFuture<Annotation> cancelled = guard.annotateAsync(messages);
        assertTrue(cancelled.cancel(false) ? cancelled.isCancelled() : cancelled.isDone());
        try (Guard closed = Guard.nano(Fixtures.small())) {
            closed.close();
            CompletableFuture<Annotation> late = closed.annotateAsync(messages);
            assertInstanceOf(
                    IllegalStateException.class, assertThrows(CompletionException.class, late::join).getCause());
        }
    }

    /** What depends on a future may take its time: others go on. */
    @Test
    void nobodyHoldsUpTheOthers() throws Exception {
        CompletableFuture<Void> held = new CompletableFuture<>();
        try (GuardStream one = Fixtures.prompted(guard);
                GuardStream other = Fixtures.prompted(guard)) {
            Thread test = Thread.currentThread();
            CompletableFuture<Void> waits = one.pushTextAsync(Fixtures.LONG).thenAccept(update -> {
                if (Thread.currentThread() != test) { // as it is if the call was not done before
                    held.join();
                }
            });
            assertEquals(3, other.pushTextAsync("Hi.").get(30, TimeUnit.SECONDS).received());
            held.complete(null);
            waits.get(30, TimeUnit.SECONDS);
        }
    }
}
