package io.github.libqwenguard;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.invoke.MethodHandles;

/**
 * The classes for Java 22 and newer where Java does not see them itself: in a jar that was made out of this one and others,
 * and whose manifest does not say Multi-Release.
 */
final class Java22Classes {
    /** A superclass before what extends it. */
    private static final String[] NAMES = {"FfmLibrary", "FfmFunctions", "FfmNative"};

    /** The last of them, or null if the jar has none. */
    static Class<?> define() {
        Class<?> defined = null;
        try {
            for (String name : NAMES) {
                byte[] bytes = read("/META-INF/versions/22/" + Native.class.getName().replace('.', '/')
                        .replaceFirst("[^/]*$", name + ".class"));
                if (bytes == null) {
                    return null;
                }
                // A method of Java 9, and so out of sight here.
                defined = (Class<?>) MethodHandles.Lookup.class
                        .getMethod("defineClass", byte[].class)
                        .invoke(MethodHandles.lookup(), bytes);
            }
            return defined;
        } catch (IOException | ReflectiveOperationException failure) {
            throw new UnsatisfiedLinkError("cannot define the provider ffm: " + failure);
        }
    }

    private static byte[] read(String resource) throws IOException {
        try (InputStream stream = Native.class.getResourceAsStream(resource)) {
            if (stream == null) {
                return null;
            }
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            byte[] buffer = new byte[1 << 14];
            for (int count = stream.read(buffer); count >= 0; count = stream.read(buffer)) {
                bytes.write(buffer, 0, count);
            }
            return bytes.toByteArray();
        }
    }

    private Java22Classes() {}
}
