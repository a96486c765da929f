using System.IO;
using System.Text.RegularExpressions;

namespace Qwenguard.Tests
{
    /// <summary>What people are told to do works.</summary>
    public static class PageTests
    {
        public static void TheProgramOfThePageRuns()
        {
            string page = File.ReadAllText("bindings/csharp/README.md");
            string source = Regex.Match(page, "```csharp\n(.*?)```", RegexOptions.Singleline).Groups[1].Value;
            Check.Contains("static void Main", source);
            File.WriteAllText(Tool.Output + "/page.cs", source);
            Tool.Run("mcs", "-warnaserror -r:" + Tool.Output + "/Qwenguard.dll -out:" + Tool.Output + "/page.exe "
                + Tool.Output + "/page.cs");
            string output = Tool.Run("mono", Tool.Output + "/page.exe");
            Check.That(output.StartsWith("may be shown: "), "it starts: " + output);
            Check.Contains("cut: Unsafe, answer.strict: 2 consecutive", output);
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

        public static void TheExampleModeratesTheSamples()
        {
            string output = Tool.Run("mono", Tool.Output + "/ModerateAnswers.exe");
            Check.That(Regex.IsMatch(output, "^bad-prompt: prompt refused, prompt\\.strict", RegexOptions.Multiline), output);
            Check.That(
                Regex.IsMatch(
                    output, "^turns: cut at byte 160 of \\d+, answer\\.strict: 2 consecutive: Unsafe$",
                    RegexOptions.Multiline),
                output);
            Check.That(Regex.IsMatch(output, "^fine: complete, 233 bytes$", RegexOptions.Multiline), output);
        }
    }
}
