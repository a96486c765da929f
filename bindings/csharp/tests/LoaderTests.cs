using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;

namespace Qwenguard.Tests
{
    /// <summary>Where the library is found. Each in a process of its own, in a folder of its own.</summary>
    public static class LoaderTests
    {
        private const string Source = "using Qwenguard; public static class Program { public static void Main() {"
            + " for (int round = 0; round < 2; round++)"
            + " try { new CompletionQueue().Dispose(); System.Console.WriteLine(NativeLibraryVersion.Text); }"
            + " catch (System.DllNotFoundException error) { System.Console.WriteLine(error.Message); } } }";

        private static readonly string Native = Path.Combine(Dist(), "lib", "libqwenguard.so");

        public static void TheVariableNamesTheLibraryOrItsFolder()
        {
            Check.Equal("0.1.0\n0.1.0\n", Program("variable", Native), "output");
            Check.Equal("0.1.0\n0.1.0\n", Program("variable", Path.GetDirectoryName(Native)), "output");
        }

        public static void ItIsFoundBesideTheAssembly()
        {
            string folder = Folder("beside");
            File.Copy(Native, Path.Combine(folder, "libqwenguard.so"));
            Check.Equal("0.1.0\n0.1.0\n", Program("beside", ""), "output");
        }

        public static void ItIsFoundWherePackagesHaveIt()
        {
            string folder = Path.Combine(Folder("packaged"), "runtimes/linux-x64/native");
            Directory.CreateDirectory(folder);
            File.Copy(Native, Path.Combine(folder, "libqwenguard.so"));
            Check.Equal("0.1.0\n0.1.0\n", Program("packaged", ""), "output");
        }

        public static void TheErrorListsWhatWasTried()
        {
            Folder("nowhere");
            string output = Program("nowhere", "");
            Check.Contains("QWENGUARD_LIBRARY", output);
            Check.Contains("/nowhere/libqwenguard.so: no such file", output);
            Check.Contains("/nowhere/runtimes/linux-x64/native/libqwenguard.so: no such file", output);
            Check.Contains("qwenguard in the system's folders: ", output);
            Check.Contains("/no/such/libqwenguard.so: no such file", Program("nowhere", "/no/such/libqwenguard.so"));
        }

        public static void WhatIsNotTheLibraryIsRefused()
        {
            string folder = Folder("other");
            File.WriteAllText(Path.Combine(folder, "text.so"), "This is no library.");
            Check.Contains("text.so: ", Program("other", Path.Combine(folder, "text.so")));
            string other = Compile(folder, "int qg_other(void) { return 1; }");
            Check.Contains("other.so: it is not libqwenguard", Program("other", other));
            string newer = Compile(
                folder, "unsigned qg_abi_version(void) { return 99; } const char *qg_version(void) { return \"9.8.7\"; }");
            Check.Contains("version 9.8.7 has binary interface 99, not 1", Program("other", newer));
        }

        private static string Dist()
        {
            string dist = Environment.GetEnvironmentVariable("QWENGUARD_DIST");
            Check.That(!string.IsNullOrEmpty(dist), "QWENGUARD_DIST is set");
            return dist;
        }

        private static string Folder(string name)
        {
            string folder = Path.GetFullPath(Path.Combine(Tool.Output, "loader", name));
            if (Directory.Exists(folder))
                Directory.Delete(folder, true);
            Directory.CreateDirectory(folder);
            return folder;
        }

        private static string Compile(string folder, string source)
        {
            string library = Path.Combine(folder, "other.so");
            File.WriteAllText(Path.Combine(folder, "other.c"), source);
            Tool.Run("cc", "-shared -fPIC -o " + library + " " + Path.Combine(folder, "other.c"));
            return library;
        }

        private static string Program(string name, string variable)
        {
            string folder = Path.GetFullPath(Path.Combine(Tool.Output, "loader", name));
            Directory.CreateDirectory(folder);
            string assembly = typeof(Guard).Assembly.Location, source = Path.Combine(folder, "program.cs");
            File.Copy(assembly, Path.Combine(folder, "Qwenguard.dll"), true);
            File.WriteAllText(source, Source);
            Tool.Run("mcs", "-r:" + assembly + " -out:" + Path.Combine(folder, "program.exe") + " " + source);
            var variables = new Dictionary<string, string> { { "QWENGUARD_LIBRARY", variable } };
            Tool.Result result = Tool.Try("mono", Path.Combine(folder, "program.exe"), variables);
            Check.Equal(0, result.Code, result.Error + " code");
            return result.Output;
        }
    }
}
