using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Qwenguard.Native;

namespace Qwenguard
{
    /// <summary>The names that the library gives to numbers.</summary>
    public static partial class Names
    {
        /// <summary>"Safe", "Controversial" or "Unsafe"; null if there is no such level.</summary>
        [return: MaybeNull]
        public static string Name(this Risk risk)
        {
            LibraryLoader.EnsureLoaded();
            return RiskName((int)risk);
        }

        /// <summary>The name in qwenguard.h, such as "QG_ERROR_BUSY"; null if there is no such status.</summary>
        [return: MaybeNull]
        public static string Name(this Status status)
        {
            LibraryLoader.EnsureLoaded();
            return StatusName((int)status);
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static unsafe string RiskName(int risk)
        {
            return Utf8.Decode(NativeMethods.qg_risk_name(risk));
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static unsafe string StatusName(int status)
        {
            return Utf8.Decode(NativeMethods.qg_status_name(status));
        }
    }
}
