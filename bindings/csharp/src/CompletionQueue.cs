using System.Diagnostics.CodeAnalysis;
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Threading;
using Qwenguard.Native;

namespace Qwenguard
{
    /// <summary>
    /// Calls of streams, and annotations, that go on while the program does other things. For any number of threads at once; one queue can
    /// serve all streams of all guards. Tasks are simpler: see <see cref="GuardStream.PushTextAsync(string,
    /// CancellationToken)"/>.
    /// </summary>
    public sealed partial class CompletionQueue : IDisposable
    {
        /// <summary>A wait looks so often whether the queue was disposed of, in milliseconds.</summary>
        private const long LongestWait = 250;

        private readonly QueueHandle handle;

        /// <summary>Makes an empty queue.</summary>
        /// <exception cref="DllNotFoundException">There is no libqwenguard that fits.</exception>
        public CompletionQueue()
        {
            LibraryLoader.EnsureLoaded();
            handle = Open();
        }

        private QueueHandle Handle
        {
            get
            {
                handle.ThrowIfDisposed(nameof(CompletionQueue));
                return handle;
            }
        }

        /// <summary>How many calls the queue has not given back yet.</summary>
        public unsafe int Count
        {
            get
            {
                UIntPtr calls;
                IntPtr error;
                QwenguardException.ThrowIfFailed(NativeMethods.qg_queue_length(Handle, &calls, out error), error);
                return (int)calls;
            }
        }

        /// <summary>Begins a call that takes the time it takes.</summary>
        /// <exception cref="QwenguardException">InUse: another call of the stream is going on. All other errors are in the
        /// reply.</exception>
        public void Submit(StreamCall call, ulong tag)
        {
            Submit(call, tag, Timeout.InfiniteTimeSpan);
        }

        /// <summary>Begins a call, which is cancelled with Status DeadlineExceeded if it is not done in time. Until the queue
        /// gives it back its stream is in use, and lives, even if it is disposed of.</summary>
        /// <exception cref="QwenguardException">InUse: another call of the stream is going on. All other errors are in the
        /// reply.</exception>
        /// <exception cref="ArgumentOutOfRangeException">The timeout is negative and not Timeout.InfiniteTimeSpan.</exception>
        public unsafe void Submit(StreamCall call, ulong tag, TimeSpan timeout)
        {
            if (call == null)
                throw new ArgumentNullException(nameof(call));
            ulong milliseconds = Milliseconds(timeout);
            QueueHandle queue = Handle;
            using (var pinned = new PinnedCalls(new[] { call }))
            {
                IntPtr stream = pinned.Raw[0].stream;
                // Before the call, which may come back on another thread at once.
                queue.Streams.Add(call.Stream);
                bool submitted = false;
                try
                {
                    IntPtr error;
                    fixed (qg_call* raw = pinned.Raw)
                        QwenguardException.ThrowIfFailed(
                            NativeMethods.qg_queue_submit(queue, raw, tag, milliseconds, out error), error);
                    submitted = true;
                }
                finally
                {
                    if (!submitted)
                        queue.Streams.Remove(stream);
                }
            }
        }

        /// <summary>Begins to annotate a conversation, as <see cref="Guard.Annotate(IEnumerable{Message},
        /// AnnotateOptions)"/> does. It comes back with <see cref="Reply.GetAnnotation"/> and no stream.</summary>
        public void Annotate(
            Guard guard, IEnumerable<Message> messages, ulong tag, [AllowNull] AnnotateOptions options = null)
        {
            Annotate(guard, messages, tag, options, Timeout.InfiniteTimeSpan);
        }

        /// <summary>Begins to annotate a conversation, and cancels it with Status DeadlineExceeded if it is not done in time.
        /// The guard may be disposed of meanwhile.</summary>
        /// <exception cref="ArgumentOutOfRangeException">The timeout is negative and not Timeout.InfiniteTimeSpan.</exception>
        public void Annotate(
            Guard guard, IEnumerable<Message> messages, ulong tag, AnnotateOptions options, TimeSpan timeout)
        {
            if (guard == null)
                throw new ArgumentNullException(nameof(guard));
            guard.Annotate(Handle, messages, options, tag, Milliseconds(timeout));
        }

        /// <summary>Waits until a call is done, even while the queue is empty, then takes all that are.</summary>
        /// <exception cref="ObjectDisposedException">The queue was disposed of, before or meanwhile.</exception>
        public IReadOnlyList<Completion> Wait()
        {
            return Wait(Timeout.InfiniteTimeSpan);
        }

        /// <summary>Waits for a call that is done, then takes all that are, as many as capacity allows. None if the time
        /// passed; a timeout of zero only looks.</summary>
        /// <exception cref="ObjectDisposedException">The queue was disposed of, before or meanwhile.</exception>
        /// <exception cref="ArgumentOutOfRangeException">The timeout is negative and not Timeout.InfiniteTimeSpan, or the
        /// capacity is not positive.</exception>
        public IReadOnlyList<Completion> Wait(TimeSpan timeout, int capacity = 64)
        {
            if (capacity <= 0)
                throw new ArgumentOutOfRangeException(nameof(capacity), capacity, "capacity leaves no room for a call");
            ulong milliseconds = Milliseconds(timeout);
            var raw = new qg_completion[capacity];
            Stopwatch waited = Stopwatch.StartNew();
            while (true)
            {
                var elapsed = (ulong)waited.ElapsedMilliseconds;
                ulong left = milliseconds > elapsed ? milliseconds - elapsed : 0;
                Completion[] done = WaitOnce(Math.Min(left, LongestWait), raw);
                if (done.Length > 0 || left <= LongestWait)
                    return done;
            }
        }

        /// <summary>Gives up the calls with this tag that are not done. They come back with Status Cancelled. Gives how many
        /// there were.</summary>
        public unsafe int Cancel(ulong tag)
        {
            UIntPtr count;
            IntPtr error;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_queue_cancel(Handle, tag, &count, out error), error);
            return (int)count;
        }

        /// <summary>Gives the queue back. Calls in it are cancelled, and their streams can be used again. A wait of another
        /// thread ends with ObjectDisposedException, within a quarter of a second.</summary>
        public void Dispose()
        {
            handle.Dispose();
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static QueueHandle Open()
        {
            IntPtr queue, error;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_queue_open(out queue, out error), error);
            return new QueueHandle(queue);
        }

        private static ulong Milliseconds(TimeSpan timeout)
        {
            if (timeout == Timeout.InfiniteTimeSpan)
                return NativeMethods.QG_NO_TIMEOUT;
            if (timeout < TimeSpan.Zero)
                throw new ArgumentOutOfRangeException(
                    nameof(timeout), timeout, "timeout is negative and not Timeout.InfiniteTimeSpan");
            return (ulong)Math.Ceiling(timeout.TotalMilliseconds);
        }

        private unsafe Completion[] WaitOnce(ulong milliseconds, qg_completion[] raw)
        {
            QueueHandle queue = Handle;
            bool held = false;
            try
            {
                // Until the streams of what came back are found.
                queue.DangerousAddRef(ref held);
                UIntPtr count;
                IntPtr error;
                fixed (qg_completion* pointer = raw)
                    QwenguardException.ThrowIfFailed(
                        NativeMethods.qg_queue_wait(
                            queue, milliseconds, pointer, (UIntPtr)raw.Length, &count, out error),
                        error);
                var done = new Completion[(int)count];
                for (int index = 0; index < done.Length; index++)
                    done[index] = new Completion(
                        raw[index].tag, queue.Streams.Remove(raw[index].stream),
                        new Reply(raw[index].reply, raw[index].annotation));
                return done;
            }
            finally
            {
                if (held)
                    queue.DangerousRelease();
            }
        }
    }
}
