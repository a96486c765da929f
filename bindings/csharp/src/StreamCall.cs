using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Qwenguard.Native;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>
    /// One call of a stream, for <see cref="GuardStream.CallAll"/> and <see cref="CompletionQueue"/>. Bytes and tokens are
    /// not copied until it is made.
    /// </summary>
    public sealed partial class StreamCall
    {
        private readonly MessageTexts messages;
        private readonly Array data;
        private readonly int offset;
        /// <summary>How much there is of the data, or how much of the answer stays.</summary>
        private readonly long length;

        private StreamCall(GuardStream stream, CallKind kind)
        {
            Stream = stream ?? throw new ArgumentNullException(nameof(stream));
            Kind = kind;
        }

        private StreamCall(GuardStream stream, CallKind kind, IEnumerable<Message> messages) : this(stream, kind)
        {
            this.messages = new MessageTexts(messages);
            length = this.messages.Count;
        }

        private StreamCall(GuardStream stream, CallKind kind, ArraySegment<byte> text) : this(stream, kind)
        {
            data = text.Array;
            offset = text.Offset;
            length = text.Count;
        }

        private StreamCall(GuardStream stream, uint[] ids) : this(stream, CallKind.PushTokens)
        {
            data = ids ?? throw new ArgumentNullException(nameof(ids));
            length = ids.Length;
        }

        private StreamCall(GuardStream stream, CallKind kind, long keep) : this(stream, kind)
        {
            length = keep;
        }

        /// <summary>The stream, which the call needs for itself.</summary>
        public GuardStream Stream { get; }

        internal CallKind Kind { get; }

        /// <summary><see cref="GuardStream.Prompt(Message[])"/>.</summary>
        public static StreamCall Prompt(GuardStream stream, params Message[] messages) =>
            new StreamCall(stream, CallKind.Prompt, messages);

        /// <summary><see cref="GuardStream.Prompt(IEnumerable{Message})"/>.</summary>
        public static StreamCall Prompt(GuardStream stream, IEnumerable<Message> messages) =>
            new StreamCall(stream, CallKind.Prompt, messages);

        /// <summary><see cref="GuardStream.NextTurn(Message[])"/>.</summary>
        public static StreamCall NextTurn(GuardStream stream, params Message[] messages) =>
            new StreamCall(stream, CallKind.NextTurn, messages);

        /// <summary><see cref="GuardStream.NextTurn(IEnumerable{Message})"/>.</summary>
        public static StreamCall NextTurn(GuardStream stream, IEnumerable<Message> messages) =>
            new StreamCall(stream, CallKind.NextTurn, messages);

        /// <summary><see cref="GuardStream.PushText(string)"/>.</summary>
        public static StreamCall PushText(GuardStream stream, string text) =>
            new StreamCall(stream, CallKind.PushText, new ArraySegment<byte>(Utf8.Encode(text, nameof(text))));

        /// <summary><see cref="GuardStream.PushText(byte[])"/>.</summary>
        public static StreamCall PushText(GuardStream stream, byte[] text) =>
            new StreamCall(stream, CallKind.PushText, GuardStream.NotNull(text));

        /// <summary><see cref="GuardStream.PushText(ArraySegment{byte})"/>.</summary>
        public static StreamCall PushText(GuardStream stream, ArraySegment<byte> text) =>
            new StreamCall(stream, CallKind.PushText, text);

        /// <summary><see cref="GuardStream.PushThinking(string)"/>.</summary>
        public static StreamCall PushThinking(GuardStream stream, string text) =>
            new StreamCall(stream, CallKind.PushThinking, new ArraySegment<byte>(Utf8.Encode(text, nameof(text))));

        /// <summary><see cref="GuardStream.PushThinking(byte[])"/>.</summary>
        public static StreamCall PushThinking(GuardStream stream, byte[] text) =>
            new StreamCall(stream, CallKind.PushThinking, GuardStream.NotNull(text));

        /// <summary><see cref="GuardStream.PushThinking(ArraySegment{byte})"/>.</summary>
        public static StreamCall PushThinking(GuardStream stream, ArraySegment<byte> text) =>
            new StreamCall(stream, CallKind.PushThinking, text);

        /// <summary><see cref="GuardStream.PushTokens(uint[])"/>.</summary>
        public static StreamCall PushTokens(GuardStream stream, params uint[] ids) => new StreamCall(stream, ids);

        /// <summary><see cref="GuardStream.PushTokens(IEnumerable{TextToken})"/>.</summary>
        public static StreamCall PushTokens(GuardStream stream, IEnumerable<TextToken> tokens) =>
            new StreamCall(stream, TextToken.Ids(tokens));

        /// <summary><see cref="GuardStream.Finish"/>.</summary>
        public static StreamCall Finish(GuardStream stream) => new StreamCall(stream, CallKind.Finish);

        /// <summary><see cref="GuardStream.Truncate"/>.</summary>
        public static StreamCall Truncate(GuardStream stream, long bytes) =>
            new StreamCall(stream, CallKind.Truncate, GuardStream.NotNegative(bytes, nameof(bytes)));

        /// <summary><see cref="GuardStream.TruncateTokens"/>.</summary>
        public static StreamCall TruncateTokens(GuardStream stream, long tokens) =>
            new StreamCall(stream, CallKind.TruncateTokens, GuardStream.NotNegative(tokens, nameof(tokens)));

        /// <summary>The call as the library takes it, good as long as the pins and the stream.</summary>
        internal unsafe qg_call Pin(IntPtr stream, ICollection<GCHandle> pins)
        {
            var raw = new qg_call { stream = stream, kind = (uint)Kind, length = (UIntPtr)(ulong)length };
            if (messages != null)
                raw.data = messages.Pin(pins);
            else if (data != null)
                raw.data = (byte*)MessageTexts.Pin(data, pins) + offset;
            return raw;
        }

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Invariant($"{Kind} of {length}");
    }
}
