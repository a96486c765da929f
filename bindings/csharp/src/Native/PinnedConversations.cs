using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Qwenguard.Native
{
    /// <summary>Conversations as the library takes them. Until Dispose their messages stay where they are.</summary>
    internal sealed class PinnedConversations : IDisposable
    {
        private readonly List<GCHandle> pins = new List<GCHandle>();

        internal unsafe PinnedConversations(IEnumerable<IEnumerable<Message>> conversations)
        {
            var raw = new List<qg_conversation>();
            try
            {
                foreach (IEnumerable<Message> messages in conversations)
                {
                    var texts = new MessageTexts(messages);
                    raw.Add(new qg_conversation
                    {
                        messages = (qg_message*)texts.Pin(pins),
                        message_count = (UIntPtr)texts.Count,
                    });
                }
            }
            catch
            {
                Dispose();
                throw;
            }
            Raw = raw.ToArray();
        }

        internal qg_conversation[] Raw { get; }

        public void Dispose()
        {
            foreach (GCHandle pin in pins)
                pin.Free();
            pins.Clear();
        }
    }
}
