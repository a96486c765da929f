using System;
using System.Runtime.CompilerServices;
using System.Threading;
using Qwenguard.Native;

namespace Qwenguard
{
    /// <summary>How grave a message of the log is: the graver, the smaller. 5 minus its number is the LogLevel of
    /// Microsoft.Extensions.Logging.</summary>
    public enum GuardLogLevel
    {
        /// <summary>Nothing.</summary>
        Off = 0,
        /// <summary>Something failed that should not.</summary>
        Error = 1,
        /// <summary>Something that may be wrong: a setting, or what ONNX Runtime warns of.</summary>
        Warning = 2,
        /// <summary>What happens seldom: what was loaded, and what computes.</summary>
        Info = 3,
        /// <summary>What happens often, and most of what ONNX Runtime says.</summary>
        Debug = 4,
        /// <summary>Everything.</summary>
        Trace = 5,
    }

    /// <summary>Takes a message: its level, where it comes from (such as "qwenguard::engine::worker"), and what it says. It is
    /// called by one thread of the log, so that the library never waits for it.</summary>
#if __MonoCS__
    [System.Runtime.CompilerServices.NullableContext(1)]
#endif
    public delegate void GuardLogSink(GuardLogLevel level, string target, string message);

    /// <summary>
    /// Messages of the library, and of ONNX Runtime as it uses it, on their way to a logger of the program. With an ILogger:
    /// <code>
    /// GuardLog.Open(GuardLogLevel.Info, (level, target, message) =>
    ///     logger.Log((LogLevel)(5 - level), "{Target}: {Message}", target, message));
    /// </code>
    /// One that is not disposed of goes on for as long as the program does.
    /// </summary>
    public sealed partial class GuardLog : IDisposable
    {
        private readonly LogHandle handle;
        private readonly GuardLogSink sink;
        private readonly Thread thread;
        private int ended;

        private GuardLog(IntPtr pointer, GuardLogSink sink)
        {
            handle = new LogHandle(pointer);
            this.sink = sink;
            thread = new Thread(HandOn) { IsBackground = true, Name = "qwenguard-log" };
        }

        /// <summary>Has messages handed to a sink from now on, by a thread that is started here: those of the level and graver
        /// ones. If the sink is more than 1,024 messages behind, newer ones are lost, of which it is told by a warning. An
        /// exception that it throws is an unhandled one, as in any thread.</summary>
        /// <exception cref="DllNotFoundException">There is no libqwenguard that fits.</exception>
        public static GuardLog Open(GuardLogLevel level, GuardLogSink sink)
        {
            if (sink == null)
                throw new ArgumentNullException(nameof(sink));
            if (level < GuardLogLevel.Off || level > GuardLogLevel.Trace)
                throw new ArgumentOutOfRangeException(nameof(level), level, "there is no such level");
            LibraryLoader.EnsureLoaded();
            var log = new GuardLog(OpenNative(level), sink);
            log.thread.Start();
            return log;
        }

        /// <summary>Ends the log, when all that came before is handed on; the sink may call it, which does not wait.</summary>
        public void Dispose()
        {
            if (Interlocked.Exchange(ref ended, 1) == 0)
            {
                IntPtr error;
                QwenguardException.ThrowIfFailed(NativeMethods.qg_log_end(handle, out error), error);
            }
            if (Thread.CurrentThread != thread)
                thread.Join();
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static IntPtr OpenNative(GuardLogLevel level)
        {
            IntPtr log, error;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_log_open((uint)level, out log, out error), error);
            return log;
        }

        private void HandOn()
        {
            using (handle)
                while (HandOnNext()) { }
        }

        /// <summary>False after the end.</summary>
        private unsafe bool HandOnNext()
        {
            uint level;
            ulong lost;
            IntPtr target, message, error;
            int status = NativeMethods.qg_log_wait(
                handle, NativeMethods.QG_NO_TIMEOUT, &level, out target, out message, &lost, out error);
            if (status == (int)Status.WrongState)
            {
                ErrorHandle.Take(error);
                return false;
            }
            QwenguardException.ThrowIfFailed(status, error);
            string from = TextHandle.Take(target), text = TextHandle.Take(message);
            if (lost > 0)
                sink(GuardLogLevel.Warning, "qwenguard::log", lost + " messages of the library were lost");
            if (level != NativeMethods.QG_LOG_OFF)
                sink((GuardLogLevel)level, from, text);
            return true;
        }
    }
}
