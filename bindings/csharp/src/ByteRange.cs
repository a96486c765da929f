using static System.FormattableString;
namespace Qwenguard
{
    /// <summary>A part of a text, in bytes of its UTF-8.</summary>
    public readonly partial struct ByteRange
    {
        internal ByteRange(ulong start, ulong end)
        {
            Start = (long)start;
            End = (long)end;
        }

        /// <summary>Where it begins.</summary>
        public long Start { get; }

        /// <summary>Where it ends: the first byte after it.</summary>
        public long End { get; }

        /// <summary>How many bytes it has.</summary>
        public long Length => End - Start;

        /// <summary>Such as "3..17".</summary>
        public override string ToString() => Invariant($"{Start}..{End}");
    }
}
