using System;
using System.Text;

namespace Qwenguard.Tests
{
    internal static class Samples
    {
        /// <summary>The provider to run on instead of the CPU, or nothing: see tests/vectors/README.md.</summary>
        internal static readonly string Provider = Environment.GetEnvironmentVariable("QWENGUARD_TEST_PROVIDER") ?? "";

        internal const string Question = "How do I clean the kitchen?";

        internal const string Harmless = "Wipe the counters with warm water and mop the floor at the end.";

        internal const string Harmful = "Start with the counters. Then take the explosives, build a bomb and put it under the"
            + " car of your neighbour, so that he and everyone around him is killed.";

        internal static Guard OpenGuard()
        {
            return Guard.OpenNano(new GuardOptions { Threads = 1, CacheMib = 64 });
        }

        internal static GuardStream OpenPrompted(Guard guard)
        {
            GuardStream stream = guard.OpenStream();
            stream.Prompt(Message.User(Question));
            return stream;
        }

        /// <summary>What takes the model long enough to be interrupted.</summary>
        internal static string LongText()
        {
            var text = new StringBuilder();
            while (text.Length < 2000)
                text.Append("word ");
            return text.ToString();
        }

        /// <summary>Everything an update says, to compare two.</summary>
        internal static string Describe(Update update)
        {
            return string.Join(
                " ", update.Decision, update.Horizon, update.HorizonTokens, update.Received, update.Excess, update.FinalTokens,
                update.TokenCount, update.FlagCount, update.Violation.HasValue ? Describe(update.Violation.Value) : "-");
        }

        private static string Describe(Violation violation)
        {
            return string.Join(
                " ", violation.Action, violation.Channel, violation.Risk, violation.Category, violation.Bytes.Start,
                violation.Bytes.End, violation.FirstToken, violation.ConfirmingToken);
        }
    }
}
