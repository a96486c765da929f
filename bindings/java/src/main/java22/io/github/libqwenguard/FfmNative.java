package io.github.libqwenguard;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;

/** By the Foreign Function and Memory API. */
final class FfmNative extends FfmFunctions {
    @Override
    String provider() {
        return "ffm";
    }

    @Override
    long address(ByteBuffer buffer) {
        return MemorySegment.ofBuffer(buffer).address();
    }

    @Override
    void read(long address, byte[] into) {
        MemorySegment.ofArray(into).copyFrom(MemorySegment.ofAddress(address).reinterpret(into.length));
    }

    @Override
    long length(long text) {
        MemorySegment bytes = MemorySegment.ofAddress(text).reinterpret(Long.MAX_VALUE);
        long length = 0;
        while (bytes.get(ValueLayout.JAVA_BYTE, length) != 0) {
            length++;
        }
        return length;
    }
}
