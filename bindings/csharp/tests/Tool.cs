using System;
using System.Collections.Generic;
using System.Diagnostics;

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
