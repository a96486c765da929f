using System;
using System.Runtime.InteropServices;

// The structs of qwenguard.h, with its names.
namespace Qwenguard.Native
{
    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct qg_guard_options
    {
        public uint struct_size;
        public uint threads;
        public ulong cache_mib;
        public byte* config_toml;
        public UIntPtr config_toml_length;
        public byte* runtime_library;
        public UIntPtr runtime_library_length;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct qg_span
    {
        public ulong start;
        public ulong end;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct qg_stats
    {
        public ulong open_streams;
        public ulong waiting_streams;
        public ulong queued_tokens;
        public double oldest_wait_seconds;
        public ulong steps;
        public ulong failed_steps;
        public double step_seconds;
        public ulong tokens;
        public ulong recomputed_tokens;
        public ulong prefix_hit_tokens;
        public ulong evictions;
        public ulong expired_streams;
        public ulong cache_bytes;
        public ulong cache_used_bytes;
        public ulong cache_unused_bytes;
        public fixed ulong reserved[9];
    }

    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct qg_message
    {
        public byte* role;
        public UIntPtr role_length;
        public byte* content;
        public UIntPtr content_length;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct qg_verdict
    {
        public int risk;
        public int category;
        public fixed float risk_probabilities[3];
        public uint category_count;
        public fixed float category_probabilities[NativeMethods.QG_MAX_CATEGORIES];
        public fixed uint reserved[2];
    }

    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct qg_prompt_check
    {
        public int decision;
        public uint has_finding;
        public int action;
        public int risk;
        public int category;
        public float probability;
        public qg_verdict verdict;
        public fixed ulong reserved[2];
    }

    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct qg_violation
    {
        public int action;
        public int channel;
        public int risk;
        public int category;
        public ulong byte_start;
        public ulong byte_end;
        public ulong first_token;
        public ulong confirming_token;
        public float probability;
        public fixed uint reserved[3];
    }

    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct qg_update
    {
        public int decision;
        public uint has_violation;
        public ulong horizon;
        public ulong horizon_tokens;
        public ulong received;
        public ulong excess;
        public ulong final_tokens;
        public ulong token_count;
        public ulong flag_count;
        public qg_violation violation;
        public ulong void_from;
        public fixed ulong reserved[3];
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct qg_token_verdict
    {
        public ulong index;
        public ulong byte_start;
        public ulong byte_end;
        public uint token_id;
        public int channel;
        public uint is_final;
        public uint reserved;
        public qg_verdict verdict;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal unsafe struct qg_call
    {
        public IntPtr stream;
        public uint kind;
        public uint reserved;
        public void* data;
        public UIntPtr length;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct qg_reply
    {
        public int status;
        public uint is_check;
        public IntPtr error;
        public qg_prompt_check check;
        public qg_update update;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct qg_completion
    {
        public ulong tag;
        public IntPtr stream;
        public qg_reply reply;
    }
}
