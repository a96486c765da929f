using System;
using System.Runtime.InteropServices;

namespace Qwenguard.Native
{
    /// <summary>A pointer of the C library that is freed once, when nobody uses it any more.</summary>
    internal abstract class NativeHandle : SafeHandle
    {
        private volatile bool disposed;

        protected NativeHandle(IntPtr pointer) : base(IntPtr.Zero, true)
        {
            SetHandle(pointer);
        }

        public override bool IsInvalid
        {
            get { return handle == IntPtr.Zero; }
        }

        /// <summary>A SafeHandle that is disposed of during a call can still be used until the call ends: not here.</summary>
        internal void ThrowIfDisposed(string owner)
        {
            if (disposed)
                throw new ObjectDisposedException(owner);
        }

        protected override void Dispose(bool disposing)
        {
            disposed = true;
            base.Dispose(disposing);
        }
    }

    internal sealed class GuardHandle : NativeHandle
    {
        internal GuardHandle(IntPtr pointer) : base(pointer) { }

        protected override bool ReleaseHandle()
        {
            NativeMethods.qg_guard_free(handle);
            return true;
        }
    }

    internal sealed class StreamHandle : NativeHandle
    {
        internal StreamHandle(IntPtr pointer) : base(pointer) { }

        /// <summary>Keeps the stream until DangerousRelease, also if it is disposed of meanwhile.</summary>
        internal IntPtr Hold()
        {
            bool held = false;
            DangerousAddRef(ref held);
            return handle;
        }

        protected override bool ReleaseHandle()
        {
            NativeMethods.qg_stream_free(handle);
            return true;
        }
    }

    internal sealed class QueueHandle : NativeHandle
    {
        internal QueueHandle(IntPtr pointer) : base(pointer) { }

        /// <summary>The streams whose calls are in the queue.</summary>
        internal StreamsInQueue Streams { get; } = new StreamsInQueue();

        protected override bool ReleaseHandle()
        {
            NativeMethods.qg_queue_free(handle);
            Streams.RemoveAll();
            return true;
        }
    }

    internal sealed class AnnotationHandle : NativeHandle
    {
        internal AnnotationHandle(IntPtr pointer) : base(pointer) { }

        protected override bool ReleaseHandle()
        {
            NativeMethods.qg_annotation_free(handle);
            return true;
        }
    }

    internal sealed class TextHandle : NativeHandle
    {
        internal TextHandle(IntPtr pointer) : base(pointer) { }

        /// <summary>Takes a text of the library over; empty for NULL.</summary>
        internal static unsafe string Take(IntPtr pointer)
        {
            using (var text = new TextHandle(pointer))
                return Utf8.Decode(NativeMethods.qg_text_data(text), (int)NativeMethods.qg_text_length(text));
        }

        protected override bool ReleaseHandle()
        {
            NativeMethods.qg_text_free(handle);
            return true;
        }
    }

    internal sealed class ErrorHandle : NativeHandle
    {
        internal ErrorHandle(IntPtr pointer) : base(pointer) { }

        /// <summary>Takes an error of the library over and gives its message: empty for NULL.</summary>
        internal static unsafe string Take(IntPtr pointer)
        {
            if (pointer == IntPtr.Zero)
                return "";
            using (var error = new ErrorHandle(pointer))
                return Utf8.Decode(NativeMethods.qg_error_message(error));
        }

        protected override bool ReleaseHandle()
        {
            NativeMethods.qg_error_free(handle);
            return true;
        }
    }
}
