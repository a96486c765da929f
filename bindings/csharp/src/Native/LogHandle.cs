using System;

namespace Qwenguard.Native
{
    internal sealed class LogHandle : NativeHandle
    {
        internal LogHandle(IntPtr pointer) : base(pointer) { }

        protected override bool ReleaseHandle()
        {
            NativeMethods.qg_log_free(handle);
            return true;
        }
    }
}
