package io.github.libqwenguard;

import static io.github.libqwenguard.Fixtures.fails;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class QueueTest {
    private static Guard guard;

    @BeforeAll
    static void open() {
        guard = Guard.nano(Fixtures.small());
    }

    @AfterAll
    static void close() {
        guard.close();
    }

    @Test
    void callsComeBack() throws InterruptedException {
        try (CompletionQueue queue = CompletionQueue.open();
                GuardStream stream = guard.stream()) {
            assertTrue(queue.await(5, Duration.ofMillis(1)).isEmpty());
            assertTrue(queue.poll(5).isEmpty());
            queue.submit(Call.prompt(stream, Message.user("Hello")), -7);
            assertEquals(1, queue.size());
            Completion done = queue.await(5).get(0);
            assertEquals(-7, done.tag());
            assertSame(stream, done.stream());
            assertEquals(Decision.CONTINUE, done.reply().check().decision());
            fails(Status.WRONG_STATE, "another kind", () -> done.reply().update());
            assertEquals(0, queue.size());
            assertEquals(0, queue.cancel(-7));
            queue.submit(Call.prompt(stream, List.of(Message.user("Hello"))), 7);
            assertEquals(Decision.CONTINUE, queue.await(5).get(0).reply().check().decision());
            stream.finish();
            queue.submit(Call.nextTurn(stream, List.of(Message.user("And now?"))), 7);
            assertEquals(Decision.CONTINUE, queue.await(5).get(0).reply().check().decision());
            queue.submit(Call.prompt(stream), 8, Duration.ofMinutes(1));
            Reply failed = queue.await(5, Duration.ofSeconds(30)).get(0).reply();
            assertEquals(Status.CONVERSATION, failed.status());
            fails(Status.CONVERSATION, "user", failed::check);
        }
    }

    @Test
    void truncationsAreCallsToo() throws InterruptedException {
        try (CompletionQueue queue = CompletionQueue.open();
                GuardStream stream = Fixtures.prompted(guard)) {
            stream.pushText("Hello there.");
            queue.submit(Call.truncate(stream, 5), 1);
            assertEquals(5, queue.await(1).get(0).reply().update().received());
            queue.submit(Call.truncate(stream, 6), 2);
            Reply failed = queue.await(1).get(0).reply();
            fails(Status.ARGUMENT, "6 is more than the 5 bytes so far", failed::update);
            assertEquals(0, GuardStream.callAll(List.of(Call.truncateTokens(stream, 0))).get(0).update().received());
            queue.submit(Call.pushText(stream, Fixtures.LONG), 3);
            assertEquals(3, queue.await(1).get(0).tag());
            queue.submit(Call.truncate(stream, 5), 4);
            int cancelled = queue.cancel(4);
            Reply reply = queue.await(1).get(0).reply();
            assertEquals(cancelled == 1 ? Status.CANCELLED : Status.OK, reply.status());
        }
    }

    @Test
    void manyStreams() throws InterruptedException {
        List<GuardStream> streams = new ArrayList<>();
        try (CompletionQueue queue = CompletionQueue.open()) {
            for (int tag = 0; tag < 40; tag++) {
                streams.add(Fixtures.prompted(guard));
                queue.submit(Call.pushText(streams.get(tag), "Hello ".repeat(tag)), tag);
            }
            for (int back = 0; back < 40; ) {
                for (Completion done : queue.await(7)) {
                    assertEquals(6 * done.tag(), done.reply().update().received());
                    assertSame(streams.get((int) done.tag()), done.stream());
                    back++;
                }
            }
            assertEquals(0, queue.size());
        } finally {
            streams.forEach(GuardStream::close);
        }
    }

    @Test
    void theStreamIsInUse() throws InterruptedException {
        try (CompletionQueue queue = CompletionQueue.open();
                CompletionQueue other = CompletionQueue.open();
                GuardStream stream = Fixtures.prompted(guard)) {
            queue.submit(Call.pushText(stream, Fixtures.LONG), 1);
            fails(Status.IN_USE, "stream", () -> stream.pushText("x"));
            fails(Status.IN_USE, "stream", () -> queue.submit(Call.finish(stream), 2));
            fails(Status.IN_USE, "stream", () -> other.submit(Call.finish(stream), 2));
            assertEquals(Status.IN_USE, GuardStream.callAll(List.of(Call.finish(stream))).get(0).status());
            assertEquals(1, queue.await(5).size());
            assertEquals(Fixtures.LONG.length(), stream.finish().received());
        }
    }

    @Test
    void cancel() throws InterruptedException {
        List<GuardStream> streams = new ArrayList<>();
        try (CompletionQueue queue = CompletionQueue.open()) {
            for (int tag = 0; tag < 4; tag++) {
                streams.add(Fixtures.prompted(guard));
                queue.submit(Call.pushText(streams.get(tag), Fixtures.LONG), tag);
            }
            assertEquals(1, queue.cancel(3));
            for (int back = 0; back < 4; back++) {
                Completion done = queue.await(1).get(0);
                assertEquals(done.tag() == 3 ? Status.CANCELLED : Status.OK, done.reply().status());
            }
            assertEquals(3, streams.get(3).pushText("Hi.").received());
        } finally {
            streams.forEach(GuardStream::close);
        }
    }

    @Test
    void deadlines() throws InterruptedException {
        try (CompletionQueue queue = CompletionQueue.open();
                GuardStream stream = Fixtures.prompted(guard)) {
            queue.submit(Call.pushText(stream, Fixtures.LONG), 4, Duration.ofNanos(1));
            assertEquals(Status.DEADLINE_EXCEEDED, queue.await(5).get(0).reply().status());
            queue.submit(Call.pushText(stream, Fixtures.LONG), 5, Duration.ofSeconds(-1));
            assertEquals(Status.DEADLINE_EXCEEDED, queue.await(5).get(0).reply().status());
            assertEquals(3, stream.pushText("Hi.").received());
            queue.submit(Call.finish(stream), 6, Duration.ofSeconds(Long.MAX_VALUE));
            assertEquals(3, queue.await(5).get(0).reply().update().horizon());
        }
    }

    @Test
    void waitingEnds() throws Exception {
        CompletionQueue queue = CompletionQueue.open();
        CompletableFuture<Exception> interrupted = new CompletableFuture<>();
        Thread waiter = new Thread(() -> interrupted.complete(waitFor(queue)));
        waiter.start();
        waiter.interrupt();
        assertInstanceOf(InterruptedException.class, interrupted.get(10, TimeUnit.SECONDS));

        CompletableFuture<Exception> closed = CompletableFuture.supplyAsync(() -> waitFor(queue));
        Thread.sleep(20);
        queue.close();
        assertInstanceOf(IllegalStateException.class, closed.get(10, TimeUnit.SECONDS));
    }

    /** A call that comes in meanwhile does not keep its stream. */
    @Test
    void closedAtAnyMoment() throws Exception {
        long open = guard.stats().openStreams();
        for (int round = 0; round < 40; round++) {
            CompletionQueue queue = CompletionQueue.open();
            try (GuardStream stream = Fixtures.prompted(guard)) {
                CompletableFuture<Exception> ended = CompletableFuture.supplyAsync(() -> submitTo(queue, stream));
                TimeUnit.MICROSECONDS.sleep(round * 20);
                queue.close();
                assertInstanceOf(IllegalStateException.class, ended.get(10, TimeUnit.SECONDS));
                stream.pushText("b");
            }
        }
        assertEquals(open, guard.stats().openStreams());
    }

    private static Exception submitTo(CompletionQueue queue, GuardStream stream) {
        try {
            while (true) {
                queue.submit(Call.pushText(stream, "a "), 1);
                queue.await(1);
            }
        } catch (InterruptedException | RuntimeException failure) {
            return failure;
        }
    }

    private static Exception waitFor(CompletionQueue queue) {
        try {
            queue.await(1);
            return null;
        } catch (InterruptedException | IllegalStateException failure) {
            return failure;
        }
    }
}
