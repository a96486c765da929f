using System;
using System.Runtime.InteropServices;

namespace Qwenguard.Native
{
    /// <summary>The functions and constants of qwenguard.h, with its names. LibraryLoader finds the library.</summary>
    internal static unsafe class NativeMethods
    {
        internal const string Library = "qwenguard";
        private const CallingConvention C = CallingConvention.Cdecl;

        internal const uint QG_VERSION_MAJOR = 0;
        internal const uint QG_VERSION_MINOR = 1;
        internal const uint QG_VERSION_PATCH = 0;
        internal const uint QG_VERSION_NUMBER = QG_VERSION_MAJOR * 1000000 + QG_VERSION_MINOR * 1000 + QG_VERSION_PATCH;
        internal const uint QG_ABI_VERSION = 1;
        internal const int QG_MAX_CATEGORIES = 16;
        internal const ulong QG_NO_TIMEOUT = ulong.MaxValue;

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern byte* qg_version();

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern uint qg_version_number();

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern uint qg_abi_version();

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_error_status(ErrorHandle error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern byte* qg_error_message(ErrorHandle error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern void qg_error_free(IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern byte* qg_status_name(int status);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern byte* qg_text_data(TextHandle text);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern UIntPtr qg_text_length(TextHandle text);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern void qg_text_free(IntPtr text);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern byte* qg_risk_name(int risk);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_guard_options_init(qg_guard_options* options, uint struct_size, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_guard_open(
            byte* bundle, UIntPtr bundle_length, qg_guard_options* options, out IntPtr guard, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_guard_open_nano(qg_guard_options* options, out IntPtr guard, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern void qg_guard_free(IntPtr guard);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_guard_info(GuardHandle guard, out IntPtr json, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_guard_category_count(
            GuardHandle guard, uint heads, uint* count, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_guard_category_name(
            GuardHandle guard, uint heads, uint category, byte** name, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_guard_encode(
            GuardHandle guard, byte* text, UIntPtr text_length, uint* ids, qg_span* spans, UIntPtr capacity,
            UIntPtr* count, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_guard_token_bytes(
            GuardHandle guard, uint token, byte** bytes, UIntPtr* length, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_guard_stats(GuardHandle guard, qg_stats* stats, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_guard_metrics(GuardHandle guard, out IntPtr metrics, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_open(
            GuardHandle guard, byte* policy, UIntPtr policy_length, out IntPtr stream, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern void qg_stream_free(IntPtr stream);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_prompt(
            StreamHandle stream, qg_message* messages, UIntPtr message_count, qg_prompt_check* check, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_next_turn(
            StreamHandle stream, qg_message* messages, UIntPtr message_count, qg_prompt_check* check, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_push_text(
            StreamHandle stream, byte* text, UIntPtr text_length, qg_update* update, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_push_thinking(
            StreamHandle stream, byte* text, UIntPtr text_length, qg_update* update, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_push_tokens(
            StreamHandle stream, uint* ids, UIntPtr id_count, qg_update* update, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_finish(StreamHandle stream, qg_update* update, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_truncate(
            StreamHandle stream, UIntPtr bytes, qg_update* update, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_truncate_tokens(
            StreamHandle stream, UIntPtr tokens, qg_update* update, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_fork(StreamHandle stream, out IntPtr fork, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_context_used(StreamHandle stream, UIntPtr* tokens, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_tokens(
            StreamHandle stream, qg_token_verdict* tokens, UIntPtr capacity, UIntPtr* count, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_flags(
            StreamHandle stream, qg_violation* flags, UIntPtr capacity, UIntPtr* count, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_rule(StreamHandle stream, out IntPtr rule, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_stream_flag_rule(
            StreamHandle stream, UIntPtr flag, out IntPtr rule, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_streams_call(
            qg_call* calls, UIntPtr call_count, qg_reply* replies, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_queue_open(out IntPtr queue, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern void qg_queue_free(IntPtr queue);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_queue_submit(
            QueueHandle queue, qg_call* call, ulong tag, ulong timeout_ms, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_queue_wait(
            QueueHandle queue, ulong timeout_ms, qg_completion* completions, UIntPtr capacity, UIntPtr* count,
            out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_queue_cancel(QueueHandle queue, ulong tag, UIntPtr* count, out IntPtr error);

        [DllImport(Library, CallingConvention = C, ExactSpelling = true)]
        internal static extern int qg_queue_length(QueueHandle queue, UIntPtr* calls, out IntPtr error);
    }
}
