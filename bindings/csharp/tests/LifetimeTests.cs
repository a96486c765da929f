using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Threading;

namespace Qwenguard.Tests
{
    public static class LifetimeTests
    {
        public static void NothingWorksAfterDispose()
        {
            Guard guard = Samples.OpenGuard();
            GuardStream stream = Samples.OpenPrompted(guard);
            stream.Dispose();
            stream.Dispose();
            var calls = new List<Action>
            {
                () => stream.Prompt(Message.User("x")), () => stream.NextTurn(Message.User("x")),
                () => stream.PushText("x"), () => stream.PushText(new byte[1]),
                () => stream.PushText(new ArraySegment<byte>(new byte[1])), () => stream.PushThinking("x"),
                () => stream.PushTokens(1), () => stream.Finish(), () => stream.Truncate(0), () => stream.TruncateTokens(0),
                () => stream.Fork(), () => stream.GetContextUsed(), () => stream.GetTokens(), () => stream.GetFlags(),
                () => stream.GetRule(), () => stream.GetFlagRule(0),
                () => GuardStream.CallAll(new[] { StreamCall.Finish(stream) }),
            };
            foreach (Action call in calls)
                Check.Throws<ObjectDisposedException>(call, "GuardStream");
            Check.That(stream.PushTextAsync("x").Exception.InnerException is ObjectDisposedException, "as a task");

            guard.Dispose();
            guard.Dispose();
            calls = new List<Action>
            {
                () => guard.OpenStream(), () => guard.Encode("x"), () => guard.GetTokenBytes(1), () => guard.GetInfo(),
                () => guard.GetStats(), () => guard.GetMetrics(),
            };
            foreach (Action call in calls)
                Check.Throws<ObjectDisposedException>(call, "Guard");
            Check.Equal(9, guard.GetCategories(Heads.Prompt).Count, "categories stay");

            var queue = new CompletionQueue();
            queue.Dispose();
            queue.Dispose();
            calls = new List<Action>
            {
                () => queue.Submit(StreamCall.Finish(stream), 1), () => queue.Wait(), () => queue.Cancel(1),
                () => Check.Equal(0, queue.Count, "count"),
            };
            foreach (Action call in calls)
                Check.Throws<ObjectDisposedException>(call, "CompletionQueue");
        }

        public static void AnyOrder()
        {
            Guard guard = Samples.OpenGuard();
            GuardStream stream = Samples.OpenPrompted(guard);
            guard.Dispose();
            Check.Equal(Decision.Stop, stream.PushText(Samples.Harmful).Decision, "decision");
            GuardStream fork = stream.Fork();
            stream.Dispose();
            Check.Equal(Decision.Stop, fork.Finish().Decision, "decision");
            fork.Dispose();
        }

        /// <summary>Whoever disposes of what others use ends their next call, not the process.</summary>
        public static void DisposeDuringCalls()
        {
            for (int round = 0; round < 10; round++)
            {
                Guard guard = Samples.OpenGuard();
                GuardStream[] streams = Enumerable.Range(0, 3).Select(index => Samples.OpenPrompted(guard)).ToArray();
                int ended = 0;
                var pushed = new CountdownEvent(streams.Length);
                Check.OnThreads(streams.Length + 1, index =>
                {
                    if (index == streams.Length)
                    {
                        pushed.Wait();
                        guard.Dispose();
                        foreach (GuardStream stream in streams)
                            stream.Dispose();
                        return;
                    }
                    try
                    {
                        for (int push = 0; push < 10000; push++)
                        {
                            streams[index].PushText("word ");
                            streams[index].GetTokens();
                            if (push == 2)
                                pushed.Signal();
                            if (push % 50 == 0)
                                streams[index].Truncate(0);
                        }
                    }
                    catch (ObjectDisposedException)
                    {
                        Interlocked.Increment(ref ended);
                    }
                });
                Check.Equal(streams.Length, ended, "threads that were ended");
            }
        }

        public static void ForgottenStreamsAreCollected()
        {
            using (Guard guard = Samples.OpenGuard())
            {
                var thread = new Thread(() => Forget(guard, 20));
                thread.Start();
                thread.Join();
                // The collector may take what is left on a stack for references.
                for (int round = 0; round < 50 && guard.GetStats().OpenStreams > 2; round++)
                {
                    GC.Collect();
                    GC.WaitForPendingFinalizers();
                }
                Check.That(guard.GetStats().OpenStreams <= 2, "they are closed");
            }
        }

        public static void NothingLeaks()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = Samples.OpenPrompted(guard))
            {
                stream.PushText(Samples.Harmful);
                UseErrorsAndTexts(guard, stream, 2000);
                long before = ResidentKib();
                UseErrorsAndTexts(guard, stream, 20000);
                long grown = ResidentKib() - before;
                Check.That(grown < 5000, "it grew by " + grown + " KiB");
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static void Forget(Guard guard, int count)
        {
            for (int index = 0; index < count; index++)
                guard.OpenStream();
        }

        private static void UseErrorsAndTexts(Guard guard, GuardStream stream, int rounds)
        {
            string missing = new string('x', 500);
            for (int round = 0; round < rounds; round++)
            {
                Check.Throws<QwenguardException>(() => guard.OpenStream("answer.categories." + missing + ".at = 0.5"));
                Check.That(guard.GetInfo().Length > 100, "a text");
                // The first is refused, the others come too many.
                var calls = new List<StreamCall> { StreamCall.Prompt(stream) };
                for (int more = 0; more < 7; more++)
                    calls.Add(StreamCall.PushText(stream, new byte[500]));
                Check.That(GuardStream.CallAll(calls).All(reply => reply.Message.Length > 10), "errors in replies");
            }
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        private static long ResidentKib()
        {
            string line = File.ReadAllLines("/proc/self/status").Single(text => text.StartsWith("VmRSS:"));
            return long.Parse(line.Split(new[] { ' ', '\t' }, StringSplitOptions.RemoveEmptyEntries)[1]);
        }
    }
}
