using System;
using System.Linq;
using System.Reflection;
using System.Threading;

namespace Qwenguard.Tests
{
    /// <summary>Runs the public static methods of the classes that are named like ...Tests, each within a minute or, on
    /// another provider, ten. Runs in the root of the repository. An argument is a part of the names of the tests to
    /// run.</summary>
    internal static class Program
    {
        private static int Main(string[] arguments)
        {
            string part = arguments.Length > 0 ? arguments[0] : "";
            MethodInfo[] tests = Assembly.GetExecutingAssembly().GetTypes()
                .Where(type => type.Name.EndsWith("Tests"))
                .SelectMany(type => type.GetMethods(BindingFlags.Public | BindingFlags.Static))
                .Where(test => Name(test).Contains(part))
                .OrderBy(Name, StringComparer.Ordinal).ToArray();
            int failed = tests.Count(test => !Passes(test));
            Console.WriteLine("{0} passed, {1} failed", tests.Length - failed, failed);
            return failed == 0 && tests.Length > 0 ? 0 : 1;
        }

        private static string Name(MethodInfo test)
        {
            return test.DeclaringType.Name + "." + test.Name;
        }

        private static bool Passes(MethodInfo test)
        {
            Exception failure = null;
            var thread = new Thread(() =>
            {
                try
                {
                    test.Invoke(null, null);
                }
                catch (TargetInvocationException error)
                {
                    failure = error.InnerException;
                }
            });
            thread.IsBackground = true;
            thread.Start();
            // Another provider may compute in software.
            int minutes = Samples.Provider == "" ? 1 : 10;
            if (!thread.Join(TimeSpan.FromMinutes(minutes)))
                failure = new TimeoutException("it did not end within " + minutes + " minutes");
            Console.WriteLine("{0}: {1}", failure == null ? "ok" : "FAILED", Name(test));
            if (failure != null)
                Console.WriteLine(failure);
            return failure == null;
        }
    }
}
