using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading;

namespace Qwenguard.Tests
{
    public static class QueueTests
    {
        public static void CallsComeBack()
        {
            using (Guard guard = Samples.OpenGuard())
            using (var queue = new CompletionQueue())
            {
                GuardStream[] streams = Enumerable.Range(0, 6).Select(index => Samples.OpenPrompted(guard)).ToArray();
                for (int index = 0; index < streams.Length; index++)
                {
                    queue.Submit(StreamCall.PushText(streams[index], Samples.Harmful), (ulong)index);
                    Check.Fails(
                        Status.InUse, () => queue.Submit(StreamCall.Finish(streams[index]), 99), "in use");
                }
                var seen = new List<ulong>();
                while (seen.Count < streams.Length)
                {
                    IReadOnlyList<Completion> all = queue.Wait(TimeSpan.FromSeconds(30), 4);
                    Check.That(all.Count >= 1 && all.Count <= 4, "as many as there is room for");
                    foreach (Completion done in all)
                    {
                        Check.That(ReferenceEquals(streams[done.Tag], done.Stream), "the stream of the tag");
                        Check.Equal(Decision.Stop, done.Reply.GetUpdate().Decision, "decision");
                        Check.Equal(done.Reply.GetUpdate().TokenCount, done.Stream.GetTokens().Length, "tokens");
                        seen.Add(done.Tag);
                    }
                }
                Check.Same(new ulong[] { 0, 1, 2, 3, 4, 5 }, seen, "tags");
                Check.Equal(0, queue.Count, "count");
                Check.Equal(0, queue.Wait(TimeSpan.Zero).Count, "done");
                Check.Equal(0, queue.Cancel(3), "cancelled");
                foreach (GuardStream stream in streams)
                    stream.Dispose();
                Check.Equal(0L, guard.GetStats().OpenStreams, "streams are not held");
            }
        }

        public static void ErrorsAreInReplies()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = guard.OpenStream())
            using (var queue = new CompletionQueue())
            {
                queue.Submit(StreamCall.PushText(stream, "Too early."), ulong.MaxValue);
                Completion done = queue.Wait().Single();
                Check.Equal(ulong.MaxValue, done.Tag, "tag");
                Check.Equal(Status.WrongState, done.Reply.Status, "status");
                Check.Contains("before the prompt", done.Reply.Message);
                Check.Fails(Status.WrongState, () => done.Reply.GetUpdate(), "before the prompt");
                queue.Submit(StreamCall.Prompt(stream, Message.User("Hello")), 1);
                done = queue.Wait().Single();
                Check.Equal(Decision.Continue, done.Reply.GetCheck().Decision, "decision");
                Check.Equal("", done.Reply.Message, "message");
                Check.Fails(Status.WrongState, () => done.Reply.GetUpdate(), "another kind");
            }
        }

        /// <summary>What is cancelled changes nothing.</summary>
        public static void CancelAndDeadline()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = Samples.OpenPrompted(guard))
            using (var queue = new CompletionQueue())
            {
                long used = stream.GetContextUsed();
                int cancelled = 0, late = 0;
                for (ulong round = 0; round < 20; round++)
                {
                    bool cancels = round % 2 == 1;
                    queue.Submit(
                        StreamCall.PushText(stream, Samples.LongText()), round,
                        cancels ? Timeout.InfiniteTimeSpan : TimeSpan.Zero);
                    if (cancels)
                        cancelled += queue.Cancel(round);
                    Reply reply = queue.Wait().Single().Reply;
                    if (reply.Status == Status.Ok)
                        stream.Truncate(0);
                    else
                        Check.Equal(cancels ? Status.Cancelled : Status.DeadlineExceeded, reply.Status, "status");
                    late += reply.Status == Status.DeadlineExceeded ? 1 : 0;
                    Check.Equal(used, stream.GetContextUsed(), "context used");
                }
                Check.That(cancelled > 0 && late > 0, "some were cancelled");
                Check.Equal(12L, stream.PushText("All is well.").Received, "received");
            }
        }

        public static void TimeoutsAreKept()
        {
            using (var queue = new CompletionQueue())
            {
                Stopwatch waited = Stopwatch.StartNew();
                Check.Equal(0, queue.Wait(TimeSpan.FromMilliseconds(600)).Count, "done");
                Check.That(waited.ElapsedMilliseconds >= 590, "not shorter");
                TimeSpan before = TimeSpan.FromSeconds(-5);
                Check.OutOfRange(before, "timeout is negative and not", () => queue.Wait(before));
                Check.OutOfRange(0, "capacity leaves no room for a call", () => queue.Wait(TimeSpan.Zero, 0));
                Check.Throws<ArgumentNullException>(() => queue.Submit(null, 1), "call");
            }
        }

        /// <summary>A call of a stream that is disposed of meanwhile comes back all the same.</summary>
        public static void StreamsLiveAsLongAsTheirCalls()
        {
            using (Guard guard = Samples.OpenGuard())
            using (var queue = new CompletionQueue())
            {
                GuardStream stream = Samples.OpenPrompted(guard);
                queue.Submit(StreamCall.PushText(stream, Samples.LongText()), 5);
                stream.Dispose();
                Check.Throws<ObjectDisposedException>(() => stream.Finish());
                guard.Dispose();
                Completion done = queue.Wait().Single();
                Check.That(ReferenceEquals(stream, done.Stream) && done.Reply.Status == Status.Ok, "it is back");
            }
        }

        public static void QueuesAreDisposedWithCallsInThem()
        {
            using (Guard guard = Samples.OpenGuard())
            {
                GuardStream[] streams = Enumerable.Range(0, 4).Select(index => Samples.OpenPrompted(guard)).ToArray();
                var queue = new CompletionQueue();
                foreach (GuardStream stream in streams)
                    queue.Submit(StreamCall.PushText(stream, Samples.LongText()), 1);
                Check.Equal(4, queue.Count, "count");
                streams[0].Dispose();
                queue.Dispose();
                Check.Equal(3L, guard.GetStats().OpenStreams, "open streams");
                for (int index = 1; index < streams.Length; index++)
                {
                    Check.Equal(5L, streams[index].PushText("Hello").Received, "received");
                    streams[index].Dispose();
                }
                Check.Equal(0L, guard.GetStats().OpenStreams, "open streams");
            }
        }

        /// <summary>A call that comes in meanwhile does not keep its stream.</summary>
        public static void QueuesAreDisposedAtAnyMoment()
        {
            using (Guard guard = Samples.OpenGuard())
            {
                for (int round = 0; round < 40; round++)
                    using (GuardStream stream = Samples.OpenPrompted(guard))
                    {
                        var queue = new CompletionQueue();
                        Check.OnThreads(2, thread =>
                        {
                            if (thread == 0)
                            {
                                Thread.SpinWait(round * 2000);
                                queue.Dispose();
                            }
                            else
                            {
                                Check.Throws<ObjectDisposedException>(() =>
                                {
                                    while (true)
                                    {
                                        queue.Submit(StreamCall.PushText(stream, "a "), 1);
                                        queue.Wait();
                                    }
                                });
                            }
                        });
                        stream.PushText("b");
                    }
                Check.Equal(0L, guard.GetStats().OpenStreams, "open streams");
            }
        }

        public static void DisposeEndsAWait()
        {
            var queue = new CompletionQueue();
            Check.OnThreads(3, thread =>
            {
                if (thread == 0)
                {
                    Thread.Sleep(100);
                    queue.Dispose();
                }
                else
                {
                    Check.Throws<ObjectDisposedException>(() => queue.Wait(), "CompletionQueue");
                }
            });
        }
    }
}
