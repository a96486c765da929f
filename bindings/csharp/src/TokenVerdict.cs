using Qwenguard.Native;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>One judged token of an answer.</summary>
    public readonly partial struct TokenVerdict
    {
        private readonly qg_token_verdict raw;

        internal TokenVerdict(qg_token_verdict raw)
        {
            this.raw = raw;
        }

        /// <summary>Which token of the answer, from 0. Those around thinking count but are not judged.</summary>
        public long Index => (long)raw.index;

        /// <summary>The bytes of the answer that it stands for.</summary>
        public ByteRange Bytes => new ByteRange(raw.byte_start, raw.byte_end);

        /// <summary>Its id in the guard's vocabulary.</summary>
        public uint Id => raw.token_id;

        /// <summary>Whether it is thinking.</summary>
        public Channel Channel => (Channel)raw.channel;

        /// <summary>Whether no later text can change it. A provisional token moves neither the horizon nor the
        /// decision.</summary>
        public bool IsFinal => raw.is_final != 0;

        /// <summary>What the model says about the answer up to here. Categories are those of
        /// <see cref="Heads.Answer"/>.</summary>
        public Verdict Verdict => new Verdict(raw.verdict);

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Invariant($"{Index}: {Id} in bytes {Bytes}, {Verdict}");
    }
}
