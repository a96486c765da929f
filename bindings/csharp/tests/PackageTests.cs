using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Qwenguard.Tests
{
    /// <summary>The project files, which nothing on a machine without the .NET SDK would ever read.</summary>
    public static class PackageTests
    {
        private const string Project = "bindings/csharp/src/Qwenguard.csproj";

        public static void ProjectFilesAreWellFormed()
        {
            string[] files = Directory.GetFiles("bindings/csharp", "*", SearchOption.AllDirectories)
                .Where(file => new[] { ".csproj", ".props", ".targets" }.Contains(Path.GetExtension(file))).ToArray();
            Check.Equal(4, files.Length, "project files");
            foreach (string file in files)
                Check.Equal("Project", XDocument.Load(file).Root.Name.LocalName, file);
        }

        public static void EverySourceIsCompiled()
        {
            XDocument project = XDocument.Load(Project);
            Check.Equal("Microsoft.NET.Sdk", project.Root.Attribute("Sdk").Value, "SDK");
            Check.That(!project.Descendants("Compile").Any(), "the SDK takes all sources beside the project");
            Check.That(!project.Descendants("EnableDefaultCompileItems").Any(), "the SDK takes all sources");
            Check.That(!project.Descendants("PackageReference").Any(), "no package is needed");
        }

        public static void TheTargetsAreThoseOfTheConditions()
        {
            Check.Equal("netstandard2.0;net8.0", Value("TargetFrameworks"), "targets");
            Check.Equal("annotations", Value("Nullable"), "nullable references");
            string[] sources = Directory.GetFiles("bindings/csharp/src", "*.cs", SearchOption.AllDirectories);
            string[] conditions = sources.SelectMany(File.ReadAllLines).Where(line => line.StartsWith("#if ")).Distinct()
                .OrderBy(line => line).ToArray();
            Check.Same(
                new[] { "#if !NET", "#if NET", "#if NETSTANDARD2_1_OR_GREATER || NET", "#if __MonoCS__" }, conditions, "conditions");
        }

        public static void TheVersionIsTheLibrarys()
        {
            Check.Equal(NativeLibraryVersion.Text, Value("Version"), "version");
            Check.Equal(Value("Version") + ".0", typeof(Guard).Assembly.GetName().Version.ToString(), "version of the assembly");
            Check.Equal("Qwenguard", Value("PackageId"), "name");
            Check.Equal("Apache-2.0", Value("PackageLicenseExpression"), "license");
        }

        public static void WhatIsPackedIsThere()
        {
            string folder = Path.GetDirectoryName(Project);
            foreach (XElement item in XDocument.Load(Project).Descendants("None"))
            {
                string include = item.Attribute("Include").Value;
                Check.Equal("true", item.Attribute("Pack").Value, include);
                if (!include.Contains("$("))
                    Check.That(File.Exists(Path.Combine(folder, include)), include);
            }
        }

        /// <summary>Mono's xbuild builds a project that takes the package.</summary>
        public static void TheLibraryOfTheMachineGoesBesideTheProgram()
        {
            if (!Tool.Has("xbuild"))
                return;
            string folder = Path.GetFullPath(Tool.Output + "/targets");
            if (Directory.Exists(folder))
                Directory.Delete(folder, true);
            var libraries = new Dictionary<string, string[]>
            {
                { "linux-x64", new[] { "libqwenguard.so" } }, { "linux-arm64", new[] { "libqwenguard.so" } },
                { "osx-arm64", new[] { "libonnxruntime.dylib", "libqwenguard.dylib" } },
                { "osx-x64", new[] { "libqwenguard.dylib" } }, { "win-x64", new[] { "qwenguard.dll" } },
            };
            foreach (string platform in libraries.Keys)
            {
                string natives = folder + "/package/runtimes/" + platform + "/native";
                Directory.CreateDirectory(natives);
                foreach (string library in libraries[platform])
                    File.WriteAllText(natives + "/" + library, platform);
            }
            Directory.CreateDirectory(folder + "/package/build");
            File.Copy("bindings/csharp/build/Qwenguard.targets", folder + "/package/build/Qwenguard.targets");
            File.WriteAllText(folder + "/Nothing.cs", "public static class Nothing { public static void Main() { } }");
            File.WriteAllText(folder + "/Nothing.csproj", @"<Project DefaultTargets=""Build"" ToolsVersion=""4.0""
                xmlns=""http://schemas.microsoft.com/developer/msbuild/2003"">
              <PropertyGroup>
                <OutputType>Exe</OutputType>
                <AssemblyName>Nothing</AssemblyName>
                <TargetFrameworkVersion>v4.7.2</TargetFrameworkVersion>
              </PropertyGroup>
              <ItemGroup>
                <Compile Include=""Nothing.cs"" />
              </ItemGroup>
              <Import Project=""$(MSBuildToolsPath)/Microsoft.CSharp.targets"" />
              <Import Project=""package/build/Qwenguard.targets"" />
            </Project>");
            string machine = (RuntimeInformation.IsOSPlatform(OSPlatform.OSX) ? "osx-" : "linux-")
                + RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant();
            foreach (string platform in libraries.Keys.Concat(new[] { "", "none" }))
            {
                string output = folder + "/output" + platform, wanted = platform == "" ? machine : platform;
                Tool.Run("xbuild", "/nologo /verbosity:quiet \"/p:OutputPath=" + output + "/\" "
                    + (platform == "" ? "" : "/p:QwenguardRuntime=" + platform + " ") + folder + "/Nothing.csproj");
                string[] copied = Directory.GetFiles(output).Where(file => !file.Contains("Nothing.exe")).ToArray();
                string[] names = libraries.ContainsKey(wanted) ? libraries[wanted] : new string[0];
                Check.Same(names, copied.Select(Path.GetFileName), "files beside the program");
                foreach (string file in copied)
                    Check.Equal(wanted, File.ReadAllText(file), file);
            }
        }

        private static string Value(string property)
        {
            XElement found = XDocument.Load(Project).Descendants(property).Single();
            return Regex.Replace(found.Value, @"\s+", "");
        }
    }
}
