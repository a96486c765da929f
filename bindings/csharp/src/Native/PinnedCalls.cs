using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Qwenguard.Native
{
    /// <summary>Calls as the library takes them. Until Dispose their data stays where it is and their streams live.</summary>
    internal sealed class PinnedCalls : IDisposable
    {
        private readonly List<GCHandle> pins = new List<GCHandle>();
        private readonly List<StreamHandle> held = new List<StreamHandle>();

        internal PinnedCalls(IReadOnlyList<StreamCall> calls)
        {
            Raw = new qg_call[calls.Count];
            try
            {
                for (int index = 0; index < Raw.Length; index++)
                    Raw[index] = Pin(calls[index]);
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        internal qg_call[] Raw { get; }

        public void Dispose()
        {
            foreach (GCHandle pin in pins)
                pin.Free();
            foreach (StreamHandle stream in held)
                stream.DangerousRelease();
            pins.Clear();
            held.Clear();
        }

        private qg_call Pin(StreamCall call)
        {
            if (call == null)
                throw new ArgumentNullException(nameof(call));
            StreamHandle stream = call.Stream.Handle;
            IntPtr pointer = stream.Hold();
            held.Add(stream);
            return call.Pin(pointer, pins);
        }
    }
}
