using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;

namespace Qwenguard.Tests
{
    /// <summary>Runs other programs.</summary>
    internal static class Tool
    {
        internal const string Output = "target/csharp";

        internal sealed class Result
        {
            internal int Code;
            internal string Output, Error;
        }

        /// <summary>Whether there is a program. If not the test is skipped, which fails with QWENGUARD_REQUIRE_TOOLCHAINS=1.</summary>
        internal static bool Has(string program)
        {
            bool found = Environment.GetEnvironmentVariable("PATH").Split(Path.PathSeparator)
                .Any(folder => File.Exists(Path.Combine(folder, program)));
            if (!found)
                Console.WriteLine("SKIPPED: " + program + " is missing");
            Check.That(found || Environment.GetEnvironmentVariable("QWENGUARD_REQUIRE_TOOLCHAINS") != "1", program + " is there");
            return found;
        }

        /// <summary>Runs a program that must succeed and gives what it writes.</summary>
        internal static string Run(string program, string arguments)
        {
            Result result = Try(program, arguments, new Dictionary<string, string>());
            Check.Equal(0, result.Code, program + " " + arguments + ": " + result.Output + result.Error + " code");
            return result.Output;
        }

        internal static Result Try(string program, string arguments, Dictionary<string, string> variables)
        {
            var start = new ProcessStartInfo(program, arguments)
            {
                UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true,
            };
            foreach (KeyValuePair<string, string> variable in variables)
                start.EnvironmentVariables[variable.Key] = variable.Value;
            using (Process process = Process.Start(start))
            {
                var error = process.StandardError.ReadToEndAsync();
                string output = process.StandardOutput.ReadToEnd();
                process.WaitForExit();
                return new Result { Code = process.ExitCode, Output = output, Error = error.Result };
            }
        }
    }
}
