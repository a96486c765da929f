// The functions of qwenguard.h for JniNative.java: pointers and lengths are jlong, and point to memory outside of Java's
// heap. So no call holds a Java object while it waits; only address and read, at the end, are given one.
#include <jni.h>
#include <qwenguard.h>
#include <stdint.h>
#include <string.h>

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_io_github_libqwenguard_JniNative_##name
#define POINTER(number) ((void *)(intptr_t)(number))
#define NUMBER(pointer) ((jlong)(intptr_t)(pointer))

_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8, "Layout.java is for 64 bits");

NATIVE(jlong, version)(JNIEnv *env, jobject self) {
    return NUMBER(qg_version());
}

NATIVE(jint, versionNumber)(JNIEnv *env, jobject self) {
    return qg_version_number();
}

NATIVE(jint, abiVersion)(JNIEnv *env, jobject self) {
    return qg_abi_version();
}

NATIVE(jint, errorStatus)(JNIEnv *env, jobject self, jlong error) {
    return qg_error_status(POINTER(error));
}

NATIVE(jlong, errorMessage)(JNIEnv *env, jobject self, jlong error) {
    return NUMBER(qg_error_message(POINTER(error)));
}

NATIVE(void, errorFree)(JNIEnv *env, jobject self, jlong error) {
    qg_error_free(POINTER(error));
}

NATIVE(jlong, statusName)(JNIEnv *env, jobject self, jint status) {
    return NUMBER(qg_status_name(status));
}

NATIVE(jlong, textData)(JNIEnv *env, jobject self, jlong text) {
    return NUMBER(qg_text_data(POINTER(text)));
}

NATIVE(jlong, textLength)(JNIEnv *env, jobject self, jlong text) {
    return qg_text_length(POINTER(text));
}

NATIVE(void, textFree)(JNIEnv *env, jobject self, jlong text) {
    qg_text_free(POINTER(text));
}

NATIVE(jlong, riskName)(JNIEnv *env, jobject self, jint risk) {
    return NUMBER(qg_risk_name(risk));
}

NATIVE(jint, guardOptionsInit)(JNIEnv *env, jobject self, jlong options, jint struct_size, jlong error) {
    return qg_guard_options_init(POINTER(options), struct_size, POINTER(error));
}

NATIVE(jint, guardOpen)(JNIEnv *env, jobject self, jlong bundle, jlong bundle_length, jlong options, jlong guard,
        jlong error) {
    return qg_guard_open(POINTER(bundle), bundle_length, POINTER(options), POINTER(guard), POINTER(error));
}

NATIVE(jint, guardOpenNano)(JNIEnv *env, jobject self, jlong options, jlong guard, jlong error) {
    return qg_guard_open_nano(POINTER(options), POINTER(guard), POINTER(error));
}

NATIVE(void, guardFree)(JNIEnv *env, jobject self, jlong guard) {
    qg_guard_free(POINTER(guard));
}

NATIVE(jint, guardInfo)(JNIEnv *env, jobject self, jlong guard, jlong json, jlong error) {
    return qg_guard_info(POINTER(guard), POINTER(json), POINTER(error));
}

NATIVE(jint, guardCategoryCount)(JNIEnv *env, jobject self, jlong guard, jint heads, jlong count, jlong error) {
    return qg_guard_category_count(POINTER(guard), heads, POINTER(count), POINTER(error));
}

NATIVE(jint, guardCategoryName)(JNIEnv *env, jobject self, jlong guard, jint heads, jint category, jlong name,
        jlong error) {
    return qg_guard_category_name(POINTER(guard), heads, category, POINTER(name), POINTER(error));
}

NATIVE(jint, guardEncode)(JNIEnv *env, jobject self, jlong guard, jlong text, jlong text_length, jlong ids, jlong spans,
        jlong capacity, jlong count, jlong error) {
    return qg_guard_encode(POINTER(guard), POINTER(text), text_length, POINTER(ids), POINTER(spans), capacity,
            POINTER(count), POINTER(error));
}

NATIVE(jint, guardTokenBytes)(JNIEnv *env, jobject self, jlong guard, jint token, jlong bytes, jlong length,
        jlong error) {
    return qg_guard_token_bytes(POINTER(guard), token, POINTER(bytes), POINTER(length), POINTER(error));
}

NATIVE(jint, guardStats)(JNIEnv *env, jobject self, jlong guard, jlong stats, jlong error) {
    return qg_guard_stats(POINTER(guard), POINTER(stats), POINTER(error));
}

NATIVE(jint, guardMetrics)(JNIEnv *env, jobject self, jlong guard, jlong metrics, jlong error) {
    return qg_guard_metrics(POINTER(guard), POINTER(metrics), POINTER(error));
}

NATIVE(jint, streamOpen)(JNIEnv *env, jobject self, jlong guard, jlong policy, jlong policy_length, jlong stream,
        jlong error) {
    return qg_stream_open(POINTER(guard), POINTER(policy), policy_length, POINTER(stream), POINTER(error));
}

NATIVE(void, streamFree)(JNIEnv *env, jobject self, jlong stream) {
    qg_stream_free(POINTER(stream));
}

NATIVE(jint, streamPrompt)(JNIEnv *env, jobject self, jlong stream, jlong messages, jlong message_count, jlong check,
        jlong error) {
    return qg_stream_prompt(POINTER(stream), POINTER(messages), message_count, POINTER(check), POINTER(error));
}

NATIVE(jint, streamNextTurn)(JNIEnv *env, jobject self, jlong stream, jlong messages, jlong message_count, jlong check,
        jlong error) {
    return qg_stream_next_turn(POINTER(stream), POINTER(messages), message_count, POINTER(check), POINTER(error));
}

NATIVE(jint, streamPushText)(JNIEnv *env, jobject self, jlong stream, jlong text, jlong text_length, jlong update,
        jlong error) {
    return qg_stream_push_text(POINTER(stream), POINTER(text), text_length, POINTER(update), POINTER(error));
}

NATIVE(jint, streamPushThinking)(JNIEnv *env, jobject self, jlong stream, jlong text, jlong text_length, jlong update,
        jlong error) {
    return qg_stream_push_thinking(POINTER(stream), POINTER(text), text_length, POINTER(update), POINTER(error));
}

NATIVE(jint, streamPushTokens)(JNIEnv *env, jobject self, jlong stream, jlong ids, jlong id_count, jlong update,
        jlong error) {
    return qg_stream_push_tokens(POINTER(stream), POINTER(ids), id_count, POINTER(update), POINTER(error));
}

NATIVE(jint, streamFinish)(JNIEnv *env, jobject self, jlong stream, jlong update, jlong error) {
    return qg_stream_finish(POINTER(stream), POINTER(update), POINTER(error));
}

NATIVE(jint, streamTruncate)(JNIEnv *env, jobject self, jlong stream, jlong bytes, jlong update, jlong error) {
    return qg_stream_truncate(POINTER(stream), bytes, POINTER(update), POINTER(error));
}

NATIVE(jint, streamTruncateTokens)(JNIEnv *env, jobject self, jlong stream, jlong tokens, jlong update, jlong error) {
    return qg_stream_truncate_tokens(POINTER(stream), tokens, POINTER(update), POINTER(error));
}

NATIVE(jint, streamFork)(JNIEnv *env, jobject self, jlong stream, jlong fork, jlong error) {
    return qg_stream_fork(POINTER(stream), POINTER(fork), POINTER(error));
}

NATIVE(jint, streamContextUsed)(JNIEnv *env, jobject self, jlong stream, jlong tokens, jlong error) {
    return qg_stream_context_used(POINTER(stream), POINTER(tokens), POINTER(error));
}

NATIVE(jint, streamTokens)(JNIEnv *env, jobject self, jlong stream, jlong tokens, jlong capacity, jlong count,
        jlong error) {
    return qg_stream_tokens(POINTER(stream), POINTER(tokens), capacity, POINTER(count), POINTER(error));
}

NATIVE(jint, streamFlags)(JNIEnv *env, jobject self, jlong stream, jlong flags, jlong capacity, jlong count,
        jlong error) {
    return qg_stream_flags(POINTER(stream), POINTER(flags), capacity, POINTER(count), POINTER(error));
}

NATIVE(jint, streamRule)(JNIEnv *env, jobject self, jlong stream, jlong rule, jlong error) {
    return qg_stream_rule(POINTER(stream), POINTER(rule), POINTER(error));
}

NATIVE(jint, streamFlagRule)(JNIEnv *env, jobject self, jlong stream, jlong flag, jlong rule, jlong error) {
    return qg_stream_flag_rule(POINTER(stream), flag, POINTER(rule), POINTER(error));
}

NATIVE(jint, streamsCall)(JNIEnv *env, jobject self, jlong calls, jlong call_count, jlong replies, jlong error) {
    return qg_streams_call(POINTER(calls), call_count, POINTER(replies), POINTER(error));
}

NATIVE(jint, queueOpen)(JNIEnv *env, jobject self, jlong queue, jlong error) {
    return qg_queue_open(POINTER(queue), POINTER(error));
}

NATIVE(void, queueFree)(JNIEnv *env, jobject self, jlong queue) {
    qg_queue_free(POINTER(queue));
}

NATIVE(jint, queueSubmit)(JNIEnv *env, jobject self, jlong queue, jlong call, jlong tag, jlong timeout_ms,
        jlong error) {
    return qg_queue_submit(POINTER(queue), POINTER(call), tag, timeout_ms, POINTER(error));
}

NATIVE(jint, queueWait)(JNIEnv *env, jobject self, jlong queue, jlong timeout_ms, jlong completions, jlong capacity,
        jlong count, jlong error) {
    return qg_queue_wait(POINTER(queue), timeout_ms, POINTER(completions), capacity, POINTER(count), POINTER(error));
}

NATIVE(jint, queueCancel)(JNIEnv *env, jobject self, jlong queue, jlong tag, jlong count, jlong error) {
    return qg_queue_cancel(POINTER(queue), tag, POINTER(count), POINTER(error));
}

NATIVE(jint, queueLength)(JNIEnv *env, jobject self, jlong queue, jlong calls, jlong error) {
    return qg_queue_length(POINTER(queue), POINTER(calls), POINTER(error));
}

NATIVE(jlong, address)(JNIEnv *env, jobject self, jobject buffer) {
    return NUMBER((*env)->GetDirectBufferAddress(env, buffer));
}

NATIVE(void, read)(JNIEnv *env, jobject self, jlong address, jbyteArray into) {
    (*env)->SetByteArrayRegion(env, into, 0, (*env)->GetArrayLength(env, into), POINTER(address));
}

NATIVE(jlong, length)(JNIEnv *env, jobject self, jlong text) {
    return (jlong)strlen(POINTER(text));
}
