using System;
using Qwenguard.Native;

namespace Qwenguard
{
    /// <summary>A call of the library failed. It changed nothing: a stream is as it was before.</summary>
    public sealed partial class QwenguardException : Exception
    {
        /// <summary>Makes an error, for tests of code that handles them.</summary>
        public QwenguardException(Status status, string message) : base(message)
        {
            Status = status;
        }

        /// <summary>Why it failed.</summary>
        public Status Status { get; }

        /// <summary>Frees the error of a call that failed.</summary>
        internal static void ThrowIfFailed(int status, IntPtr error)
        {
            if (status != (int)Status.Ok)
                throw new QwenguardException((Status)status, ErrorHandle.Take(error));
        }
    }
}
