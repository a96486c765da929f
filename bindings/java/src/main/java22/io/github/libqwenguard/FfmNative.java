package io.github.libqwenguard;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.ByteBuffer;

/** By the Foreign Function and Memory API. Pointers are passed as the numbers that they are to the processor. */
final class FfmNative extends Native {
    private static final MemoryLayout INT = ValueLayout.JAVA_INT;
    private static final MemoryLayout LONG = ValueLayout.JAVA_LONG;
    private static final SymbolLookup LIBRARY =
            SymbolLookup.libraryLookup(LibraryFinder.ofProcess().find("qwenguard"), Arena.global());

    private static final MethodHandle VERSION = find("qg_version", LONG);
    private static final MethodHandle VERSION_NUMBER = find("qg_version_number", INT);
    private static final MethodHandle ABI_VERSION = find("qg_abi_version", INT);
    private static final MethodHandle ERROR_STATUS = find("qg_error_status", INT, LONG);
    private static final MethodHandle ERROR_MESSAGE = find("qg_error_message", LONG, LONG);
    private static final MethodHandle ERROR_FREE = find("qg_error_free", null, LONG);
    private static final MethodHandle STATUS_NAME = find("qg_status_name", LONG, INT);
    private static final MethodHandle TEXT_DATA = find("qg_text_data", LONG, LONG);
    private static final MethodHandle TEXT_LENGTH = find("qg_text_length", LONG, LONG);
    private static final MethodHandle TEXT_FREE = find("qg_text_free", null, LONG);
    private static final MethodHandle RISK_NAME = find("qg_risk_name", LONG, INT);
    private static final MethodHandle GUARD_OPTIONS_INIT = find("qg_guard_options_init", INT, LONG, INT, LONG);
    private static final MethodHandle GUARD_OPEN = find("qg_guard_open", INT, LONG, LONG, LONG, LONG, LONG);
    private static final MethodHandle GUARD_OPEN_NANO = find("qg_guard_open_nano", INT, LONG, LONG, LONG);
    private static final MethodHandle GUARD_FREE = find("qg_guard_free", null, LONG);
    private static final MethodHandle GUARD_INFO = find("qg_guard_info", INT, LONG, LONG, LONG);
    private static final MethodHandle GUARD_CATEGORY_COUNT = find("qg_guard_category_count", INT, LONG, INT, LONG,
            LONG);
    private static final MethodHandle GUARD_CATEGORY_NAME = find("qg_guard_category_name", INT, LONG, INT, INT, LONG,
            LONG);
    private static final MethodHandle GUARD_ENCODE = find("qg_guard_encode", INT, LONG, LONG, LONG, LONG, LONG, LONG,
            LONG, LONG);
    private static final MethodHandle GUARD_TOKEN_BYTES = find("qg_guard_token_bytes", INT, LONG, INT, LONG, LONG,
            LONG);
    private static final MethodHandle GUARD_STATS = find("qg_guard_stats", INT, LONG, LONG, LONG);
    private static final MethodHandle GUARD_METRICS = find("qg_guard_metrics", INT, LONG, LONG, LONG);
    private static final MethodHandle STREAM_OPEN = find("qg_stream_open", INT, LONG, LONG, LONG, LONG, LONG);
    private static final MethodHandle STREAM_FREE = find("qg_stream_free", null, LONG);
    private static final MethodHandle STREAM_PROMPT = find("qg_stream_prompt", INT, LONG, LONG, LONG, LONG, LONG);
    private static final MethodHandle STREAM_NEXT_TURN = find("qg_stream_next_turn", INT, LONG, LONG, LONG, LONG, LONG);
    private static final MethodHandle STREAM_PUSH_TEXT = find("qg_stream_push_text", INT, LONG, LONG, LONG, LONG, LONG);
    private static final MethodHandle STREAM_PUSH_THINKING = find("qg_stream_push_thinking", INT, LONG, LONG, LONG,
            LONG, LONG);
    private static final MethodHandle STREAM_PUSH_TOKENS = find("qg_stream_push_tokens", INT, LONG, LONG, LONG, LONG,
            LONG);
    private static final MethodHandle STREAM_FINISH = find("qg_stream_finish", INT, LONG, LONG, LONG);
    private static final MethodHandle STREAM_TRUNCATE = find("qg_stream_truncate", INT, LONG, LONG, LONG, LONG);
    private static final MethodHandle STREAM_TRUNCATE_TOKENS = find("qg_stream_truncate_tokens", INT, LONG, LONG, LONG,
            LONG);
    private static final MethodHandle STREAM_FORK = find("qg_stream_fork", INT, LONG, LONG, LONG);
    private static final MethodHandle STREAM_CONTEXT_USED = find("qg_stream_context_used", INT, LONG, LONG, LONG);
    private static final MethodHandle STREAM_TOKENS = find("qg_stream_tokens", INT, LONG, LONG, LONG, LONG, LONG);
    private static final MethodHandle STREAM_FLAGS = find("qg_stream_flags", INT, LONG, LONG, LONG, LONG, LONG);
    private static final MethodHandle STREAM_RULE = find("qg_stream_rule", INT, LONG, LONG, LONG);
    private static final MethodHandle STREAM_FLAG_RULE = find("qg_stream_flag_rule", INT, LONG, LONG, LONG, LONG);
    private static final MethodHandle STREAMS_CALL = find("qg_streams_call", INT, LONG, LONG, LONG, LONG);
    private static final MethodHandle QUEUE_OPEN = find("qg_queue_open", INT, LONG, LONG);
    private static final MethodHandle QUEUE_FREE = find("qg_queue_free", null, LONG);
    private static final MethodHandle QUEUE_SUBMIT = find("qg_queue_submit", INT, LONG, LONG, LONG, LONG, LONG);
    private static final MethodHandle QUEUE_WAIT = find("qg_queue_wait", INT, LONG, LONG, LONG, LONG, LONG, LONG);
    private static final MethodHandle QUEUE_CANCEL = find("qg_queue_cancel", INT, LONG, LONG, LONG, LONG);
    private static final MethodHandle QUEUE_LENGTH = find("qg_queue_length", INT, LONG, LONG, LONG);

    @Override
    String provider() {
        return "ffm";
    }

    @Override
    long version() {
        try {
            return (long) VERSION.invokeExact();
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int versionNumber() {
        try {
            return (int) VERSION_NUMBER.invokeExact();
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int abiVersion() {
        try {
            return (int) ABI_VERSION.invokeExact();
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int errorStatus(long error) {
        try {
            return (int) ERROR_STATUS.invokeExact(error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    long errorMessage(long error) {
        try {
            return (long) ERROR_MESSAGE.invokeExact(error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    void errorFree(long error) {
        try {
            ERROR_FREE.invokeExact(error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    long statusName(int status) {
        try {
            return (long) STATUS_NAME.invokeExact(status);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    long textData(long text) {
        try {
            return (long) TEXT_DATA.invokeExact(text);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    long textLength(long text) {
        try {
            return (long) TEXT_LENGTH.invokeExact(text);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    void textFree(long text) {
        try {
            TEXT_FREE.invokeExact(text);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    long riskName(int risk) {
        try {
            return (long) RISK_NAME.invokeExact(risk);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int guardOptionsInit(long options, int structSize, long error) {
        try {
            return (int) GUARD_OPTIONS_INIT.invokeExact(options, structSize, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int guardOpen(long bundle, long bundleLength, long options, long guard, long error) {
        try {
            return (int) GUARD_OPEN.invokeExact(bundle, bundleLength, options, guard, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int guardOpenNano(long options, long guard, long error) {
        try {
            return (int) GUARD_OPEN_NANO.invokeExact(options, guard, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    void guardFree(long guard) {
        try {
            GUARD_FREE.invokeExact(guard);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int guardInfo(long guard, long json, long error) {
        try {
            return (int) GUARD_INFO.invokeExact(guard, json, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int guardCategoryCount(long guard, int heads, long count, long error) {
        try {
            return (int) GUARD_CATEGORY_COUNT.invokeExact(guard, heads, count, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int guardCategoryName(long guard, int heads, int category, long name, long error) {
        try {
            return (int) GUARD_CATEGORY_NAME.invokeExact(guard, heads, category, name, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int guardEncode(long guard, long text, long textLength, long ids, long spans, long capacity, long count,
            long error) {
        try {
            return (int) GUARD_ENCODE.invokeExact(guard, text, textLength, ids, spans, capacity, count, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int guardTokenBytes(long guard, int token, long bytes, long length, long error) {
        try {
            return (int) GUARD_TOKEN_BYTES.invokeExact(guard, token, bytes, length, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int guardStats(long guard, long stats, long error) {
        try {
            return (int) GUARD_STATS.invokeExact(guard, stats, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int guardMetrics(long guard, long metrics, long error) {
        try {
            return (int) GUARD_METRICS.invokeExact(guard, metrics, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamOpen(long guard, long policy, long policyLength, long stream, long error) {
        try {
            return (int) STREAM_OPEN.invokeExact(guard, policy, policyLength, stream, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    void streamFree(long stream) {
        try {
            STREAM_FREE.invokeExact(stream);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamPrompt(long stream, long messages, long messageCount, long check, long error) {
        try {
            return (int) STREAM_PROMPT.invokeExact(stream, messages, messageCount, check, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamNextTurn(long stream, long messages, long messageCount, long check, long error) {
        try {
            return (int) STREAM_NEXT_TURN.invokeExact(stream, messages, messageCount, check, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamPushText(long stream, long text, long textLength, long update, long error) {
        try {
            return (int) STREAM_PUSH_TEXT.invokeExact(stream, text, textLength, update, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamPushThinking(long stream, long text, long textLength, long update, long error) {
        try {
            return (int) STREAM_PUSH_THINKING.invokeExact(stream, text, textLength, update, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamPushTokens(long stream, long ids, long idCount, long update, long error) {
        try {
            return (int) STREAM_PUSH_TOKENS.invokeExact(stream, ids, idCount, update, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamFinish(long stream, long update, long error) {
        try {
            return (int) STREAM_FINISH.invokeExact(stream, update, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamTruncate(long stream, long bytes, long update, long error) {
        try {
            return (int) STREAM_TRUNCATE.invokeExact(stream, bytes, update, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamTruncateTokens(long stream, long tokens, long update, long error) {
        try {
            return (int) STREAM_TRUNCATE_TOKENS.invokeExact(stream, tokens, update, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamFork(long stream, long fork, long error) {
        try {
            return (int) STREAM_FORK.invokeExact(stream, fork, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamContextUsed(long stream, long tokens, long error) {
        try {
            return (int) STREAM_CONTEXT_USED.invokeExact(stream, tokens, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamTokens(long stream, long tokens, long capacity, long count, long error) {
        try {
            return (int) STREAM_TOKENS.invokeExact(stream, tokens, capacity, count, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamFlags(long stream, long flags, long capacity, long count, long error) {
        try {
            return (int) STREAM_FLAGS.invokeExact(stream, flags, capacity, count, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamRule(long stream, long rule, long error) {
        try {
            return (int) STREAM_RULE.invokeExact(stream, rule, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamFlagRule(long stream, long flag, long rule, long error) {
        try {
            return (int) STREAM_FLAG_RULE.invokeExact(stream, flag, rule, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int streamsCall(long calls, long callCount, long replies, long error) {
        try {
            return (int) STREAMS_CALL.invokeExact(calls, callCount, replies, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int queueOpen(long queue, long error) {
        try {
            return (int) QUEUE_OPEN.invokeExact(queue, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    void queueFree(long queue) {
        try {
            QUEUE_FREE.invokeExact(queue);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int queueSubmit(long queue, long call, long tag, long timeoutMs, long error) {
        try {
            return (int) QUEUE_SUBMIT.invokeExact(queue, call, tag, timeoutMs, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int queueWait(long queue, long timeoutMs, long completions, long capacity, long count, long error) {
        try {
            return (int) QUEUE_WAIT.invokeExact(queue, timeoutMs, completions, capacity, count, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int queueCancel(long queue, long tag, long count, long error) {
        try {
            return (int) QUEUE_CANCEL.invokeExact(queue, tag, count, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
    }

    @Override
    int queueLength(long queue, long calls, long error) {
        try {
            return (int) QUEUE_LENGTH.invokeExact(queue, calls, error);
        } catch (Throwable failure) {
            throw unexpected(failure);
        }
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

    private static MethodHandle find(String name, MemoryLayout result, MemoryLayout... arguments) {
        FunctionDescriptor type =
                result == null ? FunctionDescriptor.ofVoid(arguments) : FunctionDescriptor.of(result, arguments);
        MemorySegment function =
                LIBRARY.find(name).orElseThrow(() -> new UnsatisfiedLinkError("libqwenguard has no " + name));
        return Linker.nativeLinker().downcallHandle(function, type);
    }

    /** Functions of C throw nothing; only a failure of the virtual machine gets here. */
    private static RuntimeException unexpected(Throwable failure) {
        if (failure instanceof Error error) {
            throw error;
        }
        return new IllegalStateException(failure);
    }
}
