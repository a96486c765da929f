#if !NET
using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Text;

namespace Qwenguard.Native
{
    /// <summary>
    /// On Mono and .NET Framework. They take a library by its name only: Windows then finds the one that is loaded, and Mono
    /// is told the path by its own function.
    /// </summary>
    internal static unsafe partial class LibraryLoader
    {
        private const int RTLD_NOW = 2;

        private static readonly bool Windows = RuntimeInformation.IsOSPlatform(OSPlatform.Windows);

        private static string AssemblyFolder()
        {
            string location = typeof(LibraryLoader).Assembly.Location;
            return string.IsNullOrEmpty(location) ? null : Path.GetDirectoryName(location);
        }

        private static IntPtr Open(string path, out string reason)
        {
            IntPtr library = Windows ? LoadLibraryW(path) : Unix.Open(path);
            reason = library != IntPtr.Zero ? null
                : Windows ? "error " + Marshal.GetLastWin32Error() : Unix.Error() ?? "it cannot be loaded";
            return library;
        }

        private static IntPtr Find(IntPtr library, string function)
        {
            fixed (byte* name = NulTerminated(function))
                return Windows ? GetProcAddress(library, name) : Unix.Find(library, name);
        }

        private static void Close(IntPtr library)
        {
            if (Windows)
                FreeLibrary(library);
            else
                Unix.Close(library);
        }

        private static string Bind(string path, IntPtr library)
        {
            if (!Windows)
                TellMono(path);
            return CheckInterface();
        }

        /// <summary>Found at run time, as IL2CPP has no such function to link with.</summary>
        private static void TellMono(string path)
        {
            string reason;
            IntPtr program = Open(null, out reason);
            IntPtr insert = program == IntPtr.Zero ? IntPtr.Zero : Find(program, "mono_dllmap_insert");
            if (insert == IntPtr.Zero)
                return;
            fixed (byte* name = NulTerminated(NativeMethods.Library), target = NulTerminated(path))
                Marshal.GetDelegateForFunctionPointer<DllmapInsert>(insert)(IntPtr.Zero, name, null, target, null);
        }

        private static byte[] NulTerminated(string text)
        {
            return Encoding.UTF8.GetBytes(text + "\0");
        }

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        private delegate void DllmapInsert(IntPtr image, byte* name, byte* function, byte* target, byte* targetFunction);

        [DllImport("kernel32", ExactSpelling = true, CharSet = CharSet.Unicode, SetLastError = true)]
        private static extern IntPtr LoadLibraryW(string path);

        [DllImport("kernel32", ExactSpelling = true)]
        private static extern IntPtr GetProcAddress(IntPtr library, byte* name);

        [DllImport("kernel32", ExactSpelling = true)]
        private static extern int FreeLibrary(IntPtr library);

        /// <summary>The functions of dlfcn.h: in a library of their own on Linux before glibc 2.34, else in libc.</summary>
        private static class Unix
        {
            private static readonly bool Libdl = HasLibdl();

            internal static IntPtr Open(string path)
            {
                fixed (byte* name = path == null ? null : NulTerminated(path))
                    return Libdl ? DlOpen(name, RTLD_NOW) : LibcOpen(name, RTLD_NOW);
            }

            internal static IntPtr Find(IntPtr library, byte* name)
            {
                return Libdl ? DlSym(library, name) : LibcSym(library, name);
            }

            internal static void Close(IntPtr library)
            {
                if (Libdl)
                    DlClose(library);
                else
                    LibcClose(library);
            }

            internal static string Error()
            {
                return Utf8.Decode(Libdl ? DlError() : LibcError());
            }

            private static bool HasLibdl()
            {
                try
                {
                    DlError();
                    return true;
                }
                catch (TypeLoadException)
                {
                    return false;
                }
            }

            [DllImport("libdl.so.2", EntryPoint = "dlopen", CallingConvention = CallingConvention.Cdecl)]
            private static extern IntPtr DlOpen(byte* path, int flags);

            [DllImport("libdl.so.2", EntryPoint = "dlsym", CallingConvention = CallingConvention.Cdecl)]
            private static extern IntPtr DlSym(IntPtr library, byte* name);

            [DllImport("libdl.so.2", EntryPoint = "dlclose", CallingConvention = CallingConvention.Cdecl)]
            private static extern int DlClose(IntPtr library);

            [DllImport("libdl.so.2", EntryPoint = "dlerror", CallingConvention = CallingConvention.Cdecl)]
            private static extern byte* DlError();

            [DllImport("libc", EntryPoint = "dlopen", CallingConvention = CallingConvention.Cdecl)]
            private static extern IntPtr LibcOpen(byte* path, int flags);

            [DllImport("libc", EntryPoint = "dlsym", CallingConvention = CallingConvention.Cdecl)]
            private static extern IntPtr LibcSym(IntPtr library, byte* name);

            [DllImport("libc", EntryPoint = "dlclose", CallingConvention = CallingConvention.Cdecl)]
            private static extern int LibcClose(IntPtr library);

            [DllImport("libc", EntryPoint = "dlerror", CallingConvention = CallingConvention.Cdecl)]
            private static extern byte* LibcError();
        }
    }
}
#endif
