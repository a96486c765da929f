package io.github.libqwenguard;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/**
 * Calls of streams, and annotations, that go on while the program does other things. For any number of threads at once, and for streams of
 * all guards.
 *
 * <p>Methods fail with an {@link IllegalStateException} once the queue is closed.
 */
public final class CompletionQueue implements AutoCloseable {
    /** The most calls that are taken at once. */
    private static final int MOST = 128;
    /** How long a thread is away before it looks whether it was interrupted or the queue closed. */
    private static final long SLICE_MILLIS = 50;
    private static final Duration FOREVER = Duration.ofSeconds(Long.MAX_VALUE);

    private final Handle handle;
    private final Pending pending;

    /** The streams whose calls are in a queue, by their pointers. They stay open until their call comes back. */
    private static final class Pending {
        private final Map<Long, GuardStream> streams = new ConcurrentHashMap<>();

        void add(GuardStream stream) {
            stream.handle().acquire();
            if (!stream.queued.compareAndSet(false, true)) {
                stream.handle().release();
                throw new QwenguardException(Status.IN_USE, "the stream has a call in a queue already");
            }
            streams.put(stream.handle().raw(), stream);
        }

        GuardStream remove(long raw) {
            GuardStream stream = streams.remove(raw);
            stream.queued.set(false);
            stream.handle().release();
            return stream;
        }

        void removeAll() {
            for (long raw : streams.keySet()) {
                remove(raw);
            }
        }
    }

    private CompletionQueue(long raw, Pending pending) {
        this.pending = pending;
        handle = new Handle(this, "queue", raw, queue -> {
            Native.get().queueFree(queue);
            pending.removeAll();
        });
    }

    /** Makes an empty queue. */
    public static CompletionQueue open() {
        SafetyNet.sweep();
        try (Frame frame = Frame.allocate(null, 0)) {
            frame.check(Native.get().queueOpen(frame.out(), frame.error()));
            return new CompletionQueue(frame.outLong(), new Pending());
        }
    }

    /** Begins a call that may take the time it takes: see {@link #submit(Call, long, Duration)}. */
    public void submit(Call call, long tag) {
        submit(call, tag, Constants.NO_TIMEOUT);
    }

    /**
     * Begins a call. It is done when the queue gives it back, with an error of its own if it has one; until then all methods
     * of its stream but close fail with IN_USE, and a stream that is closed stays until then. A call that is not done in
     * time is cancelled with DEADLINE_EXCEEDED.
     *
     * @param tag to know the call by
     * @param timeout 0 or a negative one has passed already, and the call comes back with that error
     * @throws QwenguardException IN_USE. Everything else is the error of the call.
     */
    public void submit(Call call, long tag, Duration timeout) {
        submit(call, tag, millis(timeout));
    }

    private void submit(Call call, long tag, long millis) {
        Objects.requireNonNull(call, "call");
        try (Frame frame = handle.enter(this, Layout.Call.SIZE + call.size())) {
            pending.add(call.stream());
            boolean begun = false;
            try {
                call.write(frame, Frame.IN, Frame.IN + Layout.Call.SIZE);
                frame.check(Native.get().queueSubmit(frame.raw(), frame.in(), tag, millis, frame.error()));
                begun = true;
            } finally {
                if (!begun) {
                    pending.remove(call.stream().handle().raw());
                }
            }
        }
    }

    /** Begins to annotate: see {@link #annotate(Guard, Collection, AnnotateOptions, long, Duration)}. */
    public void annotate(Guard guard, Collection<Message> messages, AnnotateOptions options, long tag) {
        annotate(guard, messages, options, tag, Constants.NO_TIMEOUT);
    }

    /**
     * Begins to annotate a conversation, as {@link Guard#annotate(Collection, AnnotateOptions)} does. It comes back with
     * {@link Reply#annotation} and no stream. The guard may be closed meanwhile. Tag and timeout are as with {@link #submit}.
     */
    public void annotate(
            Guard guard, Collection<Message> messages, AnnotateOptions options, long tag, Duration timeout) {
        annotate(guard, messages, options, tag, millis(timeout));
    }

    private void annotate(
            Guard guard, Collection<Message> messages, AnnotateOptions options, long tag, long millis) {
        Handle judge = Objects.requireNonNull(guard, "guard").handle();
        Message[] conversation = Message.array(messages);
        try (Frame frame = handle.enter(this, Annotate.size(conversation))) {
            long place = Annotate.write(frame, conversation, options);
            judge.acquire();
            try {
                frame.check(Native.get().queueAnnotate(
                        frame.raw(), judge.raw(), place, conversation.length, frame.in(), tag, millis, frame.error()));
            } finally {
                judge.release();
                Fence.keep(guard);
            }
        }
    }

    /**
     * Waits for a call that is done, then takes all that are, but no more than limit and 128. It waits even while the queue
     * is empty, for what another thread may submit.
     *
     * @throws InterruptedException if the thread is interrupted: the calls go on
     * @throws IllegalStateException also if the queue is closed meanwhile
     */
    public List<Completion> await(int limit) throws InterruptedException {
        return await(limit, FOREVER);
    }

    /** As {@link #await(int)}, but gives an empty list if the time passes. With 0 or a negative one it does not wait. */
    public List<Completion> await(int limit, Duration timeout) throws InterruptedException {
        long left = millis(timeout);
        while (true) {
            if (Thread.interrupted()) {
                throw new InterruptedException();
            }
            long begin = System.nanoTime();
            List<Completion> done = take(limit, Math.min(left, SLICE_MILLIS));
            left -= TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - begin);
            if (!done.isEmpty() || left <= 0) {
                return done;
            }
        }
    }

    /** Takes what is done, but no more than limit and 128, and does not wait. */
    public List<Completion> poll(int limit) {
        return take(limit, 0);
    }

    private List<Completion> take(int limit, long millis) {
        if (limit < 1) {
            throw new IllegalArgumentException("limit: " + limit + " leaves no room for a call");
        }
        int capacity = Math.min(limit, MOST);
        try (Frame frame = handle.enter(this, (long) capacity * Layout.Completion.SIZE)) {
            frame.check(Native.get().queueWait(
                    frame.raw(), millis, frame.in(), capacity, frame.out(), frame.error()));
            int count = (int) frame.outLong();
            List<Completion> done = new ArrayList<>(count);
            for (int index = 0; index < count; index++) {
                done.add(completion(frame, Frame.IN + index * Layout.Completion.SIZE));
            }
            return done;
        }
    }

    private Completion completion(Frame frame, int place) {
        long stream = frame.memory.getLong(place + Layout.Completion.STREAM);
        return new Completion(
                frame.memory.getLong(place + Layout.Completion.TAG),
                stream == 0 ? null : pending.remove(stream),
                Reply.takeCompletion(frame.memory, place));
    }

    /**
     * Gives up the calls with this tag that are not done, also while the model computes them. They come back as all calls
     * do, with {@link Status#CANCELLED}.
     *
     * @return how many there were
     */
    public int cancel(long tag) {
        try (Frame frame = handle.enter(this, 0)) {
            frame.check(Native.get().queueCancel(frame.raw(), tag, frame.out(), frame.error()));
            return (int) frame.outLong();
        }
    }

    /** How many calls are not given back yet. */
    public int size() {
        try (Frame frame = handle.enter(this, 0)) {
            frame.check(Native.get().queueLength(frame.raw(), frame.out(), frame.error()));
            return (int) frame.outLong();
        }
    }

    /** Gives up the calls in the queue; their streams can be used again. Who waits gets an IllegalStateException. */
    @Override
    public void close() {
        handle.close();
    }

    /** Rounded up, so that a short time is not none. */
    private static long millis(Duration timeout) {
        Objects.requireNonNull(timeout, "timeout");
        if (timeout.isNegative()) {
            return 0;
        }
        if (timeout.getSeconds() >= Long.MAX_VALUE / 1000 - 1) {
            return Long.MAX_VALUE;
        }
        return timeout.plusNanos(TimeUnit.MILLISECONDS.toNanos(1) - 1).toMillis();
    }
}
