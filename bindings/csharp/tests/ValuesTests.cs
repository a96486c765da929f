using System;
using System.Globalization;
using System.Linq;
using System.Reflection;
using System.Text.RegularExpressions;
using System.Threading;

namespace Qwenguard.Tests
{
    /// <summary>What values say of themselves.</summary>
    public static class ValuesTests
    {
        private static readonly Type[] NoValues =
        {
            typeof(CompletionQueue), typeof(Guard), typeof(GuardLog), typeof(GuardStream), typeof(QwenguardException),
        };

        public static void EveryValueSaysWhatIsInIt()
        {
            var silent = typeof(Guard).Assembly.GetExportedTypes()
                .Where(type => !type.IsEnum && !type.IsAbstract && !typeof(Delegate).IsAssignableFrom(type) && !NoValues.Contains(type))
                .Where(type => type.GetMethod("ToString", new Type[0]).DeclaringType != type).Select(type => type.Name);
            Check.Same(new string[0], silent, "without ToString");
        }

        public static void ValuesAreReadable()
        {
            // Where a comma separates decimals.
            Thread.CurrentThread.CurrentCulture = new CultureInfo("de-DE");
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = guard.OpenStream())
            using (var queue = new CompletionQueue())
            {
                Matches(@"^Continue, Safe 0\.\d+$", stream.Prompt(Message.User(Samples.Question)));
                StreamCall push = StreamCall.PushText(stream, Samples.Harmful);
                Matches("^PushText of 153$", push);
                queue.Submit(push, 7);
                Completion done = queue.Wait().Single();
                const string Violation = @"Stop Unsafe 0\.\d+ in bytes \d+\.\.\d+$";
                Matches(@"^7: Stop, \d+ of 153 bytes, " + Violation, done);
                Matches(@"^Stop, \d+ of 153 bytes, " + Violation, done.Reply);
                Matches("^" + Violation, done.Reply.GetUpdate().Violation.Value);
                Matches(@"^0: \d+ in bytes 0\.\.\d+, Safe 0\.\d+$", stream.GetTokens()[0]);
                stream.Truncate(0);
                stream.PushText("Hi");
                Matches("^Continue, 2 of 2 bytes$", stream.Finish());
                Matches("^WrongState: .*after the end", GuardStream.CallAll(new[] { StreamCall.PushText(stream, "x") })[0]);
                Matches(@"^Stop, Stop Unsafe 0\.\d+$", stream.NextTurn(Message.User(Samples.Harmful)));
                Matches(@"^\d+ in bytes 0\.\.\d+$", guard.Encode("Hello")[0]);
                var counts = guard.GetVerdictCounts().Select(count => count.ToString()).ToArray();
                Check.That(counts.Contains("Prompt Safe: 1 verdicts, 0 stops, 0 flags"), string.Join("; ", counts));
                Check.That(counts.Any(count => Regex.IsMatch(count, @"^Answer Unsafe \d: \d+ verdicts, 1 stops")), string.Join("; ", counts));
                string stats = guard.GetStats().ToString();
                foreach (PropertyInfo property in typeof(GuardStats).GetProperties())
                    Matches(@"[\[ ]" + property.Name + "=[0-9]", stats);
                Matches("^GuardStats.*OpenStreams=1,", stats);
            }
            Check.Equal("user: Hello", Message.User("Hello").ToString(), "message");
            Check.Equal("Constrained, Refuse", new AnnotateOptions().ToString(), "options");
            Matches("^GuardOptions.*Threads=2,.*ConfigToml=shadow,", new GuardOptions { Threads = 2, ConfigToml = "shadow" });
        }

        public static void AnnotationsAreReadable()
        {
            Thread.CurrentThread.CurrentCulture = new CultureInfo("de-DE");
            using (Guard gen = Guard.OpenNanoGen(new GuardOptions { Threads = 1, CacheMib = 64 }))
            {
                Annotation annotation = gen.Annotate(Message.User(Samples.Question), Message.Assistant(Samples.Harmful));
                Matches(@"^Response Unsafe \[Violent\]$", annotation);
                Matches(@"^Stop, Stop Unsafe 0\.\d+, .+strict", annotation.Judgement);
                Check.Equal("Continue", annotation.Judge("shadow = true").Decision.ToString(), "decision");
                Matches(@"^Response Unsafe \[Violent\]$",
                    gen.AnnotateAll(new[] { new[] { Message.User(Samples.Question), Message.Assistant(Samples.Harmful) } })[0]);
                Check.Equal("Continue", gen.Annotate(Message.User("Hello")).Judgement.ToString(), "judgement");
            }
            using (Guard both = Guard.OpenNano(new GuardOptions { CacheMib = 64, ConfigToml = "second_opinion.built_in = 'nano-gen'" }))
            using (GuardStream stream = both.OpenStream("answer.second_opinion.violation = 'report'"))
            {
                stream.Prompt(Message.User(Samples.Question));
                stream.PushText(Samples.Harmful);
                Matches(@"^Violation \w+ in bytes \d+\.\.\d+$", stream.GetOpinions()[0]);
            }
        }

        private static void Matches(string pattern, object value)
        {
            Check.That(Regex.IsMatch(value.ToString(), pattern), "\"" + value + "\" is like " + pattern);
        }
    }
}
