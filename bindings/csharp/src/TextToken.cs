using System;
using System.Collections.Generic;
using System.Linq;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>A token of a text.</summary>
    public readonly partial struct TextToken
    {
        internal TextToken(uint id, ByteRange bytes)
        {
            Id = id;
            Bytes = bytes;
        }

        internal static uint[] Ids(IEnumerable<TextToken> tokens)
        {
            if (tokens == null)
                throw new ArgumentNullException(nameof(tokens));
            return tokens.Select(token => token.Id).ToArray();
        }

        /// <summary>Its id in the guard's vocabulary.</summary>
        public uint Id { get; }

        /// <summary>The bytes of the text that it stands for.</summary>
        public ByteRange Bytes { get; }

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Invariant($"{Id} in bytes {Bytes}");
    }
}
