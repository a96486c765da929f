package io.github.libqwenguard;

import static io.github.libqwenguard.Fixtures.isClosed;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Nothing is used after it was freed, and nothing stays. */
@Timeout(60)
class LifetimeTest {
    @Test
    void closedObjectsSaySo() {
        Guard guard = Guard.nano(Fixtures.small());
        GuardStream stream = Fixtures.prompted(guard);
        CompletionQueue queue = CompletionQueue.open();
        guard.close();
        guard.close();
        isClosed(guard::stream);
        isClosed(() -> guard.stream(""));
        isClosed(guard::info);
        isClosed(guard::stats);
        isClosed(guard::metrics);
        isClosed(() -> guard.categories(Heads.PROMPT));
        isClosed(() -> guard.encode("x"));
        isClosed(() -> guard.tokenBytes(1));
        isClosed(() -> guard.annotate(Message.user("x")));
        isClosed(() -> guard.annotateAll(List.of(List.of(Message.user("x")))));
        isClosed(() -> queue.annotate(guard, List.of(Message.user("x")), new AnnotateOptions(), 1));
        assertEquals(3, stream.pushText("Hi.").received());
        stream.close();
        stream.close();
        isClosed(() -> stream.pushText("x"));
        isClosed(() -> stream.prompt(Message.user("x")));
        isClosed(stream::finish);
        isClosed(stream::fork);
        isClosed(stream::tokens);
        isClosed(stream::rule);
        isClosed(() -> GuardStream.callAll(List.of(Call.finish(stream))));
        isClosed(() -> queue.submit(Call.finish(stream), 1));
        assertEquals(0, queue.size());
        queue.close();
        queue.close();
        isClosed(queue::size);
        isClosed(() -> queue.poll(1));
        isClosed(() -> queue.cancel(1));
    }

    @Test
    void oneClosedStreamAmongManyChangesNothing() {
        try (Guard guard = Guard.nano(Fixtures.small())) {
            GuardStream open = Fixtures.prompted(guard);
            GuardStream closed = Fixtures.prompted(guard);
            closed.close();
            isClosed(() -> GuardStream.callAll(List.of(Call.pushText(open, "Hi."), Call.finish(closed))));
            assertEquals(3, open.pushText("Hi.").received());
            open.close();
            assertEquals(0, guard.stats().openStreams());
        }
    }

    @Test
    void closingWhileAnotherThreadIsInACall() throws Exception {
        try (Guard guard = Guard.nano(Fixtures.small())) {
            GuardStream stream = Fixtures.prompted(guard);
            CompletableFuture<Update> push = CompletableFuture.supplyAsync(() -> stream.pushText(Fixtures.LONG));
            while (guard.stats().waitingStreams() == 0 && !push.isDone()) {
                Thread.sleep(1);
            }
            stream.close();
            isClosed(stream::finish);
            assertEquals(Fixtures.LONG.length(), push.get(30, TimeUnit.SECONDS).received());
            assertEquals(0, guard.stats().openStreams());
        }
    }

    @Test
    void closingWhileAQueueHasTheCall() throws InterruptedException {
        try (Guard guard = Guard.nano(Fixtures.small());
                CompletionQueue queue = CompletionQueue.open()) {
            GuardStream stream = Fixtures.prompted(guard);
            queue.submit(Call.pushText(stream, Fixtures.LONG), 7);
            stream.close();
            List<Completion> done = queue.await(10);
            assertEquals(7, done.get(0).tag());
            assertEquals(Fixtures.LONG.length(), done.get(0).reply().update().received());
            isClosed(done.get(0).stream()::finish);
            assertEquals(0, guard.stats().openStreams());
        }
    }

    @Test
    void closingAQueueGivesStreamsBack() {
        try (Guard guard = Guard.nano(Fixtures.small());
                GuardStream stream = Fixtures.prompted(guard);
                GuardStream closed = Fixtures.prompted(guard)) {
            CompletionQueue queue = CompletionQueue.open();
            queue.submit(Call.pushText(stream, Fixtures.LONG), 1);
            queue.submit(Call.pushText(closed, Fixtures.LONG), 2);
            closed.close();
            queue.close();
            assertEquals(1, guard.stats().openStreams());
            assertEquals(3, stream.pushText("Hi.").received());
        }
    }

    @Test
    void forgottenObjectsAreFreedLater() throws InterruptedException {
        try (Guard guard = Guard.nano(Fixtures.small())) {
            for (int count = 0; count < 50; count++) {
                Fixtures.prompted(guard);
                CompletionQueue.open().submit(Call.finish(Fixtures.prompted(guard)), count);
            }
            for (int round = 0; round < 200 && guard.stats().openStreams() > 1; round++) {
                System.gc();
                Thread.sleep(10);
            }
            // One or the other may still be in a register.
            assertTrue(guard.stats().openStreams() <= 1, () -> guard.stats().openStreams() + " streams are open");
        }
    }

    /** A collector that runs all the time must not take what a call uses. */
    @Test
    void unreachableDuringTheCall() throws InterruptedException {
        Thread collector = new Thread(() -> {
            while (!Thread.interrupted()) {
                System.gc();
            }
        });
        collector.start();
        try (Guard guard = Guard.nano(Fixtures.small())) {
            for (int count = 0; count < 30; count++) {
                assertEquals(12, Fixtures.prompted(guard).pushText("Hello there.").received());
            }
        } finally {
            collector.interrupt();
            collector.join();
        }
    }

    @Test
    void nothingLeaksWhereCallsFail() {
        try (Guard guard = Guard.nano(Fixtures.small())) {
            for (int count = 0; count < 1000; count++) {
                Fixtures.fails(Status.CONFIG, "Spam", () -> guard.stream("answer.categories.Spam.at = 0.5"));
            }
            assertEquals(0, guard.stats().openStreams());
        }
    }
}
