package io.github.libqwenguard;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/** The library: the functions of qwenguard.h, and what it takes to use their results. */
abstract class Native extends RawFunctions {
    /** The first version of Java that has the Foreign Function and Memory API. */
    private static final int FFM_JAVA = 22;

    /** Finds and loads the library at the first call. */
    static Native get() {
        if (Loaded.NATIVE == null) {
            throw new UnsatisfiedLinkError(Loaded.FAILURE);
        }
        return Loaded.NATIVE;
    }

    /** "jni" or "ffm". */
    abstract String provider();

    /** Where a direct buffer begins. */
    abstract long address(ByteBuffer buffer);

    /** Fills an array from memory. */
    abstract void read(long address, byte[] into);

    /** The length of a text that ends with a NUL. */
    abstract long length(long text);

    byte[] bytes(long address, long length) {
        byte[] bytes = new byte[Math.toIntExact(length)];
        if (bytes.length > 0) {
            read(address, bytes);
        }
        return bytes;
    }

    /** A text that ends with a NUL. */
    String string(long text) {
        return new String(bytes(text, length(text)), StandardCharsets.UTF_8);
    }

    /** A text that is ours to free. */
    String take(long text) {
        try {
            return new String(bytes(textData(text), textLength(text)), StandardCharsets.UTF_8);
        } finally {
            textFree(text);
        }
    }

    /** The message of an error that is ours to free. */
    String takeMessage(long error) {
        try {
            return string(errorMessage(error));
        } finally {
            errorFree(error);
        }
    }

    private static Native load() {
        Native loaded = choose();
        int abi = loaded.abiVersion();
        if (abi != Constants.ABI_VERSION) {
            throw new UnsatisfiedLinkError("libqwenguard " + loaded.string(loaded.version())
                    + " has binary interface " + abi + ", this program needs " + Constants.ABI_VERSION);
        }
        OfficialRuntime.load();
        return loaded;
    }

    private static Native choose() {
        String wanted = System.getProperty("qwenguard.provider", "");
        switch (wanted) {
            case "":
                Class<?> ffm = javaVersion() < FFM_JAVA ? null : ffmClass();
                return ffm == null ? new JniNative() : ffm(ffm);
            case "jni":
                return new JniNative();
            case "ffm":
                if (javaVersion() < FFM_JAVA) {
                    throw new UnsatisfiedLinkError("qwenguard.provider=ffm needs Java 22 or newer, this is "
                            + System.getProperty("java.version"));
                }
                Class<?> asked = ffmClass();
                if (asked == null) {
                    throw new UnsatisfiedLinkError("this jar was built without the provider ffm");
                }
                return ffm(asked);
            default:
                throw new UnsatisfiedLinkError("qwenguard.provider is " + wanted + ", neither jni nor ffm");
        }
    }

    private static int javaVersion() {
        String version = System.getProperty("java.specification.version");
        return version.startsWith("1.") ? Integer.parseInt(version.substring(2)) : Integer.parseInt(version);
    }

    /** Java 22 and newer sees this class in the jar, unless that was packed anew. */
    private static Class<?> ffmClass() {
        try {
            return Class.forName("io.github.libqwenguard.FfmNative", false, Native.class.getClassLoader());
        } catch (ClassNotFoundException absent) {
            return Java22Classes.define();
        }
    }

    private static Native ffm(Class<?> type) {
        try {
            return (Native) type.getDeclaredConstructor().newInstance();
        } catch (ExceptionInInitializerError failure) {
            throw new UnsatisfiedLinkError(String.valueOf(failure.getCause().getMessage()));
        } catch (ReflectiveOperationException failure) {
            throw new UnsatisfiedLinkError(failure.toString());
        }
    }

    private static final class Loaded {
        static final Native NATIVE;
        static final String FAILURE;

        static {
            Native loaded = null;
            String failure = null;
            try {
                loaded = load();
            } catch (LinkageError | RuntimeException error) {
                failure = "cannot load libqwenguard: " + error.getMessage();
            }
            NATIVE = loaded;
            FAILURE = failure;
        }
    }
}
