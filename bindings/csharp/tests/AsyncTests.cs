using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;

namespace Qwenguard.Tests
{
    public static class AsyncTests
    {
        public static void TasksGiveWhatCallsGive()
        {
            Conversation().Wait();
        }

        private static async Task Conversation()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream sync = Samples.OpenPrompted(guard))
            using (GuardStream stream = guard.OpenStream())
            {
                PromptCheck check = await stream.PromptAsync(new[] { Message.User(Samples.Question) });
                Check.Equal(Decision.Continue, check.Decision, "decision");
                Update update = await stream.PushTextAsync(Samples.Harmful);
                Check.Equal(Samples.Describe(sync.PushText(Samples.Harmful)), Samples.Describe(update), "update");
                Check.Equal(sync.GetRule(), stream.GetRule(), "rule");
                Check.Equal(Samples.Describe(sync.Finish()), Samples.Describe(await stream.FinishAsync()), "finish");
                var next = new List<Message> { Message.User("And then?") };
                check = await stream.NextTurnAsync(next);
                Check.Equal(sync.NextTurn(next).Decision, check.Decision, "decision");
                Check.Equal(5L, (await stream.PushThinkingAsync("Hmm, ")).Received, "received");
            }
        }

        public static void ManyStreamsAtOnce()
        {
            using (Guard guard = Samples.OpenGuard())
            {
                Task<Decision>[] tasks = Enumerable.Range(0, 64).Select(index => Moderate(guard, index)).ToArray();
                Task.WaitAll(tasks);
                for (int index = 0; index < tasks.Length; index++)
                    Check.Equal(index % 2 == 0 ? Decision.Continue : Decision.Stop, tasks[index].Result, "decision");
                Check.Equal(0L, guard.GetStats().OpenStreams, "open streams");
                Check.That(guard.GetStats().Steps < guard.GetStats().Tokens / 4, "they are computed together");
            }
        }

        private static async Task<Decision> Moderate(Guard guard, int index)
        {
            using (GuardStream stream = guard.OpenStream())
            {
                await stream.PromptAsync(new[] { Message.User(Samples.Question) });
                string text = index % 2 == 0 ? Samples.Harmless : Samples.Harmful;
                for (int start = 0; start < text.Length; start += 40)
                {
                    Update update = await stream.PushTextAsync(text.Substring(start, Math.Min(40, text.Length - start)));
                    if (update.Decision == Decision.Stop)
                        return Decision.Stop;
                }
                return (await stream.FinishAsync()).Decision;
            }
        }

        public static void CancelledCallsChangeNothing()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = Samples.OpenPrompted(guard))
            {
                int cancelled = 0;
                for (int round = 0; round < 20; round++)
                    using (var source = new CancellationTokenSource())
                    {
                        Task<Update> push = stream.PushTextAsync(Samples.LongText(), source.Token);
                        source.Cancel();
                        try
                        {
                            push.Wait();
                            stream.TruncateAsync(0).Wait();
                        }
                        catch (AggregateException error)
                        {
                            var one = error.InnerException as OperationCanceledException;
                            Check.That(one != null && push.IsCanceled, "it is cancelled");
                            Check.Equal(source.Token, one.CancellationToken, "token");
                            cancelled++;
                        }
                    }
                Check.That(cancelled > 0, "some are cancelled");
                Check.Equal(5L, stream.PushText("Hello").Received, "received");

                Task<Update> never = stream.PushTextAsync(" more", new CancellationToken(true));
                Check.That(never.IsCanceled, "cancelled before");
                Check.That(stream.TruncateAsync(2, new CancellationToken(true)).IsCanceled, "not cut");
                Check.Equal(5L, stream.PushText("").Received, "received");
                Check.Equal(3L, stream.TruncateAsync(3).Result.Received, "cut");
                Check.Equal(0L, stream.TruncateTokensAsync(0).Result.Received, "cut");
                using (var source = new CancellationTokenSource(1))
                    Check.That(
                        Check.Throws<AggregateException>(() => PushUntilCancelled(stream, source.Token).Wait()).InnerException
                            is OperationCanceledException, "a deadline");
            }
        }

        private static async Task PushUntilCancelled(GuardStream stream, CancellationToken token)
        {
            while (true)
            {
                await stream.PushTextAsync(Samples.LongText(), token);
                stream.Truncate(0);
            }
        }

        public static void ErrorsAreExceptionsOfTheTask()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = guard.OpenStream())
            {
                Task<Update> early = stream.PushTextAsync("Too early.");
                var error = (QwenguardException)Check.Throws<AggregateException>(() => early.Wait()).InnerException;
                Check.Equal(Status.WrongState, error.Status, "status");
                Check.Contains("before the prompt", error.Message);

                stream.Prompt(Message.User(Samples.Question));
                Task<Update> first = stream.PushTextAsync(Samples.LongText()), second = stream.PushTextAsync("x");
                error = (QwenguardException)Check.Throws<AggregateException>(() => second.Wait()).InnerException;
                Check.Equal(Status.InUse, error.Status, "status");
                Check.Fails(Status.InUse, () => stream.PushText("x"));
                Check.Equal(2000L, first.Result.Received, "received");
            }
        }

        public static void DisposeLetsCallsEnd()
        {
            using (Guard guard = Samples.OpenGuard())
            {
                GuardStream stream = Samples.OpenPrompted(guard);
                Task<Update> push = stream.PushTextAsync(Samples.LongText());
                stream.Dispose();
                Check.Equal(2000L, push.Result.Received, "received");
                SpinWait.SpinUntil(() => guard.GetStats().OpenStreams == 0, TimeSpan.FromSeconds(30));
                Check.Equal(0L, guard.GetStats().OpenStreams, "open streams");
            }
        }

        /// <summary>What goes on after a call may block without stopping the calls of others.</summary>
        public static void ContinuationsHaveThreadsOfTheirOwn()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream one = Samples.OpenPrompted(guard))
            using (GuardStream other = Samples.OpenPrompted(guard))
            using (var release = new ManualResetEventSlim())
            {
                Task<Update> push = one.PushTextAsync(Samples.LongText());
                Task blocked = Task.Run(() => push.ContinueWith(
                    done => release.Wait(), TaskContinuationOptions.ExecuteSynchronously));
                push.Wait();
                Check.That(other.PushTextAsync("b").Wait(TimeSpan.FromSeconds(30)), "others go on");
                release.Set();
                blocked.Wait();
            }
        }
    }
}
