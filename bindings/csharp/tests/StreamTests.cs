using System;
using System.Collections.Generic;
using System.Linq;

namespace Qwenguard.Tests
{
    public static class StreamTests
    {
        public static void JudgesAConversation()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = guard.OpenStream())
            {
                PromptCheck check = stream.Prompt(Message.User(Samples.Question));
                Check.Equal(Decision.Continue, check.Decision, "decision");
                Check.That(check.Finding == null && check.Verdict.Category == null, "nothing is found");
                Check.Equal(9, check.Verdict.GetCategoryProbabilities().Length, "categories");
                Check.That(Math.Abs(check.Verdict.GetCategoryProbabilities().Sum() - 1) < 1e-3, "they sum to 1");
                Check.OutOfRange((Risk)3, "there is no such level", () => check.Verdict.GetProbability((Risk)3));
                Check.Equal(0, stream.GetTokens().Length, "tokens");
                Check.Fails(Status.WrongState, () => stream.GetRule());

                Update update = stream.PushText(Samples.Harmful);
                Check.Equal(Decision.Stop, update.Decision, "decision");
                Check.Equal(update.Received, update.Horizon + update.Excess, "excess");
                Check.Contains("answer.strict", stream.GetRule());
                TokenVerdict[] tokens = stream.GetTokens();
                Check.Equal(update.TokenCount, tokens.Length, "tokens");
                Check.That(tokens.Select((token, index) => token.Index == index).All(same => same), "in order");
                Check.That(tokens.All(token => token.Bytes.Length > 0), "with bytes");
                Check.Equal(Risk.Unsafe, tokens[(int)update.Violation.Value.ConfirmingToken].Verdict.Risk, "risk");

                update = stream.Truncate(update.Horizon);
                Check.That(update.Decision == Decision.Continue && update.Violation == null, "forgotten");
                Check.Equal(0L, stream.TruncateTokens(0).Received, "received");
                stream.PushText(Samples.Harmless);
                long used = stream.GetContextUsed();
                stream.Finish();
                stream.NextTurn(Message.User("And the oven?"));
                Check.That(stream.GetContextUsed() > used, "the conversation goes on");
                Check.Fails(Status.WrongState, () => stream.NextTurn(Message.User("Again")));
            }
        }

        /// <summary>Up to as many tokens as are copied at once, and more.</summary>
        public static void TokensOfAllNumbers()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = Samples.OpenPrompted(guard))
            {
                uint id = guard.Encode(" bread")[0].Id;
                foreach (int count in new[] { 1, 7, 8, 9, 30 })
                {
                    stream.Truncate(0);
                    Check.Equal(count, stream.PushTokens(Enumerable.Repeat(id, count).ToArray()).TokenCount, "token count");
                    Check.Equal(count, stream.GetTokens().Count(token => token.Id == id), "tokens");
                }
                Check.Fails(Status.Argument, () => stream.PushTokens(4000000000));
            }
        }

        public static void ForksGoTheirOwnWay()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = Samples.OpenPrompted(guard))
            using (GuardStream fork = stream.Fork())
            {
                Check.Equal(Decision.Stop, fork.PushText(Samples.Harmful).Decision, "fork");
                Check.Equal(Decision.Continue, stream.PushText(Samples.Harmless).Decision, "stream");
            }
        }

        public static void ArgumentsAreChecked()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = Samples.OpenPrompted(guard))
            {
                Check.Throws<ArgumentNullException>(() => stream.PushText((string)null), "text");
                Check.Throws<ArgumentNullException>(() => stream.PushText((byte[])null), "text");
                Check.Throws<ArgumentNullException>(() => stream.PushThinking((string)null), "text");
                Check.Throws<ArgumentNullException>(() => stream.PushTokens((uint[])null), "ids");
                Check.Throws<ArgumentNullException>(() => stream.Prompt((IEnumerable<Message>)null), "messages");
                Check.Throws<ArgumentNullException>(() => stream.Prompt(default(Message)), "messages");
                Check.Throws<ArgumentNullException>(() => stream.PushTextAsync((string)null), "text");
                Check.Throws<ArgumentNullException>(() => stream.PushTokensAsync((uint[])null), "ids");
                Check.Throws<ArgumentNullException>(() => guard.Encode(null), "text");
                Check.Throws<ArgumentNullException>(() => Message.User(null), "content");
                Check.Throws<ArgumentNullException>(() => StreamCall.Finish(null), "stream");
                Check.Throws<ArgumentNullException>(() => GuardStream.CallAll(null), "calls");
                Check.Throws<ArgumentNullException>(() => GuardStream.CallAll(new StreamCall[1]), "call");
                Check.OutOfRange(-1L, "bytes is negative", () => stream.Truncate(-1));
                Check.OutOfRange(-1L, "tokens is negative", () => stream.TruncateTokens(-1));
                Check.OutOfRange(-1L, "bytes is negative", () => StreamCall.Truncate(stream, -1));
                Check.OutOfRange(-1L, "tokens is negative", () => stream.TruncateTokensAsync(-1));
                Check.OutOfRange(-1L, "flag is negative", () => stream.GetFlagRule(-1));
                Check.OutOfRange(-1L, "opinion is negative", () => stream.GetOpinionAnnotation(-1));
                Check.Fails(Status.Argument, () => stream.Truncate(1000));
                Check.Equal(0L, stream.PushText(default(ArraySegment<byte>)).Received, "received");
                Check.Equal(2L, stream.PushText("ok").Received, "received");
            }
        }

        public static void ManyStreamsInOneCall()
        {
            using (Guard guard = Samples.OpenGuard())
            {
                GuardStream[] streams = Enumerable.Range(0, 6).Select(index => guard.OpenStream()).ToArray();
                var messages = new List<Message> { Message.User(Samples.Question) };
                IReadOnlyList<Reply> replies = GuardStream.CallAll(
                    streams.Select(stream => StreamCall.Prompt(stream, messages)).ToList());
                Check.That(replies.All(reply => reply.GetCheck().Decision == Decision.Continue), "prompts");
                Check.Fails(Status.WrongState, () => replies[0].GetUpdate(), "another kind");

                List<StreamCall> calls = streams.Select((stream, index) =>
                    StreamCall.PushText(stream, index % 2 == 0 ? Samples.Harmless : Samples.Harmful)).ToList();
                calls.Add(StreamCall.Finish(streams[0]));
                replies = GuardStream.CallAll(calls);
                for (int index = 0; index < streams.Length; index++)
                    Check.Equal(
                        index % 2 == 0 ? Decision.Continue : Decision.Stop, replies[index].GetUpdate().Decision, "decision");
                Check.Equal(Status.InUse, replies[6].Status, "the second call of a stream");
                Check.Contains("in use", replies[6].Message);
                Check.Fails(Status.InUse, () => replies[6].GetUpdate(), "in use");
                Check.Equal(0, GuardStream.CallAll(new StreamCall[0]).Count, "replies");

                streams[3].Dispose();
                Check.Throws<ObjectDisposedException>(
                    () => GuardStream.CallAll(streams.Select(StreamCall.Finish).ToList()), "GuardStream");
                streams[0].Finish();
                foreach (GuardStream stream in streams)
                    stream.Dispose();
                Check.Equal(0L, guard.GetStats().OpenStreams, "streams are not held");
            }
        }

        public static void EightThreadsOnOneGuard()
        {
            using (Guard guard = Samples.OpenGuard())
            {
                string wanted;
                using (GuardStream stream = Samples.OpenPrompted(guard))
                    wanted = Samples.Describe(stream.PushText(Samples.Harmful));
                Check.OnThreads(8, thread =>
                {
                    for (int round = 0; round < 5; round++)
                        using (GuardStream stream = Samples.OpenPrompted(guard))
                            Check.Equal(wanted, Samples.Describe(stream.PushText(Samples.Harmful)), "update");
                });
                Check.Equal(0L, guard.GetStats().OpenStreams, "open streams");
            }
        }

        /// <summary>A call that finds another one going on says so and does nothing.</summary>
        public static void OneUserAtATime()
        {
            int refused = 0;
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = Samples.OpenPrompted(guard))
            {
                Check.OnThreads(4, thread =>
                {
                    for (int round = 0; round < 50; round++)
                        try
                        {
                            stream.PushText("a ");
                        }
                        catch (QwenguardException error) when (error.Status == Status.InUse)
                        {
                            System.Threading.Interlocked.Increment(ref refused);
                        }
                });
                Check.That(refused > 0 && refused < 200, "some are refused, not all");
                Check.Equal(2L * (200 - refused), stream.PushText("").Received, "received");
            }
        }
    }
}
