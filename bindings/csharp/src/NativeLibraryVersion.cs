using System;
using System.Runtime.CompilerServices;
using Qwenguard.Native;

namespace Qwenguard
{
    /// <summary>
    /// Which libqwenguard is loaded. One with another binary interface than this assembly was made for is never used.
    /// </summary>
    public static partial class NativeLibraryVersion
    {
        /// <summary>The version, such as "0.1.0".</summary>
        /// <exception cref="DllNotFoundException">There is no library that fits: the message lists all tried.</exception>
        public static string Text
        {
            get
            {
                LibraryLoader.EnsureLoaded();
                return ReadText();
            }
        }

        /// <summary>The version as one number: major * 1000000 + minor * 1000 + patch.</summary>
        /// <exception cref="DllNotFoundException">As for <see cref="Text"/>.</exception>
        public static int Number
        {
            get
            {
                LibraryLoader.EnsureLoaded();
                return ReadNumber();
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static unsafe string ReadText()
        {
            return Utf8.Decode(NativeMethods.qg_version());
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static int ReadNumber()
        {
            return (int)NativeMethods.qg_version_number();
        }
    }
}
