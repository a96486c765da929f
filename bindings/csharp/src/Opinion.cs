using Qwenguard.Native;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>A second opinion on an answer.</summary>
    public readonly partial struct Opinion
    {
        private readonly qg_opinion raw;

        internal Opinion(qg_opinion raw)
        {
            this.raw = raw;
        }

        /// <summary>Why it was asked for.</summary>
        public OpinionTrigger Trigger => (OpinionTrigger)raw.trigger;

        /// <summary>What came of it.</summary>
        public OpinionOutcome Outcome => (OpinionOutcome)raw.outcome;

        /// <summary>Whether what is in dispute is in the thinking.</summary>
        public Channel Channel => (Channel)raw.channel;

        /// <summary>The level that it says. Null if it could not be had.</summary>
        public Risk? Risk => raw.is_annotated == 0 ? (Risk?)null : (Risk)raw.risk;

        /// <summary>Probability of a level, 0 to 1. 0 if it could not be had.</summary>
        public unsafe float GetProbability(Risk risk)
        {
            var copy = raw;
            return (int)risk >= 0 && (int)risk < 3 ? copy.risk_probabilities[(int)risk] : 0;
        }

        /// <summary>What is in dispute. The opinion is about all of the answer up to its end, whole characters
        /// only.</summary>
        public ByteRange Bytes => new ByteRange(raw.byte_start, raw.byte_end);

        /// <summary>The first token in dispute.</summary>
        public long FirstToken => (long)raw.first_token;

        /// <summary>The last one, at which it was asked for.</summary>
        public long ConfirmingToken => (long)raw.confirming_token;

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Invariant($"{Trigger} {Outcome} in bytes {Bytes}");
    }
}
