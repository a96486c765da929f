namespace Qwenguard
{
    /// <summary>A token of a text.</summary>
    public readonly struct TextToken
    {
        internal TextToken(uint id, ByteRange bytes)
        {
            Id = id;
            Bytes = bytes;
        }

        /// <summary>Its id in the guard's vocabulary.</summary>
        public uint Id { get; }

        /// <summary>The bytes of the text that it stands for.</summary>
        public ByteRange Bytes { get; }
    }
}
