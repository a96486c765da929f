using System;
using System.Linq;
using System.Text;

namespace Qwenguard.Tests
{
    public static class GuardTests
    {
        public static void TellsWhatItIs()
        {
            using (Guard guard = Samples.OpenGuard())
            {
                Check.Contains("\"provider\":\"cpu\"", guard.GetInfo());
                Check.Equal(9, guard.GetCategories(Heads.Prompt).Count, "categories");
                Check.Equal("Violent", guard.GetCategories(Heads.Answer)[0], "category");
                Check.OutOfRange((Heads)7, "there are no such heads", () => guard.GetCategories((Heads)7));
            }
        }

        public static void ProvidersAreListed()
        {
            string all = Guard.GetProviders();
            Check.Contains("{\"provider\":\"cpu\",\"available\":true,", all);
            Check.Contains("\"provider\":\"coreml\"", all);
            var cuda = new GuardOptions { ConfigToml = "runtime.provider = \"cuda\"" };
            Check.Contains("\"provider\":\"cuda\",\"available\":false", Guard.GetProviders(cuda));
            var refused = Check.Throws<QwenguardException>(() => Guard.OpenNano(cuda), "cuda");
            Check.Equal(Status.Provider, refused.Status, "status");
        }

        public static void TokensAreTheBytesOfTheText()
        {
            // Longer when it is normalised, so that more tokens come than there is room for at first.
            string text = string.Concat(Enumerable.Repeat("\u0958 is longer when it is normalised. ", 40));
            using (Guard guard = Samples.OpenGuard())
            {
                TextToken[] tokens = guard.Encode(text);
                Check.That(tokens.Sum(token => guard.GetTokenBytes(token.Id).Length) >= text.Length, "they cover it");
                Check.Equal((long)Encoding.UTF8.GetByteCount(text), tokens.Last().Bytes.End, "end");
                byte[] bread = guard.Encode(" bread").SelectMany(token => guard.GetTokenBytes(token.Id)).ToArray();
                Check.Equal(" bread", Encoding.UTF8.GetString(bread), "tokens");
                Check.Equal(0, guard.Encode("").Length, "tokens");
                using (GuardStream stream = Samples.OpenPrompted(guard))
                {
                    TextToken[] pushed = guard.Encode(" bread");
                    Check.Equal(6L, stream.PushTokens(pushed).Received, "received");
                    Check.Equal(12L, stream.PushTokensAsync(pushed).Result.Received, "received");
                }
                Check.Fails(Status.Argument, () => guard.GetTokenBytes(4000000000), "there is no token");
            }
        }

        public static void Counts()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = Samples.OpenPrompted(guard))
            using (GuardStream fork = stream.Fork())
            {
                fork.PushText(Samples.Harmless);
                GuardStats stats = guard.GetStats();
                Check.Equal(2L, stats.OpenStreams, "open");
                Check.Equal(0L, stats.WaitingStreams + stats.QueuedTokens + stats.FailedSteps + stats.ExpiredStreams, "rest");
                Check.That(stats.Steps >= 2 && stats.Tokens > 20 && stats.StepTime > TimeSpan.Zero, "steps");
                Check.That(stats.RecomputedTokens <= stats.Tokens && stats.PrefixHitTokens >= 0, "tokens");
                Check.That(stats.OldestWait == TimeSpan.Zero && stats.Evictions == 0, "nothing waits");
                Check.That(stats.CacheBytes > 0 && stats.CacheBytes <= 64 << 20, "cache");
                Check.That(stats.CacheUsedBytes > 0 && stats.CacheUnusedBytes < stats.CacheBytes, "cache in use");
                Check.Contains("\nqwenguard_open_streams 2\n", guard.GetMetrics());
            }
        }

        public static void OptionsAreUsed()
        {
            using (Guard guard = Guard.OpenNano(new GuardOptions { CacheMib = 16, ConfigToml = "engine.max_streams = 1" }))
            using (guard.OpenStream())
            {
                Check.That(guard.GetStats().CacheBytes <= 16 << 20, "cache");
                Check.Fails(Status.Busy, () => guard.OpenStream());
            }
            Check.Fails(
                Status.RuntimeNotFound, () => Guard.OpenNano(new GuardOptions { RuntimeLibrary = "/nowhere" }), "/nowhere");
            Check.Fails(Status.Config, () => Guard.OpenNano(new GuardOptions { ConfigToml = "threads = 2" }), "threads");
            Check.OutOfRange(-1, "Threads is negative", () => Guard.OpenNano(new GuardOptions { Threads = -1 }));
            Check.OutOfRange(-1L, "CacheMib is negative", () => Guard.OpenNano(new GuardOptions { CacheMib = -1 }));
        }

        public static void BundlesAreOpened()
        {
            using (Guard guard = Guard.Open("export/nano/bundle", new GuardOptions { Threads = 1, CacheMib = 64 }))
            using (GuardStream stream = Samples.OpenPrompted(guard))
                Check.Equal(Decision.Stop, stream.PushText(Samples.Harmful).Decision, "decision");
            Check.Fails(Status.BundleFile, () => Guard.Open("/nowhere/bündel"), "/nowhere/bündel");
            Check.Throws<ArgumentNullException>(() => Guard.Open(null), "bundle");
            Check.Fails(Status.Argument, () => Guard.Open(""), "argument bundle: it is empty");
        }

        public static void PoliciesAreTheStreams()
        {
            using (Guard guard = Guard.OpenNano(new GuardOptions { CacheMib = 64, ConfigToml = "policy.shadow = true" }))
            using (GuardStream shadow = Samples.OpenPrompted(guard))
            using (GuardStream empty = guard.OpenStream(""))
            using (GuardStream strict = guard.OpenStream("# strict"))
            using (GuardStream flags = guard.OpenStream("answer.categories.Violent.action = 'flag'"))
            {
                empty.Prompt(Message.User(Samples.Question));
                strict.Prompt(Message.User(Samples.Question));
                flags.Prompt(Message.User(Samples.Question));
                Check.Equal(Decision.Continue, shadow.PushText(Samples.Harmful).Decision, "shadow");
                Check.Equal(Decision.Continue, empty.PushText(Samples.Harmful).Decision, "an empty policy is none");
                Check.Equal(Decision.Stop, strict.PushText(Samples.Harmful).Decision, "strict");
                Update update = flags.PushText(Samples.Harmful);
                Check.That(update.FlagCount > 0 && !update.Violation.HasValue, "flags");
                Violation[] found = flags.GetFlags();
                Check.Equal(update.FlagCount, found.Length, "flags");
                Check.Equal(PolicyAction.Flag, found[0].Action, "action");
                Check.Contains("answer", flags.GetFlagRule(0));
                Check.Fails(Status.Argument, () => flags.GetFlagRule(99), "flag");
                Check.Fails(Status.Config, () => guard.OpenStream("answer.categories.Spam.at = 0.5"), "Spam");
            }
        }

        public static void TwoGuardsInOneProcess()
        {
            using (Guard one = Samples.OpenGuard())
            using (Guard other = Samples.OpenGuard())
            using (GuardStream first = Samples.OpenPrompted(one))
            using (GuardStream second = Samples.OpenPrompted(other))
            {
                Check.Equal(Decision.Stop, first.PushText(Samples.Harmful).Decision, "first");
                Check.Equal(Decision.Continue, second.PushText(Samples.Harmless).Decision, "second");
                Check.Equal(1L, one.GetStats().OpenStreams, "streams");
                var replies = GuardStream.CallAll(new[] { StreamCall.Finish(first), StreamCall.Finish(second) });
                Check.That(replies.All(reply => reply.Status == Status.Ok), "one call for both");
            }
        }

        public static void NamesAreTheLibrarys()
        {
            Check.Equal("Controversial", Risk.Controversial.Name(), "risk");
            Check.Equal("QG_ERROR_IN_USE", Status.InUse.Name(), "status");
            Check.Equal(null, ((Status)77).Name(), "status");
            Check.Equal(null, ((Risk)77).Name(), "risk");
        }
    }
}
