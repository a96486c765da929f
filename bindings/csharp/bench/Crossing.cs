// An empty push and a push of one token, as one line of JSON.

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using Qwenguard;

internal static class Crossing
{
    private const int Calls = 10000;

    private static void Main()
    {
        using (Guard guard = Guard.OpenNano(new GuardOptions { Threads = 1, CacheMib = 64 }))
        using (GuardStream stream = guard.OpenStream())
        {
            uint[] token = { guard.Encode(" bread")[0].Id };
            stream.Prompt(Message.User("How do I bake bread?"));

            var batches = new List<double>();
            EmptyPushes(stream);
            for (int batch = 0; batch < 20; batch++)
                batches.Add(EmptyPushes(stream));

            var pushes = new List<double>();
            for (int push = 0; push < 2500; push++)
            {
                if (push % 64 == 0)
                    stream.Truncate(0);
                long begin = Stopwatch.GetTimestamp();
                stream.PushTokens(token);
                if (push >= 500)
                    pushes.Add(NanosecondsSince(begin));
            }
            CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
            Console.WriteLine(
                "{\"language\":\"c#\",\"empty_push_ns\":" + Median(batches).ToString("F1") + ",\"token_push_us\":"
                + (Median(pushes) / 1000).ToString("F2") + "}");
        }
    }

    private static double EmptyPushes(GuardStream stream)
    {
        long begin = Stopwatch.GetTimestamp();
        for (int call = 0; call < Calls; call++)
            stream.PushText("");
        return NanosecondsSince(begin) / Calls;
    }

    private static double NanosecondsSince(long begin)
    {
        return (Stopwatch.GetTimestamp() - begin) * 1e9 / Stopwatch.Frequency;
    }

    private static double Median(List<double> values)
    {
        values.Sort();
        return (values[(values.Count - 1) / 2] + values[values.Count / 2]) / 2;
    }
}
