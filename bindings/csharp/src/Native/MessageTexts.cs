using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.InteropServices;

namespace Qwenguard.Native
{
    /// <summary>Messages as the library takes them: pointers into one buffer.</summary>
    internal sealed class MessageTexts
    {
        private readonly byte[] texts;
        private readonly qg_message[] messages;

        internal MessageTexts(IEnumerable<Message> messages)
        {
            if (messages == null)
                throw new ArgumentNullException(nameof(messages));
            var raw = new List<qg_message>();
            using (var buffer = new MemoryStream())
            {
                foreach (Message message in messages)
                    raw.Add(new qg_message
                    {
                        role_length = Append(buffer, message.Role, nameof(messages)),
                        content_length = Append(buffer, message.Content, nameof(messages)),
                    });
                texts = buffer.ToArray();
            }
            this.messages = raw.ToArray();
        }

        internal int Count => messages.Length;

        /// <summary>Gives an array of qg_message that is good as long as the pins.</summary>
        internal unsafe void* Pin(ICollection<GCHandle> pins)
        {
            byte* text = (byte*)Pin(texts, pins);
            for (int index = 0; index < messages.Length; index++)
            {
                messages[index].role = text;
                text += (ulong)messages[index].role_length;
                messages[index].content = text;
                text += (ulong)messages[index].content_length;
            }
            return (void*)Pin(messages, pins);
        }

        internal static IntPtr Pin(Array array, ICollection<GCHandle> pins)
        {
            GCHandle pin = GCHandle.Alloc(array, GCHandleType.Pinned);
            pins.Add(pin);
            return pin.AddrOfPinnedObject();
        }

        private static UIntPtr Append(MemoryStream buffer, string text, string argument)
        {
            byte[] bytes = Utf8.Encode(text, argument);
            buffer.Write(bytes, 0, bytes.Length);
            return (UIntPtr)bytes.Length;
        }
    }
}
