package io.github.libqwenguard;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/**
 * The functions of qwenguard.h, by their names without {@code qg_}. Pointers are numbers; what they point to is memory
 * outside of Java's heap.
 */
abstract class Native {
    static final int ABI_VERSION = 1;
    static final long NO_TIMEOUT = -1;
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

    abstract long version();

    abstract int versionNumber();

    abstract int abiVersion();

    abstract int errorStatus(long error);

    abstract long errorMessage(long error);

    abstract void errorFree(long error);

    abstract long statusName(int status);

    abstract long textData(long text);

    abstract long textLength(long text);

    abstract void textFree(long text);

    abstract long riskName(int risk);

    abstract int guardOptionsInit(long options, int structSize, long error);

    abstract int guardOpen(long bundle, long bundleLength, long options, long guard, long error);

    abstract int guardOpenNano(long options, long guard, long error);

    abstract void guardFree(long guard);

    abstract int guardInfo(long guard, long json, long error);

    abstract int guardCategoryCount(long guard, int heads, long count, long error);

    abstract int guardCategoryName(long guard, int heads, int category, long name, long error);

    abstract int guardEncode(long guard, long text, long textLength, long ids, long spans, long capacity, long count,
            long error);

    abstract int guardTokenBytes(long guard, int token, long bytes, long length, long error);

    abstract int guardStats(long guard, long stats, long error);

    abstract int guardMetrics(long guard, long metrics, long error);

    abstract int streamOpen(long guard, long policy, long policyLength, long stream, long error);

    abstract void streamFree(long stream);

    abstract int streamPrompt(long stream, long messages, long messageCount, long check, long error);

    abstract int streamNextTurn(long stream, long messages, long messageCount, long check, long error);

    abstract int streamPushText(long stream, long text, long textLength, long update, long error);

    abstract int streamPushThinking(long stream, long text, long textLength, long update, long error);

    abstract int streamPushTokens(long stream, long ids, long idCount, long update, long error);

    abstract int streamFinish(long stream, long update, long error);

    abstract int streamTruncate(long stream, long bytes, long update, long error);

    abstract int streamTruncateTokens(long stream, long tokens, long update, long error);

    abstract int streamFork(long stream, long fork, long error);

    abstract int streamContextUsed(long stream, long tokens, long error);

    abstract int streamTokens(long stream, long tokens, long capacity, long count, long error);

    abstract int streamFlags(long stream, long flags, long capacity, long count, long error);

    abstract int streamRule(long stream, long rule, long error);

    abstract int streamFlagRule(long stream, long flag, long rule, long error);

    abstract int streamsCall(long calls, long callCount, long replies, long error);

    abstract int queueOpen(long queue, long error);

    abstract void queueFree(long queue);

    abstract int queueSubmit(long queue, long call, long tag, long timeoutMs, long error);

    abstract int queueWait(long queue, long timeoutMs, long completions, long capacity, long count, long error);

    abstract int queueCancel(long queue, long tag, long count, long error);

    abstract int queueLength(long queue, long calls, long error);

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
        if (abi != ABI_VERSION) {
            throw new UnsatisfiedLinkError("libqwenguard " + loaded.string(loaded.version())
                    + " has binary interface " + abi + ", this program needs " + ABI_VERSION);
        }
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
                if (ffmClass() == null) {
                    throw new UnsatisfiedLinkError("this jar was built without the provider ffm");
                }
                return ffm(ffmClass());
            default:
                throw new UnsatisfiedLinkError("qwenguard.provider is " + wanted + ", neither jni nor ffm");
        }
    }

    private static int javaVersion() {
        String version = System.getProperty("java.specification.version");
        return version.startsWith("1.") ? Integer.parseInt(version.substring(2)) : Integer.parseInt(version);
    }

    /** Only Java 22 and newer sees this class in the jar. */
    private static Class<?> ffmClass() {
        try {
            return Class.forName("io.github.libqwenguard.FfmNative", false, Native.class.getClassLoader());
        } catch (ClassNotFoundException absent) {
            return null;
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
