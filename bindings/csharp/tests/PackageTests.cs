using System.IO;
using System.Linq;
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

        private static string Value(string property)
        {
            XElement found = XDocument.Load(Project).Descendants(property).Single();
            return Regex.Replace(found.Value, @"\s+", "");
        }
    }
}
