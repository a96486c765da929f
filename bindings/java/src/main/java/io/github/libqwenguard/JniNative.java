package io.github.libqwenguard;

import java.nio.ByteBuffer;

/** By JNI, for every Java: src/main/native. */
final class JniNative extends JniFunctions {
    JniNative() {
        LibraryFinder finder = LibraryFinder.ofProcess();
        System.load(finder.find("qwenguard").toString());
        System.load(finder.find("qwenguard_jni").toString());
    }

    @Override
    String provider() {
        return "jni";
    }

    @Override
    native long address(ByteBuffer buffer);

    @Override
    native void read(long address, byte[] into);

    @Override
    native long length(long text);
}
