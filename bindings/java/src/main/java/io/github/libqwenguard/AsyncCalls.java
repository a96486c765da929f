package io.github.libqwenguard;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.function.Function;

/**
 * Calls that give futures. They go through one queue of the process. A thread takes what is done out of it while there is
 * anything, and a little longer; what depends on a future runs elsewhere, so that nobody can hold it up.
 */
final class AsyncCalls {
    private static final Duration IDLE = Duration.ofSeconds(1);

    /** Made at the first call. */
    private static final class Shared {
        static final AsyncCalls CALLS = new AsyncCalls();
    }

    private interface Submission {
        void to(CompletionQueue queue, long tag);
    }

    /** A call in the queue. */
    private static final class Waiting<T> {
        final GuardStream stream;
        final Function<Reply, T> answer;
        final CompletableFuture<T> future;
        /** Done when the call came back, and its stream is free. */
        final CompletableFuture<Void> back = new CompletableFuture<>();

        Waiting(GuardStream stream, Function<Reply, T> answer, CompletableFuture<T> future) {
            this.stream = stream;
            this.answer = answer;
            this.future = future;
        }

        void settle(Reply reply) {
            try {
                future.complete(answer.apply(reply));
            } catch (Throwable failure) {
                future.completeExceptionally(failure);
            }
        }

        void fail(Throwable failure) {
            back.complete(null);
            future.completeExceptionally(failure);
        }
    }

    private final CompletionQueue queue = CompletionQueue.open();
    private final Map<Long, Waiting<?>> calls = new HashMap<>();
    private long next;
    /** Whether there is that thread. */
    private boolean taking;

    /** Makes a call. After one that was given up, it waits until the stream is free. */
    static <T> CompletableFuture<T> make(Call call, Function<Reply, T> answer) {
        AsyncCalls shared = Shared.CALLS;
        Waiting<T> waiting = new Waiting<>(call.stream(), answer, new CompletableFuture<>());
        Submission submission = (queue, tag) -> queue.submit(call, tag);
        CompletableFuture<Void> before = call.stream().leaving;
        if (before == null) {
            shared.begin(waiting, submission);
        } else {
            before.thenRun(() -> {
                if (!waiting.future.isDone()) {
                    shared.begin(waiting, submission);
                }
            });
        }
        return waiting.future;
    }

    static CompletableFuture<Annotation> annotate(Guard guard, Collection<Message> messages, AnnotateOptions options) {
        Waiting<Annotation> waiting = new Waiting<>(null, Reply::annotation, new CompletableFuture<>());
        Shared.CALLS.begin(waiting, (queue, tag) -> queue.annotate(guard, messages, options, tag));
        return waiting.future;
    }

    private void begin(Waiting<?> waiting, Submission submission) {
        long tag = add(waiting);
        try {
            submission.to(queue, tag);
        } catch (Throwable failure) {
            remove(tag);
            waiting.fail(failure);
            return;
        }
        // However it is completed by others, by cancel or when a time is over, nobody waits for the call any more.
        waiting.future.whenComplete((answer, failure) -> giveUp(tag));
    }

    private synchronized long add(Waiting<?> waiting) {
        calls.put(++next, waiting);
        if (!taking) {
            taking = true;
            Thread thread = new Thread(this::takeAll, "qwenguard");
            thread.setDaemon(true);
            thread.setContextClassLoader(AsyncCalls.class.getClassLoader());
            thread.start();
        }
        return next;
    }

    private synchronized Waiting<?> remove(long tag) {
        return calls.remove(tag);
    }

    /** Cancels a call, unless it came back. */
    private void giveUp(long tag) {
        synchronized (this) {
            Waiting<?> waiting = calls.get(tag);
            if (waiting == null) {
                return;
            }
            if (waiting.stream != null) {
                waiting.stream.leaving = waiting.back;
            }
        }
        queue.cancel(tag);
    }

    private void takeAll() {
        boolean idle;
        do {
            idle = false;
            try {
                List<Completion> done = queue.await(Integer.MAX_VALUE, IDLE);
                done.forEach(this::end);
                idle = done.isEmpty();
            } catch (InterruptedException ignored) {
                // Others wait for this thread: it goes on.
            } catch (RuntimeException | Error failure) {
                failAll(failure);
                idle = true;
            }
        } while (goesOn(idle));
    }

    private void end(Completion done) {
        Waiting<?> waiting = remove(done.tag());
        waiting.back.complete(null);
        CompletableFuture.runAsync(() -> waiting.settle(done.reply()));
    }

    private synchronized boolean goesOn(boolean idle) {
        taking = !idle || !calls.isEmpty();
        return taking;
    }

    /** If the library does not tell what is done, so that nobody waits for ever. */
    private void failAll(Throwable failure) {
        List<Waiting<?>> all;
        synchronized (this) {
            all = new ArrayList<>(calls.values());
            calls.clear();
        }
        all.forEach(waiting -> waiting.fail(failure));
    }
}
