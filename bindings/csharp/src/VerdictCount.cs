using System;
using System.Collections.Generic;
using Qwenguard.Native;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>What a verdict is about, where verdicts are counted.</summary>
    public enum VerdictChannel
    {
        /// <summary>The prompt of a stream.</summary>
        Prompt = 0,
        /// <summary>A token of an answer's thinking.</summary>
        Thinking = 1,
        /// <summary>A token of what an answer says.</summary>
        Answer = 2,
        /// <summary>A whole conversation, by what the user asks.</summary>
        AnnotatedPrompt = 3,
        /// <summary>A whole conversation, by what is answered.</summary>
        AnnotatedResponse = 4,
    }

    /// <summary>How often a guard gave a verdict of one channel, level and category, and what policies made of it.</summary>
    public readonly partial struct VerdictCount
    {
        private readonly qg_verdict_count raw;

        internal VerdictCount(qg_verdict_count raw)
        {
            this.raw = raw;
        }

        /// <summary>What was judged.</summary>
        public VerdictChannel Channel => (VerdictChannel)raw.channel;

        /// <summary>The level: of a verdict the most probable one, of a stop or a flag the one that it counts as.</summary>
        public Risk Risk => (Risk)raw.risk;

        /// <summary>Index among the categories of Heads.Prompt for prompts and annotated prompts, else of Heads.Answer; null
        /// of safe verdicts, and where none is known.</summary>
        public int? Category => raw.category < 0 ? (int?)null : raw.category;

        /// <summary>Final verdicts: one for each prompt, for each token of an answer and for each annotation. Tokens that are
        /// judged again after an answer was cut back count again.</summary>
        public long Verdicts => (long)raw.verdicts;

        /// <summary>How often the host was told to stop: a prompt, an answer or an annotation whose decision became
        /// Stop.</summary>
        public long Stops => (long)raw.stops;

        /// <summary>What was reported and let the answer go on, and in shadow mode what would have stopped.</summary>
        public long Flags => (long)raw.flags;

        /// <summary>For logs: its form may change.</summary>
        public override string ToString()
        {
            string of = Category.HasValue ? " " + Category : "";
            return Invariant($"{Channel} {Risk}{of}: {Verdicts} verdicts, {Stops} stops, {Flags} flags");
        }
    }

    public sealed partial class Guard
    {
        /// <summary>How often the guard gave which verdict, and what policies made of it: an element for each channel, level
        /// and category that there was. <see cref="GetMetrics"/> has the same with names.</summary>
        public unsafe IReadOnlyList<VerdictCount> GetVerdictCounts()
        {
            qg_verdict_count[] raw;
            int count = 64;
            do
            {
                raw = new qg_verdict_count[count];
                UIntPtr found;
                IntPtr error;
                fixed (qg_verdict_count* pointer = raw)
                    QwenguardException.ThrowIfFailed(
                        NativeMethods.qg_guard_verdict_counts(Handle, pointer, (UIntPtr)raw.Length, &found, out error),
                        error);
                count = (int)found;
            }
            while (count > raw.Length);
            var counts = new VerdictCount[count];
            for (int index = 0; index < count; index++)
                counts[index] = new VerdictCount(raw[index]);
            return counts;
        }
    }
}
