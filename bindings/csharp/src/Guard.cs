using System.Diagnostics.CodeAnalysis;
using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using Qwenguard.Native;

namespace Qwenguard
{
    /// <summary>
    /// An opened bundle: heavy, and for any number of threads at once. It may be disposed of before its streams, which keep
    /// what they need.
    /// </summary>
    public sealed partial class Guard : IDisposable
    {
        private readonly GuardHandle handle;
        private readonly IReadOnlyList<string> promptCategories, answerCategories;

        private Guard(IntPtr pointer)
        {
            handle = new GuardHandle(pointer);
            promptCategories = ReadCategories(Heads.Prompt);
            answerCategories = ReadCategories(Heads.Answer);
        }

        private GuardHandle Handle
        {
            get
            {
                handle.ThrowIfDisposed(nameof(Guard));
                return handle;
            }
        }

        /// <summary>Opens the bundle in a folder. It takes as long as reading the weights does.</summary>
        /// <exception cref="QwenguardException">The bundle, the options or ONNX Runtime cannot be used.</exception>
        /// <exception cref="DllNotFoundException">There is no libqwenguard that fits.</exception>
        public static Guard Open(string bundle, [AllowNull] GuardOptions options = null)
        {
            byte[] path = Utf8.Encode(bundle, nameof(bundle));
            LibraryLoader.EnsureLoaded();
            return new Guard(Make(Made.Bundle, path, options));
        }

        /// <summary>Opens the demonstration guard that is built into the library. It only tells the obvious apart: for
        /// trying things and for tests.</summary>
        /// <exception cref="QwenguardException">The options or ONNX Runtime cannot be used.</exception>
        /// <exception cref="DllNotFoundException">There is no libqwenguard that fits.</exception>
        public static Guard OpenNano([AllowNull] GuardOptions options = null)
        {
            LibraryLoader.EnsureLoaded();
            return new Guard(Make(Made.Nano, null, options));
        }

        /// <summary>Opens the built-in demonstration guard of the variant gen: it annotates whole conversations and has no
        /// streams. It is as small as the other.</summary>
        /// <exception cref="QwenguardException">The options or ONNX Runtime cannot be used.</exception>
        /// <exception cref="DllNotFoundException">There is no libqwenguard that fits.</exception>
        public static Guard OpenNanoGen([AllowNull] GuardOptions options = null)
        {
            LibraryLoader.EnsureLoaded();
            return new Guard(Make(Made.NanoGen, null, options));
        }

        /// <summary>Lists every execution provider, as a JSON array of objects with provider, available, devices and
        /// reason: whether a guard can be opened on it here, what it can compute on, and why not. Which one the options choose
        /// makes no difference.</summary>
        /// <exception cref="QwenguardException">The options or ONNX Runtime cannot be used.</exception>
        /// <exception cref="DllNotFoundException">There is no libqwenguard that fits.</exception>
        public static string GetProviders([AllowNull] GuardOptions options = null)
        {
            LibraryLoader.EnsureLoaded();
            return TextHandle.Take(Make(Made.Providers, null, options));
        }

        /// <summary>Opens a stream for one conversation.</summary>
        /// <param name="policyToml">Rules for this conversation, a TOML document: what it does not say is strict, whatever
        /// the guard's policy says. Null or empty: the guard's policy.</param>
        /// <exception cref="QwenguardException">Config: the policy is wrong. Busy: as many streams are open as the
        /// configuration allows.</exception>
        public unsafe GuardStream OpenStream([AllowNull] string policyToml = null)
        {
            byte[] policy = Utf8.Encode(policyToml ?? "", nameof(policyToml));
            IntPtr stream, error;
            fixed (byte* bytes = policy)
                QwenguardException.ThrowIfFailed(
                    NativeMethods.qg_stream_open(
                        Handle, bytes, (UIntPtr)policy.Length, out stream, out error),
                    error);
            return new GuardStream(stream);
        }

        /// <summary>The names of categories by their index, as the checkpoint spells them. Also after Dispose.</summary>
        public IReadOnlyList<string> GetCategories(Heads heads)
        {
            switch (heads)
            {
                case Heads.Prompt: return promptCategories;
                case Heads.Answer: return answerCategories;
                default: throw new ArgumentOutOfRangeException(nameof(heads), heads, "there are no such heads");
            }
        }

        /// <summary>The tokens of a text, as <see cref="GuardStream.PushTokens(uint[])"/> takes them. Special tokens that
        /// the text spells are text.</summary>
        /// <exception cref="QwenguardException">Argument: the tokenizer cannot encode the text.</exception>
        public unsafe TextToken[] Encode(string text)
        {
            byte[] bytes = Utf8.Encode(text, nameof(text));
            uint[] ids;
            qg_span[] spans;
            int count = bytes.Length / 2 + 8;
            do
            {
                ids = new uint[count];
                spans = new qg_span[count];
                UIntPtr found;
                IntPtr error;
                fixed (byte* textBytes = bytes)
                fixed (uint* idPointer = ids)
                fixed (qg_span* spanPointer = spans)
                    QwenguardException.ThrowIfFailed(
                        NativeMethods.qg_guard_encode(
                            Handle, textBytes, (UIntPtr)bytes.Length, idPointer, spanPointer, (UIntPtr)count, &found,
                            out error),
                        error);
                count = (int)found;
            }
            while (count > ids.Length);
            var tokens = new TextToken[count];
            for (int index = 0; index < count; index++)
                tokens[index] = new TextToken(ids[index], new ByteRange(spans[index].start, spans[index].end));
            return tokens;
        }

        /// <summary>The bytes that a token stands for: often not whole characters.</summary>
        /// <exception cref="QwenguardException">Argument: there is no such token.</exception>
        public unsafe byte[] GetTokenBytes(uint token)
        {
            bool held = false;
            try
            {
                // They live as long as the guard.
                Handle.DangerousAddRef(ref held);
                byte* bytes;
                UIntPtr length;
                IntPtr error;
                QwenguardException.ThrowIfFailed(
                    NativeMethods.qg_guard_token_bytes(handle, token, &bytes, &length, out error), error);
                var copy = new byte[(int)length];
                for (int index = 0; index < copy.Length; index++)
                    copy[index] = bytes[index];
                return copy;
            }
            finally
            {
                if (held)
                    handle.DangerousRelease();
            }
        }

        /// <summary>What the guard is made of, as a JSON object: bundle, checkpoint, precision, dimensions, labels, ONNX
        /// Runtime.</summary>
        public string GetInfo()
        {
            IntPtr json, error;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_guard_info(Handle, out json, out error), error);
            return TextHandle.Take(json);
        }

        /// <summary>What the guard has done, and how it is.</summary>
        public unsafe GuardStats GetStats()
        {
            qg_stats stats;
            IntPtr error;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_guard_stats(Handle, &stats, out error), error);
            return new GuardStats(stats);
        }

        /// <summary>The same in the text format of Prometheus, version 0.0.4, with histograms.</summary>
        public string GetMetrics()
        {
            IntPtr metrics, error;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_guard_metrics(Handle, out metrics, out error), error);
            return TextHandle.Take(metrics);
        }

        /// <summary>Gives the guard back, when no call uses it any more. Streams go on.</summary>
        public void Dispose()
        {
            handle.Dispose();
        }

        /// <summary>What is made with options.</summary>
        private enum Made { Bundle, Nano, NanoGen, Providers }

        /// <summary>A guard, or the text about providers.</summary>
        [MethodImpl(MethodImplOptions.NoInlining)]
        private static unsafe IntPtr Make(Made what, byte[] bundle, GuardOptions options)
        {
            options = options ?? new GuardOptions();
            if (options.Threads < 0)
                throw new ArgumentOutOfRangeException(nameof(options), options.Threads, "Threads is negative");
            if (options.CacheMib < 0)
                throw new ArgumentOutOfRangeException(nameof(options), options.CacheMib, "CacheMib is negative");
            byte[] config = Utf8.Encode(options.ConfigToml ?? "", nameof(options.ConfigToml));
            byte[] runtime = Utf8.Encode(options.RuntimeLibrary ?? "", nameof(options.RuntimeLibrary));
            byte[] path = bundle != null && bundle.Length == 0 ? new byte[1] : bundle;
            qg_guard_options raw;
            IntPtr made, error;
            QwenguardException.ThrowIfFailed(
                NativeMethods.qg_guard_options_init(&raw, (uint)sizeof(qg_guard_options), out error), error);
            raw.threads = (uint)options.Threads;
            raw.cache_mib = (ulong)options.CacheMib;
            // Of an array without elements fixed makes NULL.
            fixed (byte* bundleBytes = path, configBytes = config, runtimeBytes = runtime)
            {
                raw.config_toml = configBytes;
                raw.config_toml_length = (UIntPtr)config.Length;
                raw.runtime_library = runtimeBytes;
                raw.runtime_library_length = (UIntPtr)runtime.Length;
                int status = what == Made.Providers ? NativeMethods.qg_providers(&raw, out made, out error)
                    : what == Made.Nano ? NativeMethods.qg_guard_open_nano(&raw, out made, out error)
                    : what == Made.NanoGen ? NativeMethods.qg_guard_open_nano_gen(&raw, out made, out error)
                    : NativeMethods.qg_guard_open(bundleBytes, (UIntPtr)bundle.Length, &raw, out made, out error);
                QwenguardException.ThrowIfFailed(status, error);
            }
            return made;
        }

        private unsafe string[] ReadCategories(Heads heads)
        {
            uint count;
            IntPtr error;
            QwenguardException.ThrowIfFailed(
                NativeMethods.qg_guard_category_count(handle, (uint)heads, &count, out error), error);
            var names = new string[count];
            for (uint index = 0; index < count; index++)
            {
                byte* name;
                QwenguardException.ThrowIfFailed(
                    NativeMethods.qg_guard_category_name(handle, (uint)heads, index, &name, out error), error);
                names[index] = Utf8.Decode(name);
            }
            return names;
        }
    }
}
