using System.Diagnostics.CodeAnalysis;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>A call of a queue that is done.</summary>
    public sealed partial class Completion
    {
        internal Completion(ulong tag, GuardStream stream, Reply reply)
        {
            Tag = tag;
            Stream = stream;
            Reply = reply;
        }

        /// <summary>What the call was submitted with.</summary>
        public ulong Tag { get; }

        /// <summary>The stream of the call, which is free for its next one; null for an annotation.</summary>
        [MaybeNull]
        public GuardStream Stream { get; }

        /// <summary>What the call answers.</summary>
        public Reply Reply { get; }

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Invariant($"{Tag}: {Reply}");
    }
}
