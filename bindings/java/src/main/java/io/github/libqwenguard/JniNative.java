package io.github.libqwenguard;

import java.nio.ByteBuffer;
import java.nio.file.Path;

/** By JNI, for every Java: src/main/native. */
final class JniNative extends JniFunctions {
    JniNative() {
        LibraryFinder finder = LibraryFinder.ofProcess();
        finder.load("qwenguard", JniNative::loaded);
        finder.load("qwenguard_jni", JniNative::loaded);
    }

    private static Path loaded(Path library) {
        System.load(library.toString());
        return library;
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
