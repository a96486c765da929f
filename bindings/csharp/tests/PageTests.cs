using System;
using System.Collections.Generic;
using System.IO;
using System.Text.RegularExpressions;

namespace Qwenguard.Tests
{
    /// <summary>What people are told to do works.</summary>
    public static class PageTests
    {
        /// <summary>From an empty folder, in a shell where nothing is set for the library.</summary>
        public static void TheCommandsOfThePageMakeItsProgram()
        {
            string page = File.ReadAllText("bindings/csharp/README.md");
            string program = Regex.Match(page, "```csharp\n(.*?)```", RegexOptions.Singleline).Groups[1].Value;
            MatchCollection commands = Regex.Matches(page, "```sh\n(.*?)```", RegexOptions.Singleline);
            Check.Equal(4, commands.Count, "pieces of commands");
            Check.Contains("mcs -r:Qwenguard.dll Program.cs", commands[1].Groups[1].Value);
            string folder = Path.GetFullPath(Tool.Output + "/page");
            if (Directory.Exists(folder))
                Directory.Delete(folder, true);
            Directory.CreateDirectory(folder);
            File.WriteAllText(folder + "/Program.cs", program);
            File.WriteAllText(folder + "/commands.sh", "set -e\ncd " + folder + "\n" + commands[1].Groups[1].Value);
            Tool.Result result = Tool.Try("sh", folder + "/commands.sh", new Dictionary<string, string>
            {
                { "CHECKOUT", Directory.GetCurrentDirectory() },
                { "DIST", Environment.GetEnvironmentVariable("QWENGUARD_DIST") },
                { "QWENGUARD_LIBRARY", "" },
            });
            Check.Equal(0, result.Code, result.Output + result.Error + " code");
            Check.Equal("", result.Error, "warnings");
            string said = Regex.Match(page, "```text\n(may be shown.*?)```", RegexOptions.Singleline).Groups[1].Value;
            Check.Equal(said, result.Output, "what the page says that the program writes");
        }

        /// <summary>What needs the .NET SDK cannot be run here: its words are compared with what they speak of.</summary>
        public static void ThePackageIsMadeOfWhatTheProjectReads()
        {
            string page = File.ReadAllText("bindings/csharp/README.md");
            string project = File.ReadAllText("bindings/csharp/src/Qwenguard.csproj");
            string commands = Regex.Matches(page, "```sh\n(.*?)```", RegexOptions.Singleline)[2].Groups[1].Value;
            Check.Contains("\"-p:QwenguardRuntimes=$PWD/runtimes\"", commands);
            Check.Contains("BeforeTargets=\"GenerateNuspec\" Condition=\"!Exists('$(QwenguardRuntimes)')\"", project);
            Check.Contains("dotnet pack -p:QwenguardRuntimes=FOLDER", project);
        }

        public static void TheAnnotationOfThePageRuns()
        {
            string page = File.ReadAllText("bindings/csharp/README.md");
            string lines = Regex.Match(page, "```cs\n(string bad.*?)```", RegexOptions.Singleline).Groups[1].Value;
            Check.Contains("guard.Annotate(", lines);
            File.WriteAllText(
                Tool.Output + "/annotates.cs",
                "using System; using Qwenguard; public static class Program { public static void Main() {"
                + " using (Guard guard = Guard.OpenNanoGen()) {\n" + lines + "\nConsole.WriteLine(loose.Decision); } } }");
            Tool.Run("mcs", "-warnaserror -r:" + Tool.Output + "/Qwenguard.dll -out:" + Tool.Output + "/annotates.exe "
                + Tool.Output + "/annotates.cs");
            string output = Tool.Run("mono", Tool.Output + "/annotates.exe");
            Check.Equal("Unsafe: Violent\nstop: answer.strict\nStop\n", output, "output");
        }

        public static void TheTasksOfThePageCompile()
        {
            string page = File.ReadAllText("bindings/csharp/README.md");
            string lines = Regex.Match(page, "```cs\n(Update\\[\\] updates.*?)```", RegexOptions.Singleline).Groups[1].Value;
            Check.Contains("await Task.WhenAll(", lines);
            File.WriteAllText(
                Tool.Output + "/tasks.cs",
                "using System.Collections.Generic; using System.Linq; using System.Threading; using System.Threading.Tasks;"
                + " using Qwenguard; public static class Tasks { public static async Task<int> Run(List<GuardStream> streams,"
                + " Dictionary<GuardStream, string> next, CancellationToken cancellation) {\n" + lines
                + "\nreturn updates.Length; } }");
            Tool.Run("mcs", "-warnaserror -target:library -r:" + Tool.Output + "/Qwenguard.dll -out:" + Tool.Output
                + "/tasks.dll " + Tool.Output + "/tasks.cs");
        }

        public static void TheExampleModeratesTheSamples()
        {
            string output = Tool.Run("mono", Tool.Output + "/ModerateAnswers.exe");
            Check.That(Regex.IsMatch(output, "^bad-prompt: prompt refused, prompt\\.strict", RegexOptions.Multiline), output);
            Check.That(
                Regex.IsMatch(
                    output, "^turns: cut at byte 153 of \\d+, answer\\.strict: 2 consecutive: Unsafe$",
                    RegexOptions.Multiline),
                output);
            Check.That(Regex.IsMatch(output, "^fine: complete, 233 bytes$", RegexOptions.Multiline), output);
        }
    }
}
