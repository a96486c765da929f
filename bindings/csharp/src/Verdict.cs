using System;
using Qwenguard.Native;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>What the model says at one position.</summary>
    public readonly partial struct Verdict
    {
        private readonly qg_verdict raw;

        internal Verdict(qg_verdict raw)
        {
            this.raw = raw;
        }

        /// <summary>The most probable level.</summary>
        public Risk Risk => (Risk)raw.risk;

        /// <summary>Index of the most probable category, see <see cref="Guard.GetCategories"/>; null while the risk is
        /// Safe.</summary>
        public int? Category => raw.category < 0 ? (int?)null : raw.category;

        /// <summary>Probability of a level, 0 to 1. Those of all levels sum to 1.</summary>
        public unsafe float GetProbability(Risk risk)
        {
            if (risk < Risk.Safe || risk > Risk.Unsafe)
                throw new ArgumentOutOfRangeException(nameof(risk), risk, "there is no such level");
            qg_verdict copy = raw;
            return copy.risk_probabilities[(int)risk];
        }

        /// <summary>Probability of each category, 0 to 1, by index. They sum to 1 whatever the risk, and mean nothing while
        /// it is Safe.</summary>
        public unsafe float[] GetCategoryProbabilities()
        {
            qg_verdict copy = raw;
            var probabilities = new float[copy.category_count];
            for (int index = 0; index < probabilities.Length; index++)
                probabilities[index] = copy.category_probabilities[index];
            return probabilities;
        }

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() =>
            Risk < Risk.Safe || Risk > Risk.Unsafe ? Risk.ToString() : Invariant($"{Risk} {GetProbability(Risk)}");
    }
}
