using Qwenguard.Native;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>The result of a push. Places count from the start of the answer, tags and thinking included.</summary>
    public readonly partial struct Update
    {
        private readonly qg_update raw;

        internal Update(qg_update raw)
        {
            this.raw = raw;
        }

        /// <summary>Whether the answer may go on. Once it is Stop it stays so, until the answer is cut back.</summary>
        public Decision Decision => (Decision)raw.decision;

        /// <summary>How many bytes of the answer may be shown: whole characters only, and none of a violation. It never moves
        /// back while the answer grows.</summary>
        public long Horizon => (long)raw.horizon;

        /// <summary>How many tokens of the answer are within the horizon.</summary>
        public long HorizonTokens => (long)raw.horizon_tokens;

        /// <summary>How many bytes of the answer were pushed so far.</summary>
        public long Received => (long)raw.received;

        /// <summary>How many of those a host that showed them has to take back. 0 while the answer may go on.</summary>
        public long Excess => (long)raw.excess;

        /// <summary>How many tokens of the answer are final. Those after them may merge with the next text.</summary>
        public long FinalTokens => (long)raw.final_tokens;

        /// <summary>How many tokens were judged now: <see cref="GuardStream.GetTokens"/> has their verdicts.</summary>
        public int TokenCount => (int)raw.token_count;

        /// <summary>How many places were flagged now: <see cref="GuardStream.GetFlags"/> has them.</summary>
        public int FlagCount => (int)raw.flag_count;

        /// <summary>Where the answer must stop, found now or in an earlier push.</summary>
        public Violation? Violation => raw.has_violation == 0 ? (Violation?)null : new Violation(raw.violation);

        /// <summary>From which token on, by <see cref="TokenVerdict.Index"/>, what was said earlier is void: verdicts, and
        /// flags that such a token confirmed. <see cref="GuardStream.GetTokens"/> take their place, if the answer still has as
        /// many. Where nothing is void this is how many tokens the answer had before the call, those that are not judged
        /// included.</summary>
        public long VoidFrom => (long)raw.void_from;

        /// <summary>How many second opinions were asked for: <see cref="GuardStream.GetOpinions"/> has them.</summary>
        public int OpinionCount => (int)raw.opinion_count;

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() =>
            Invariant($"{Decision}, {Horizon} of {Received} bytes") + (Violation.HasValue ? ", " + Violation : "");
    }
}
