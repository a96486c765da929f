package io.github.libqwenguard;

import java.nio.ByteBuffer;

/** By JNI, for every Java: src/main/native/qwenguard_jni.c. */
final class JniNative extends Native {
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
    native long version();

    @Override
    native int versionNumber();

    @Override
    native int abiVersion();

    @Override
    native int errorStatus(long error);

    @Override
    native long errorMessage(long error);

    @Override
    native void errorFree(long error);

    @Override
    native long statusName(int status);

    @Override
    native long textData(long text);

    @Override
    native long textLength(long text);

    @Override
    native void textFree(long text);

    @Override
    native long riskName(int risk);

    @Override
    native int guardOptionsInit(long options, int structSize, long error);

    @Override
    native int guardOpen(long bundle, long bundleLength, long options, long guard, long error);

    @Override
    native int guardOpenNano(long options, long guard, long error);

    @Override
    native void guardFree(long guard);

    @Override
    native int guardInfo(long guard, long json, long error);

    @Override
    native int guardCategoryCount(long guard, int heads, long count, long error);

    @Override
    native int guardCategoryName(long guard, int heads, int category, long name, long error);

    @Override
    native int guardEncode(long guard, long text, long textLength, long ids, long spans, long capacity, long count,
            long error);

    @Override
    native int guardTokenBytes(long guard, int token, long bytes, long length, long error);

    @Override
    native int guardStats(long guard, long stats, long error);

    @Override
    native int guardMetrics(long guard, long metrics, long error);

    @Override
    native int streamOpen(long guard, long policy, long policyLength, long stream, long error);

    @Override
    native void streamFree(long stream);

    @Override
    native int streamPrompt(long stream, long messages, long messageCount, long check, long error);

    @Override
    native int streamNextTurn(long stream, long messages, long messageCount, long check, long error);

    @Override
    native int streamPushText(long stream, long text, long textLength, long update, long error);

    @Override
    native int streamPushThinking(long stream, long text, long textLength, long update, long error);

    @Override
    native int streamPushTokens(long stream, long ids, long idCount, long update, long error);

    @Override
    native int streamFinish(long stream, long update, long error);

    @Override
    native int streamTruncate(long stream, long bytes, long update, long error);

    @Override
    native int streamTruncateTokens(long stream, long tokens, long update, long error);

    @Override
    native int streamFork(long stream, long fork, long error);

    @Override
    native int streamContextUsed(long stream, long tokens, long error);

    @Override
    native int streamTokens(long stream, long tokens, long capacity, long count, long error);

    @Override
    native int streamFlags(long stream, long flags, long capacity, long count, long error);

    @Override
    native int streamRule(long stream, long rule, long error);

    @Override
    native int streamFlagRule(long stream, long flag, long rule, long error);

    @Override
    native int streamsCall(long calls, long callCount, long replies, long error);

    @Override
    native int queueOpen(long queue, long error);

    @Override
    native void queueFree(long queue);

    @Override
    native int queueSubmit(long queue, long call, long tag, long timeoutMs, long error);

    @Override
    native int queueWait(long queue, long timeoutMs, long completions, long capacity, long count, long error);

    @Override
    native int queueCancel(long queue, long tag, long count, long error);

    @Override
    native int queueLength(long queue, long calls, long error);

    @Override
    native long address(ByteBuffer buffer);

    @Override
    native void read(long address, byte[] into);

    @Override
    native long length(long text);
}
