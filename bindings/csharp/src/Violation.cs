using Qwenguard.Native;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>Where an answer turned.</summary>
    public readonly partial struct Violation
    {
        private readonly qg_violation raw;

        internal Violation(qg_violation raw)
        {
            this.raw = raw;
        }

        /// <summary>What is to be done about it.</summary>
        public PolicyAction Action => (PolicyAction)raw.action;

        /// <summary>Whether it is in the thinking.</summary>
        public Channel Channel => (Channel)raw.channel;

        /// <summary>The level that it counts as.</summary>
        public Risk Risk => (Risk)raw.risk;

        /// <summary>Index of the category, among those of <see cref="Heads.Answer"/>.</summary>
        public int Category => raw.category;

        /// <summary>Probability of the level, 0 to 1.</summary>
        public float Probability => raw.probability;

        /// <summary>From where the first token that counts begins to where the confirming one ends.</summary>
        public ByteRange Bytes => new ByteRange(raw.byte_start, raw.byte_end);

        /// <summary>The first token that counts.</summary>
        public long FirstToken => (long)raw.first_token;

        /// <summary>The token that confirmed it. Level, category and probability are those of its verdict, or of
        /// what a second opinion confirmed at it.</summary>
        public long ConfirmingToken => (long)raw.confirming_token;

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Invariant($"{Action} {Risk} {Probability} in bytes {Bytes}");
    }
}
