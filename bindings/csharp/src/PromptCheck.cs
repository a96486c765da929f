using Qwenguard.Native;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>The verdict on a prompt.</summary>
    public readonly partial struct PromptCheck
    {
        private readonly qg_prompt_check raw;

        internal PromptCheck(qg_prompt_check raw)
        {
            this.raw = raw;
        }

        /// <summary>What the policy makes of it.</summary>
        public Decision Decision => (Decision)raw.decision;

        /// <summary>What the policy found; null if no rule applies.</summary>
        public Finding? Finding => raw.has_finding == 0 ? (Finding?)null : new Finding(raw);

        /// <summary>What the model says about the message that is judged, in the light of all before it.</summary>
        public Verdict Verdict => new Verdict(raw.verdict);

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Decision + ", " + (Finding.HasValue ? Finding.ToString() : Verdict.ToString());
    }

    /// <summary>What a policy found in a prompt.</summary>
    public readonly partial struct Finding
    {
        internal Finding(qg_prompt_check raw)
        {
            Action = (PolicyAction)raw.action;
            Risk = (Risk)raw.risk;
            Category = raw.category;
            Probability = raw.probability;
        }

        /// <summary>What is to be done about it.</summary>
        public PolicyAction Action { get; }

        /// <summary>The level that it counts as.</summary>
        public Risk Risk { get; }

        /// <summary>Index of the category, among those of <see cref="Heads.Prompt"/>.</summary>
        public int Category { get; }

        /// <summary>Probability of the level, 0 to 1.</summary>
        public float Probability { get; }

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Invariant($"{Action} {Risk} {Probability}");
    }
}
