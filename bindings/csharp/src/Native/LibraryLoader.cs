using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;

namespace Qwenguard.Native
{
    /// <summary>
    /// Finds the C library before its first use, by full path where it can, and refuses one with another binary interface.
    /// </summary>
    internal static partial class LibraryLoader
    {
        internal const string Variable = "QWENGUARD_LIBRARY";

        private static readonly object Gate = new object();
        private static volatile bool loaded;

        /// <summary>
        /// Comes before the first call of the library, which must be in another method that is not inlined: Mono looks for a
        /// function when it compiles what calls it.
        /// </summary>
        /// <exception cref="DllNotFoundException">The message lists what was tried.</exception>
        internal static void EnsureLoaded()
        {
            if (loaded)
                return;
            lock (Gate)
            {
                if (!loaded)
                    Load();
                loaded = true;
            }
        }

        private static void Load()
        {
            var tried = new StringBuilder();
            string asked = Environment.GetEnvironmentVariable(Variable);
            foreach (string path in string.IsNullOrEmpty(asked) ? UsualPlaces() : PlaceAskedFor(asked))
            {
                string reason = File.Exists(path) ? Use(path) : "no such file";
                if (reason == null)
                    return;
                tried.Append("\n  ").Append(path).Append(": ").Append(reason);
            }
            if (string.IsNullOrEmpty(asked))
            {
                string reason = CheckInterface();
                if (reason == null)
                    return;
                tried.Append("\n  ").Append(NativeMethods.Library).Append(" in the system's folders: ").Append(reason);
            }
            throw new DllNotFoundException(
                "libqwenguard was not found. Set " + Variable
                + " to the library or its folder, or put it beside Qwenguard.dll. Tried:" + tried);
        }

        private static IEnumerable<string> PlaceAskedFor(string asked)
        {
            yield return Path.GetFullPath(Directory.Exists(asked) ? Path.Combine(asked, FileName()) : asked);
        }

        private static IEnumerable<string> UsualPlaces()
        {
            var folders = new List<string>();
            string assembly = AssemblyFolder();
            if (!string.IsNullOrEmpty(assembly))
                folders.Add(assembly);
            string program = AppDomain.CurrentDomain.BaseDirectory;
            if (!string.IsNullOrEmpty(program) && program.TrimEnd('/', '\\') != assembly)
                folders.Add(program);
            foreach (string folder in folders)
            {
                yield return Path.Combine(folder, FileName());
                yield return Path.Combine(folder, "runtimes", RuntimeIdentifier(), "native", FileName());
            }
        }

        private static string FileName()
        {
            if (RuntimeInformation.IsOSPlatform(OSPlatform.Windows))
                return "qwenguard.dll";
            return RuntimeInformation.IsOSPlatform(OSPlatform.OSX) ? "libqwenguard.dylib" : "libqwenguard.so";
        }

        /// <summary>As NuGet names it, such as linux-x64.</summary>
        private static string RuntimeIdentifier()
        {
            string system = RuntimeInformation.IsOSPlatform(OSPlatform.Windows) ? "win"
                : RuntimeInformation.IsOSPlatform(OSPlatform.OSX) ? "osx" : "linux";
            return system + "-" + RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant();
        }

        /// <summary>Has the functions taken from a file; gives the reason if it cannot be used.</summary>
        private static string Use(string path)
        {
            string reason;
            IntPtr library = Open(path, out reason);
            if (library == IntPtr.Zero)
                return reason;
            reason = CheckInterface(library) ?? Bind(path, library);
            if (reason != null)
                Close(library);
            return reason;
        }

        /// <summary>
        /// Looks before any function of NativeMethods is called: the runtime would not look for that one again.
        /// </summary>
        private static unsafe string CheckInterface(IntPtr library)
        {
            IntPtr abiVersion = Find(library, "qg_abi_version"), version = Find(library, "qg_version");
            if (abiVersion == IntPtr.Zero || version == IntPtr.Zero)
                return "it is not libqwenguard";
            uint found = Marshal.GetDelegateForFunctionPointer<Number>(abiVersion)();
            return found == NativeMethods.QG_ABI_VERSION ? null
                : WrongInterface(found, (byte*)Marshal.GetDelegateForFunctionPointer<Text>(version)());
        }

        /// <summary>The same of the library that the runtime finds by its name.</summary>
        [MethodImpl(MethodImplOptions.NoInlining)]
        private static unsafe string CheckInterface()
        {
            try
            {
                uint found = NativeMethods.qg_abi_version();
                return found == NativeMethods.QG_ABI_VERSION ? null : WrongInterface(found, NativeMethods.qg_version());
            }
            catch (Exception error) when (error is TypeLoadException || error is BadImageFormatException)
            {
                return error.Message;
            }
        }

        private static unsafe string WrongInterface(uint found, byte* version)
        {
            return "version " + Utf8.Decode(version) + " has binary interface " + found + ", not "
                + NativeMethods.QG_ABI_VERSION;
        }

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        private delegate uint Number();

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        private delegate IntPtr Text();
    }
}
