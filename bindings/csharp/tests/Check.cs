using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading;

namespace Qwenguard.Tests
{
    internal sealed class CheckFailed : Exception
    {
        internal CheckFailed(string message) : base(message) { }
    }

    internal static class Check
    {
        internal static void That(bool condition, string what)
        {
            if (!condition)
                throw new CheckFailed("it does not hold: " + what);
        }

        internal static void Equal<T>(T wanted, T found, string what)
        {
            if (!EqualityComparer<T>.Default.Equals(wanted, found))
                throw new CheckFailed(what + " is " + found + ", not " + wanted);
        }

        internal static void Same<T>(IEnumerable<T> wanted, IEnumerable<T> found, string what)
        {
            string[] missing = wanted.Except(found).Select(item => item.ToString()).ToArray();
            string[] extra = found.Except(wanted).Select(item => item.ToString()).ToArray();
            if (missing.Length + extra.Length > 0)
                throw new CheckFailed(
                    what + ": missing [" + string.Join(", ", missing) + "], too many [" + string.Join(", ", extra) + "]");
        }

        internal static void Contains(string part, string text)
        {
            if (text == null || !text.Contains(part))
                throw new CheckFailed("\"" + part + "\" is not in: " + text);
        }

        internal static T Throws<T>(Action call, string part = "") where T : Exception
        {
            try
            {
                call();
            }
            catch (T error)
            {
                Contains(part, error.Message);
                return error;
            }
            throw new CheckFailed("it did not throw " + typeof(T).Name + " " + part);
        }

        /// <summary>The exception says why and which value.</summary>
        internal static void OutOfRange(object value, string reason, Action call)
        {
            var error = Throws<ArgumentOutOfRangeException>(call, reason);
            Check.Equal(value, error.ActualValue, "value");
            Contains(value.ToString(), error.Message);
        }

        internal static void Fails(Status status, Action call, string part = "")
        {
            Equal(status, Throws<QwenguardException>(call, part).Status, "status");
        }

        /// <summary>Runs a call on many threads at once and gives what failed on any of them.</summary>
        internal static void OnThreads(int count, Action<int> call)
        {
            var failures = new List<Exception>();
            Thread[] threads = Enumerable.Range(0, count).Select(index => new Thread(() =>
            {
                try
                {
                    call(index);
                }
                catch (Exception error)
                {
                    lock (failures)
                        failures.Add(error);
                }
            })).ToArray();
            foreach (Thread thread in threads)
                thread.Start();
            foreach (Thread thread in threads)
                thread.Join();
            if (failures.Count > 0)
                throw new AggregateException(failures);
        }
    }
}
