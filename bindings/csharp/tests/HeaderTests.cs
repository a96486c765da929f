using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace Qwenguard.Tests
{
    /// <summary>The internal layer against include/qwenguard.h and tests/c/layout.txt.</summary>
    public static class HeaderTests
    {
        private const BindingFlags Members = BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.Public;

        private static readonly Assembly Library = typeof(Guard).Assembly;
        private static readonly Type Native = Library.GetType("Qwenguard.Native.NativeMethods", true);
        private static readonly string Header = File.ReadAllText("include/qwenguard.h");

        private static readonly Dictionary<string, Type> Enums = new Dictionary<string, Type>
        {
            { "QG_ERROR_", typeof(Status) },
            { "QG_DECISION_", typeof(Decision) },
            { "QG_RISK_", typeof(Risk) },
            { "QG_ACTION_", typeof(PolicyAction) },
            { "QG_CHANNEL_", typeof(Channel) },
            { "QG_TRIGGER_", typeof(OpinionTrigger) },
            { "QG_OPINION_", typeof(OpinionOutcome) },
            { "QG_HEADS_", typeof(Heads) },
            { "QG_MODE_", typeof(AnnotationMode) },
            { "QG_DECODING_", typeof(Decoding) },
            { "QG_TEXT_OVERFLOW_", typeof(TextOverflow) },
            { "QG_LOG_", typeof(GuardLogLevel) },
            { "QG_VERDICT_CHANNEL_", typeof(VerdictChannel) },
            { "QG_CALL_", Library.GetType("Qwenguard.CallKind", true) },
        };

        public static void EveryNumberIsKnown()
        {
            var seen = Enums.Values.Distinct().ToDictionary(type => type, type => new List<string>());
            seen[typeof(Status)].Add("Ok");
            int constants = 0;
            foreach (Match define in Regex.Matches(Header, @"^#define (QG_\w+) (.+)$", RegexOptions.Multiline))
            {
                string name = define.Groups[1].Value;
                string prefix = Enums.Keys.FirstOrDefault(name.StartsWith);
                constants++;
                Check.Equal(Number(define.Groups[2].Value), Constant(name), name);
                if (prefix != null)
                {
                    string member = CamelCase(name.Substring(prefix.Length));
                    Check.That(Enum.IsDefined(Enums[prefix], member), name + " is known as " + member);
                    Check.Equal(Number(define.Groups[2].Value), Convert.ToUInt64(Enum.Parse(Enums[prefix], member)), name);
                    seen[Enums[prefix]].Add(member);
                }
            }
            foreach (KeyValuePair<Type, List<string>> one in seen)
                Check.Same(one.Value, Enum.GetNames(one.Key), one.Key.Name);
            Check.Equal(constants, Native.GetFields(Members).Count(field => field.Name.StartsWith("QG_")), "constants");
        }

        public static void EveryFunctionIsKnownWithItsTypes()
        {
            var wanted = new Dictionary<string, string>();
            int start = Header.IndexOf("extern \"C\"", StringComparison.Ordinal);
            string body = Regex.Replace(Header.Substring(start), "///.*", "");
            foreach (Match function in Regex.Matches(body, @"^([\w ]+[ *]+)(qg_\w+)\(([^)]*)\);", RegexOptions.Multiline))
            {
                string name = function.Groups[2].Value;
                IEnumerable<string> types = function.Groups[3].Value.Split(',').Where(argument => argument.Trim() != "void")
                    .Select(argument => CsType(Regex.Replace(argument.Trim(), @"\w+$", ""), name));
                wanted.Add(name, CsType(function.Groups[1].Value, name) + " (" + string.Join(", ", types) + ")");
            }
            Check.That(wanted.Count > 40, "the functions of the header were found");

            MethodInfo[] found = Native.GetMethods(Members).Where(method => method.Name.StartsWith("qg_")).ToArray();
            Check.Same(wanted.Keys, found.Select(method => method.Name), "functions");
            foreach (MethodInfo method in found)
            {
                IEnumerable<string> types = method.GetParameters().Select(parameter => Name(parameter.ParameterType));
                Check.Equal(
                    wanted[method.Name], Name(method.ReturnType) + " (" + string.Join(", ", types) + ")", method.Name);
                var import = method.GetCustomAttribute<DllImportAttribute>();
                Check.Equal("qwenguard", import.Value, method.Name);
                Check.Equal(method.Name, import.EntryPoint, method.Name);
                Check.That(import.ExactSpelling, method.Name + " has ExactSpelling");
                Check.Equal(CallingConvention.Cdecl, import.CallingConvention, method.Name);
            }
        }

        public static void EveryStructHasItsLayout()
        {
            var structs = new List<string>();
            var fields = new List<string>();
            foreach (string line in File.ReadAllLines("tests/c/layout.txt"))
            {
                string[] words = line.Split(' '), names = words[0].Split('.');
                Type type = Library.GetType("Qwenguard.Native." + names[0], true);
                if (names.Length == 1)
                {
                    structs.Add(names[0]);
                    Check.Equal(int.Parse(words[1]), Marshal.SizeOf(type), line);
                    Check.Equal(int.Parse(words[1]), ManagedSize(type), "managed: " + line);
                }
                else
                {
                    fields.Add(words[0]);
                    Check.That(type.GetField(names[1]) != null, line);
                    Check.Equal(int.Parse(words[1]), (int)Marshal.OffsetOf(type, names[1]), line);
                }
            }
            Type[] known = Library.GetTypes().Where(type => type.IsValueType && type.Name.StartsWith("qg_")).ToArray();
            Check.Same(structs, known.Select(type => type.Name), "structs");
            Check.Same(
                fields, known.SelectMany(type => type.GetFields().Select(field => type.Name + "." + field.Name)), "fields");
            Check.That(!known.SelectMany(FieldTypes).Intersect(new[] { typeof(bool), typeof(char) }).Any(), "blittable");
        }

        /// <summary>Arrays of these are written by the library directly.</summary>
        public static void PublicStructsAreTheLibrarys()
        {
            foreach (Type type in new[] { typeof(TokenVerdict), typeof(Violation) })
            {
                Type raw = type.GetFields(BindingFlags.Instance | BindingFlags.NonPublic).Single().FieldType;
                Check.Equal(ManagedSize(raw), ManagedSize(type), type.Name);
            }
        }

        public static void TheVersionIsTheLibrarys()
        {
            Match version = Regex.Match(File.ReadAllText("Cargo.toml"), "^version = \"(.*)\"", RegexOptions.Multiline);
            Check.Equal(version.Groups[1].Value, NativeLibraryVersion.Text, "version");
            Check.Equal(Constant("QG_VERSION_NUMBER"), (ulong)NativeLibraryVersion.Number, "number");
        }

        private static IEnumerable<Type> FieldTypes(Type type)
        {
            return type.GetFields().Select(field => field.FieldType);
        }

        private static int ManagedSize(Type type)
        {
            Array two = Array.CreateInstance(type, 2);
            GCHandle pin = GCHandle.Alloc(two, GCHandleType.Pinned);
            try
            {
                return (int)(Marshal.UnsafeAddrOfPinnedArrayElement(two, 1).ToInt64()
                    - Marshal.UnsafeAddrOfPinnedArrayElement(two, 0).ToInt64());
            }
            finally
            {
                pin.Free();
            }
        }

        private static ulong Constant(string name)
        {
            FieldInfo field = Native.GetField(name, Members);
            Check.That(field != null, name + " is known");
            return Convert.ToUInt64(field.GetRawConstantValue());
        }

        private static ulong Number(string text)
        {
            if (text == "UINT64_MAX")
                return ulong.MaxValue;
            if (text.StartsWith("((("))
                return 1000000 * Constant("QG_VERSION_MAJOR") + 1000 * Constant("QG_VERSION_MINOR")
                    + Constant("QG_VERSION_PATCH");
            return ulong.Parse(text, CultureInfo.InvariantCulture);
        }

        private static string CamelCase(string name)
        {
            return string.Concat(name.Split('_').Select(word =>
                char.ToUpperInvariant(word[0]) + word.Substring(1).ToLowerInvariant()));
        }

        /// <summary>What a C type is in NativeMethods.</summary>
        private static string CsType(string c, string function)
        {
            string type = Regex.Replace(c, "const|struct", "").Replace(" ", "");
            int stars = type.Count(character => character == '*');
            string name = type.TrimEnd('*');
            switch (name)
            {
                case "void": case "int32_t": case "uint32_t": case "uint64_t": case "size_t": case "qg_status":
                case "char": case "uint8_t": case "double": case "int64_t":
                    return Primitive(name) + new string('*', stars);
                case "qg_guard": case "qg_stream": case "qg_queue": case "qg_text": case "qg_error":
                case "qg_annotation": case "qg_log":
                    return stars == 2 ? "IntPtr&" : function.EndsWith("_free") ? "IntPtr"
                        : CamelCase(name.Substring(3)) + "Handle";
                default:
                    return name.EndsWith("_callback") ? "IntPtr" : type;
            }
        }

        private static string Primitive(string c)
        {
            switch (c)
            {
                case "void": return "Void";
                case "uint32_t": return "UInt32";
                case "uint64_t": return "UInt64";
                case "int64_t": return "Int64";
                case "size_t": return "UIntPtr";
                case "double": return "Double";
                case "char": case "uint8_t": return "Byte";
                default: return "Int32";
            }
        }

        private static string Name(Type type)
        {
            return type.Name;
        }
    }
}
