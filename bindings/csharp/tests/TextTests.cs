using System;
using System.Linq;
using System.Text;

namespace Qwenguard.Tests
{
    public static class TextTests
    {
        /// <summary>Latin, a NUL, a character outside the basic plane, combining marks.</summary>
        private const string Text = "Grüße\0 \U0001F600 e\u0301 日本語 end.";

        public static void AllKindsOfPushesAreTheSame()
        {
            byte[] bytes = Encoding.UTF8.GetBytes(Text);
            byte[] longer = new byte[] { 0xff }.Concat(bytes).Concat(new byte[] { 0xff }).ToArray();
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream text = Samples.OpenPrompted(guard))
            {
                string wanted = Samples.Describe(text.PushText(Text));
                Check.Contains(" " + bytes.Length + " ", wanted);
                Action<Func<GuardStream, Update>> gives = push =>
                {
                    using (GuardStream stream = Samples.OpenPrompted(guard))
                        Check.Equal(wanted, Samples.Describe(push(stream)), "update");
                };
                gives(stream => stream.PushText(bytes));
                gives(stream => stream.PushText(new ArraySegment<byte>(longer, 1, bytes.Length)));
                gives(stream => stream.PushTextAsync(Text).Result);
                gives(stream => stream.PushTextAsync(bytes).Result);
                gives(stream => stream.PushTextAsync(new ArraySegment<byte>(longer, 1, bytes.Length)).Result);
                gives(stream => Call(StreamCall.PushText(stream, Text)));
                gives(stream => Call(StreamCall.PushText(stream, bytes)));
                gives(stream => Call(StreamCall.PushText(stream, new ArraySegment<byte>(longer, 1, bytes.Length))));
#if NETSTANDARD2_1_OR_GREATER || NET
                gives(stream => stream.PushText(new ReadOnlySpan<byte>(longer, 1, bytes.Length)));
#endif
            }
        }

        public static void AllKindsOfThinkingAreTheSame()
        {
            byte[] bytes = Encoding.UTF8.GetBytes(Text);
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream text = Samples.OpenPrompted(guard))
            {
                string wanted = Samples.Describe(text.PushThinking(Text));
                Check.Equal(Channel.Thinking, text.GetTokens()[0].Channel, "channel");
                Action<Func<GuardStream, Update>> gives = push =>
                {
                    using (GuardStream stream = Samples.OpenPrompted(guard))
                        Check.Equal(wanted, Samples.Describe(push(stream)), "update");
                };
                gives(stream => stream.PushThinking(bytes));
                gives(stream => stream.PushThinking(new ArraySegment<byte>(bytes)));
                gives(stream => stream.PushThinkingAsync(Text).Result);
                gives(stream => stream.PushThinkingAsync(bytes).Result);
                gives(stream => stream.PushThinkingAsync(new ArraySegment<byte>(bytes)).Result);
                gives(stream => Call(StreamCall.PushThinking(stream, Text)));
                gives(stream => Call(StreamCall.PushThinking(stream, bytes)));
                gives(stream => Call(StreamCall.PushThinking(stream, new ArraySegment<byte>(bytes))));
#if NETSTANDARD2_1_OR_GREATER || NET
                gives(stream => stream.PushThinking(new ReadOnlySpan<byte>(bytes)));
#endif
            }
        }

        public static void AllKindsOfTokensAreTheSame()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream text = Samples.OpenPrompted(guard))
            {
                uint[] ids = guard.Encode(Samples.Harmful).Select(token => token.Id).ToArray();
                string wanted = Samples.Describe(text.PushTokens(ids));
                Check.Equal(ids.Length, text.GetTokens().Length, "tokens");
                Check.That(text.GetTokens().All(token => token.IsFinal), "they are final");
                Action<Func<GuardStream, Update>> gives = push =>
                {
                    using (GuardStream stream = Samples.OpenPrompted(guard))
                        Check.Equal(wanted, Samples.Describe(push(stream)), "update");
                };
                gives(stream => stream.PushTokensAsync(ids).Result);
                gives(stream => Call(StreamCall.PushTokens(stream, ids)));
#if NETSTANDARD2_1_OR_GREATER || NET
                gives(stream => stream.PushTokens(new ReadOnlySpan<uint>(ids)));
#endif
            }
        }

        public static void CharactersMayBeCutAsBytes()
        {
            byte[] bytes = Encoding.UTF8.GetBytes(Text);
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream whole = Samples.OpenPrompted(guard))
            using (GuardStream pieces = Samples.OpenPrompted(guard))
            {
                whole.PushText(Text);
                Update update = default(Update);
                foreach (byte one in bytes)
                {
                    update = pieces.PushText(new[] { one });
                    string shown = new UTF8Encoding(false, true).GetString(bytes, 0, (int)update.Horizon);
                    Check.That(Text.StartsWith(shown, StringComparison.Ordinal), "the horizon is between characters");
                }
                Check.Equal((long)bytes.Length, update.Received, "received");
                Check.Equal(whole.Finish().Horizon, pieces.Finish().Horizon, "horizon");
            }
        }

        public static void BytesThatAreNotUtf8AreRefused()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = Samples.OpenPrompted(guard))
            {
                stream.PushText("ok ");
                Check.Fails(Status.Argument, () => stream.PushText(new byte[] { 0x61, 0xff }), "byte 4");
                stream.PushText(new byte[] { 0xe2, 0x82 });
                Check.Fails(Status.Argument, () => stream.Finish(), "byte 3");
                Check.Equal(6L, stream.PushText(new byte[] { 0xac }).Received, "received");
                stream.Finish();
            }
        }

        public static void HalfASurrogatePairIsRefused()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream stream = Samples.OpenPrompted(guard))
            {
                string half = "ab\ud83d", longHalf = new string('a', 5000) + "\ude00";
                Check.Throws<ArgumentException>(() => stream.PushText(half), "index 2");
                Check.Throws<ArgumentException>(() => stream.PushText(longHalf), "index 5000");
                Check.Throws<ArgumentException>(() => stream.PushThinking(half), "text");
                Check.Throws<ArgumentException>(() => stream.PushTextAsync(half), "text");
                Check.Throws<ArgumentException>(() => stream.Prompt(Message.User(half)), "messages");
                Check.Throws<ArgumentException>(() => guard.Encode(half), "text");
                Check.Throws<ArgumentException>(() => guard.OpenStream(half), "policyToml");
                Check.Throws<ArgumentException>(() => Guard.Open(half), "bundle");
                Check.Throws<ArgumentException>(() => Guard.OpenNano(new GuardOptions { ConfigToml = half }), "ConfigToml");
                Check.Equal(4L, stream.PushText("\U0001F600").Received, "received");
            }
        }

        /// <summary>Around the length from which strings are encoded elsewhere, with characters of the most bytes.</summary>
        public static void StringsOfAllLengths()
        {
            using (Guard guard = Samples.OpenGuard())
                foreach (int length in new[] { 0, 1, 127, 128, 129, 300 })
                    using (GuardStream stream = Samples.OpenPrompted(guard))
                        Check.Equal(3L * length, stream.PushText(new string('語', length)).Received, "received");
        }

        public static void MessagesHoldAnything()
        {
            using (Guard guard = Samples.OpenGuard())
            using (GuardStream one = guard.OpenStream())
            using (GuardStream other = guard.OpenStream())
            {
                one.Prompt(Message.System(""), Message.User(Text), Message.Assistant("Ja\0"), Message.User("<|im_end|>"));
                other.Prompt(Message.User(Text));
                Check.That(one.GetContextUsed() > other.GetContextUsed() + 5, "they count");
                Check.Fails(Status.Conversation, () => one.Prompt(), "user");
            }
        }

        private static Update Call(StreamCall call)
        {
            return GuardStream.CallAll(new[] { call })[0].GetUpdate();
        }
    }
}
