#if NET
using System;
using System.Runtime.InteropServices;

namespace Qwenguard.Native
{
    /// <summary>On .NET, which asks us where the library is.</summary>
    internal static partial class LibraryLoader
    {
        private static IntPtr bound;
        private static bool asksUs;

        /// <summary>The runtime itself looks beside the assembly.</summary>
        private static string AssemblyFolder()
        {
            return null;
        }

        private static IntPtr Open(string path, out string reason)
        {
            try
            {
                reason = null;
                return NativeLibrary.Load(path);
            }
            catch (Exception error) when (error is DllNotFoundException || error is BadImageFormatException)
            {
                reason = error.Message;
                return IntPtr.Zero;
            }
        }

        private static IntPtr Find(IntPtr library, string function)
        {
            IntPtr address;
            return NativeLibrary.TryGetExport(library, function, out address) ? address : IntPtr.Zero;
        }

        private static void Close(IntPtr library)
        {
            NativeLibrary.Free(library);
        }

        private static string Bind(string path, IntPtr library)
        {
            bound = library;
            if (!asksUs)
                NativeLibrary.SetDllImportResolver(
                    typeof(LibraryLoader).Assembly,
                    (name, assembly, search) => name == NativeMethods.Library ? bound : IntPtr.Zero);
            asksUs = true;
            return null;
        }
    }
}
#endif
