using System;
using System.Collections.Generic;

namespace Qwenguard.Native
{
    /// <summary>
    /// Streams whose calls are in a queue, by their pointers. The library drops the calls of a stream that is freed, and
    /// nobody would ever hear of them; so a stream is kept until its call is back, even if it is disposed of.
    /// </summary>
    internal sealed class StreamsInQueue
    {
        private sealed class Entry
        {
            internal GuardStream Stream;
            internal StreamHandle Handle;
            internal int Calls;
        }

        private readonly Dictionary<IntPtr, Entry> entries = new Dictionary<IntPtr, Entry>();

        internal void Add(GuardStream stream)
        {
            StreamHandle handle = stream.Handle;
            lock (entries)
            {
                IntPtr pointer = handle.Hold();
                Entry entry;
                if (!entries.TryGetValue(pointer, out entry))
                    entries[pointer] = entry = new Entry { Stream = stream, Handle = handle };
                entry.Calls++;
            }
        }

        internal GuardStream Remove(IntPtr pointer)
        {
            lock (entries)
            {
                Entry entry;
                if (!entries.TryGetValue(pointer, out entry))
                    return null;
                entry.Calls--;
                if (entry.Calls == 0)
                    entries.Remove(pointer);
                entry.Handle.DangerousRelease();
                return entry.Stream;
            }
        }

        internal void RemoveAll()
        {
            lock (entries)
            {
                foreach (Entry entry in entries.Values)
                    for (; entry.Calls > 0; entry.Calls--)
                        entry.Handle.DangerousRelease();
                entries.Clear();
            }
        }
    }
}
