using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace Qwenguard.Native
{
    /// <summary>
    /// Calls as tasks: one queue for the process, and one thread that waits for it while there are calls. Between calls the
    /// thread waits in managed code, so that a runtime can be shut down or reloaded.
    /// </summary>
    internal static class AsyncCalls
    {
        /// <summary>How many calls are taken from the queue at once.</summary>
        private const int AtOnce = 16;

        private static readonly object Gate = new object();
        private static readonly Dictionary<ulong, Pending> Calls = new Dictionary<ulong, Pending>();
        private static CompletionQueue queue;
        private static ulong nextTag;

        internal static Task<PromptCheck> Check(StreamCall call, CancellationToken token)
        {
            return Start(tag => queue.Submit(call, tag), new Pending<PromptCheck>(reply => reply.GetCheck(), token));
        }

        internal static Task<Update> Update(StreamCall call, CancellationToken token)
        {
            return Start(tag => queue.Submit(call, tag), new Pending<Update>(reply => reply.GetUpdate(), token));
        }

        internal static Task<Annotation> Annotate(
            Guard guard, IEnumerable<Message> messages, AnnotateOptions options, CancellationToken token)
        {
            return Start(
                tag => queue.Annotate(guard, messages, tag, options),
                new Pending<Annotation>(reply => reply.GetAnnotation(), token));
        }

        private static Task<T> Start<T>(Action<ulong> submit, Pending<T> pending)
        {
            if (pending.Token.IsCancellationRequested)
                return Task.FromCanceled<T>(pending.Token);
            ulong tag = Add(pending);
            try
            {
                submit(tag);
            }
            catch (Exception error)
            {
                Take(tag);
                pending.Fail(error);
                return pending.Task;
            }
            if (pending.Token.CanBeCanceled)
            {
                CancellationTokenRegistration registration = pending.Token.Register(() => queue.Cancel(tag));
                pending.Task.ContinueWith(
                    done => registration.Dispose(), CancellationToken.None, TaskContinuationOptions.None,
                    TaskScheduler.Default);
            }
            return pending.Task;
        }

        private static ulong Add(Pending pending)
        {
            lock (Gate)
            {
                if (queue == null)
                    StartThread();
                Calls.Add(nextTag, pending);
                Monitor.Pulse(Gate);
                return nextTag++;
            }
        }

        private static Pending Take(ulong tag)
        {
            lock (Gate)
            {
                Pending pending;
                if (Calls.TryGetValue(tag, out pending))
                    Calls.Remove(tag);
                return pending;
            }
        }

        private static void StartThread()
        {
            var made = new CompletionQueue();
            var thread = new Thread(Run) { IsBackground = true, Name = "qwenguard" };
            // The thread outlives the caller's context.
            if (ExecutionContext.IsFlowSuppressed())
                thread.Start();
            else
                using (ExecutionContext.SuppressFlow())
                    thread.Start();
            queue = made;
        }

        private static void Run()
        {
            while (true)
            {
                lock (Gate)
                    while (Calls.Count == 0)
                        Monitor.Wait(Gate);
                try
                {
                    foreach (Completion done in queue.Wait(TimeSpan.FromSeconds(1), AtOnce))
                        Take(done.Tag)?.Complete(done.Reply);
                }
                catch (Exception error) when (!(error is ThreadAbortException))
                {
                    FailAll(error);
                }
            }
        }

        private static void FailAll(Exception error)
        {
            Pending[] failed;
            lock (Gate)
            {
                failed = new Pending[Calls.Count];
                Calls.Values.CopyTo(failed, 0);
                Calls.Clear();
            }
            foreach (Pending pending in failed)
                pending.Fail(error);
        }

        private abstract class Pending
        {
            internal abstract void Complete(Reply reply);

            internal abstract void Fail(Exception error);
        }

        private sealed class Pending<T> : Pending
        {
            private readonly TaskCompletionSource<T> source =
                new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
            private readonly Func<Reply, T> answer;

            internal Pending(Func<Reply, T> answer, CancellationToken token)
            {
                this.answer = answer;
                Token = token;
            }

            internal CancellationToken Token { get; }

            internal Task<T> Task => source.Task;

            internal override void Complete(Reply reply)
            {
                if (reply.Status == Status.Cancelled)
                    source.TrySetCanceled(Token);
                else if (reply.Status != Status.Ok)
                    source.TrySetException(new QwenguardException(reply.Status, reply.Message));
                else
                    source.TrySetResult(answer(reply));
            }

            internal override void Fail(Exception error)
            {
                source.TrySetException(error);
            }
        }
    }
}
