using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;

namespace Qwenguard.Tests
{
    /// <summary>Messages of the library, and verdicts that are counted.</summary>
    public static class LogTests
    {
        private static void OpenAndDispose()
        {
            Guard.OpenNano(new GuardOptions { Threads = 1, CacheMib = 64 }).Dispose();
        }

        public static void MessagesGoToASink()
        {
            var info = new List<string>();
            var warnings = new List<string>();
            GuardLog log = GuardLog.Open(GuardLogLevel.Info, (level, target, message) =>
            {
                Check.That(level >= GuardLogLevel.Error && level <= GuardLogLevel.Info && target.Length > 0, message);
                lock (info)
                    info.Add(message);
            });
            using (GuardLog.Open(GuardLogLevel.Warning, (level, target, message) => { lock (warnings) warnings.Add(message); }))
                OpenAndDispose();
            log.Dispose();
            log.Dispose();
            Func<List<string>, int> kernels = lines => lines.Count(line => line.Contains("kernels on the CPU isa="));
            Check.Equal(1, kernels(info), "messages");
            Check.Equal(0, kernels(warnings), "less grave messages");
            OpenAndDispose();
            Check.Equal(1, kernels(info), "messages after the end");
        }

        public static void ASinkMayDisposeOfItsLog()
        {
            GuardLog log = null;
            Thread thread = null;
            var known = new ManualResetEventSlim();
            var told = new ManualResetEventSlim();
            log = GuardLog.Open(GuardLogLevel.Info, (level, target, message) =>
            {
                known.Wait();
                thread = Thread.CurrentThread;
                log.Dispose();
                told.Set();
            });
            known.Set();
            OpenAndDispose();
            told.Wait();
            thread.Join();
        }

        public static void VerdictsAreCounted()
        {
            using (Guard guard = Guard.OpenNano(new GuardOptions { Threads = 1, CacheMib = 64, ConfigToml = "name = 'cs'" }))
            using (GuardStream stream = guard.OpenStream())
            {
                Check.Equal(0, guard.GetVerdictCounts().Count, "counts");
                stream.Prompt(Message.User("How do I clean the kitchen?"));
                VerdictCount count = guard.GetVerdictCounts().Single();
                Check.Equal(VerdictChannel.Prompt, count.Channel, "channel");
                Check.Equal(Risk.Safe, count.Risk, "level");
                Check.That(count.Category == null && count.Verdicts == 1 && count.Stops == 0 && count.Flags == 0, "numbers");
                string line =
                    "qwenguard_verdicts_total{guard=\"cs\",channel=\"prompt\",level=\"Safe\",category=\"None\"} 1\n";
                Check.That(guard.GetMetrics().Contains(line), "metrics");
            }
        }
    }
}
