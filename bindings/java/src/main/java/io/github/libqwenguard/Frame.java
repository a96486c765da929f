package io.github.libqwenguard;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * Memory that a call is made with, outside of Java's heap: a place for the error, one for what the call answers, and its
 * inputs.
 */
final class Frame implements AutoCloseable {
    private static final int ERROR = 0;
    static final int OUT = 8;
    /** After the largest answer, {@link Layout.AnnotationInfo}. */
    static final int IN = OUT + Layout.AnnotationInfo.SIZE;
    private static final int SMALL = 1 << 10;
    private static final int KEPT = 1 << 16;

    final ByteBuffer memory;
    /** What must stay reachable while the call goes on. */
    Object owner;
    private final Handle handle;
    private final long address;

    private Frame(Handle handle, int capacity) {
        this.handle = handle;
        memory = ByteBuffer.allocateDirect(capacity).order(ByteOrder.nativeOrder());
        address = Native.get().address(memory);
    }

    /** Of a call without an object if the handle is null. */
    static Frame allocate(Handle handle, long inputs) {
        if (inputs > Integer.MAX_VALUE - SMALL) {
            throw new IllegalArgumentException("one call cannot take 2 GiB or more");
        }
        return new Frame(handle, Math.max(SMALL, IN + (int) inputs));
    }

    boolean fits(long inputs) {
        return inputs <= memory.capacity() - IN;
    }

    boolean isSmall() {
        return memory.capacity() <= KEPT;
    }

    long raw() {
        return handle.raw();
    }

    long error() {
        return address + ERROR;
    }

    long out() {
        return address + OUT;
    }

    long in() {
        return address + IN;
    }

    long at(int place) {
        return address + place;
    }

    void put(int place, byte[] bytes) {
        memory.position(place);
        memory.put(bytes);
    }

    void put(int place, int[] numbers) {
        for (int index = 0; index < numbers.length; index++) {
            memory.putInt(place + Integer.BYTES * index, numbers[index]);
        }
    }

    /** A pointer to bytes that are put elsewhere, and their number. */
    void putPointer(int place, int target, byte[] bytes) {
        put(target, bytes);
        memory.putLong(place, at(target)).putLong(place + Long.BYTES, bytes.length);
    }

    /** Throws what a call failed with. */
    void check(int status) {
        if (status != 0) {
            throw new QwenguardException(status, Native.get().takeMessage(memory.getLong(ERROR)));
        }
    }

    long outLong() {
        return memory.getLong(OUT);
    }

    /** The text that a call answered. */
    String outText(int status) {
        check(status);
        return Native.get().take(outLong());
    }

    Update outUpdate(int status) {
        check(status);
        return Update.read(memory, OUT);
    }

    PromptCheck outCheck(int status) {
        check(status);
        return PromptCheck.read(memory, OUT);
    }

    @Override
    public void close() {
        Fence.keep(memory);
        Fence.keep(owner);
        if (handle != null) {
            handle.leave(this);
        }
    }
}
