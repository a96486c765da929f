package io.github.libqwenguard;

import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.LongConsumer;

/**
 * An object of the library, and how many calls use it: closing frees it at once, or after the last of them. It must not
 * know the Java object that owns it, or the safety net would never find that one unreachable.
 */
final class Handle {
    private static final long CLOSED = 1L << 62;

    private final String name;
    private final long raw;
    private final LongConsumer free;
    /** The number of calls, and CLOSED. */
    private final AtomicLong state = new AtomicLong();
    /** Memory for one call at a time; further ones bring their own. */
    private final AtomicReference<Frame> idle = new AtomicReference<>();
    private final SafetyNet.Entry entry;

    Handle(Object owner, String name, long raw, LongConsumer free) {
        this.name = name;
        this.raw = raw;
        this.free = free;
        entry = SafetyNet.add(owner, this);
    }

    long raw() {
        return raw;
    }

    /** Begins a call. */
    void acquire() {
        long before;
        do {
            before = state.get();
            if ((before & CLOSED) != 0) {
                throw new IllegalStateException("the " + name + " is closed");
            }
        } while (!state.compareAndSet(before, before + 1));
    }

    /** Ends a call. */
    void release() {
        if (state.decrementAndGet() == CLOSED) {
            free.accept(raw);
        }
    }

    boolean isClosed() {
        return (state.get() & CLOSED) != 0;
    }

    void close() {
        long before;
        do {
            before = state.get();
            if ((before & CLOSED) != 0) {
                return;
            }
        } while (!state.compareAndSet(before, before | CLOSED));
        SafetyNet.remove(entry);
        if (before == 0) {
            free.accept(raw);
        }
    }

    /** Begins a call with memory for its inputs, which ends when the frame is closed. The owner is kept until then. */
    Frame enter(Object owner, long inputs) {
        SafetyNet.sweep();
        acquire();
        try {
            Frame frame = idle.getAndSet(null);
            if (frame == null || !frame.fits(inputs)) {
                frame = Frame.allocate(this, inputs);
            }
            frame.owner = owner;
            return frame;
        } catch (Throwable failure) {
            release();
            throw failure;
        }
    }

    void leave(Frame frame) {
        frame.owner = null;
        if (frame.isSmall()) {
            idle.set(frame);
        }
        release();
    }
}
