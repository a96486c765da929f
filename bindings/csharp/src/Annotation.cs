using System.Diagnostics.CodeAnalysis;
using System;
using System.Collections.Generic;
using Qwenguard.Native;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>The verdict on a whole conversation: a value, which needs no guard any more and is not disposed of.</summary>
    public sealed partial class Annotation
    {
        private static readonly AnnotationHandle None = new AnnotationHandle(IntPtr.Zero);

        private readonly AnnotationHandle handle;
        private readonly qg_annotation_info info;
        private readonly string[] names;

        /// <summary>Takes an annotation of the library over.</summary>
        internal unsafe Annotation(IntPtr pointer)
        {
            handle = new AnnotationHandle(pointer);
            qg_annotation_info read;
            IntPtr error;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_annotation_get(handle, &read, out error), error);
            info = read;
            names = new string[info.mode_category_count];
            for (uint index = 0; index < names.Length; index++)
            {
                byte* name;
                QwenguardException.ThrowIfFailed(
                    NativeMethods.qg_annotation_category_name(handle, index, &name, out error), error);
                names[index] = Utf8.Decode(name);
            }
            IntPtr answer;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_annotation_answer(handle, out answer, out error), error);
            Answer = TextHandle.Take(answer);
            Judgement = Judge("");
            Categories = Named(read);
            CategoryProbabilities = Probabilities(read);
        }

        /// <summary>What was judged.</summary>
        public AnnotationMode Mode => (AnnotationMode)info.mode;

        /// <summary>The level; of equally probable ones the gravest.</summary>
        public Risk Risk => (Risk)info.risk;

        /// <summary>The categories that are named, in the order in which the model names them.</summary>
        public IReadOnlyList<string> Categories { get; }

        /// <summary>Probability of each category of the mode of being named first, in the model's order. With
        /// <see cref="NoneProbability"/> they sum to 1. Null where that was not decided, as where the level is Safe.</summary>
        [MaybeNull]
        public IReadOnlyList<KeyValuePair<string, float>> CategoryProbabilities { get; }

        /// <summary>Probability that no category is named. 0 where that was not decided.</summary>
        public float NoneProbability => info.none_probability;

        /// <summary>Whether the answer refuses; null where that is not known, as for prompts.</summary>
        public bool? Refusal => info.refusal < 0 ? (bool?)null : info.refusal == 1;

        /// <summary>Probability that the answer refuses; null where that was not decided.</summary>
        public float? RefusalProbability =>
            info.has_refusal_probability == 0 ? (float?)null : info.refusal_probability;

        /// <summary>Whether all lines of the answer could be read. False with Decoding.Free only: a level that is missing
        /// counts as the gravest.</summary>
        public bool IsParsed => info.parsed != 0;

        /// <summary>What the model writes; empty if it writes nothing.</summary>
        public string Answer { get; }

        /// <summary>Which bytes of the last message were judged.</summary>
        public ByteRange Judged => new ByteRange(info.judged_start, info.judged_end);

        /// <summary>Whether that is a part of it only: see <see cref="TextOverflow"/>.</summary>
        public bool IsCut => info.is_cut != 0;

        /// <summary>How many windows of it were judged.</summary>
        public int Windows => (int)info.windows;

        /// <summary>How many tokens the model writes its answer to. 0 if it writes nothing.</summary>
        public int IdCount => (int)info.id_count;

        /// <summary>What the policy of the guard makes of it.</summary>
        public Judgement Judgement { get; }

        /// <summary>Probability of a level, 0 to 1; null with Decoding.Free.</summary>
        public unsafe float? GetProbability(Risk risk)
        {
            if (risk < Risk.Safe || risk > Risk.Unsafe)
                throw new ArgumentOutOfRangeException(nameof(risk), risk, "there is no such level");
            qg_annotation_info copy = info;
            return copy.has_risk_probabilities == 0 ? (float?)null : copy.risk_probabilities[(int)risk];
        }

        /// <summary>The line that qwenguard annotate writes, without an id.</summary>
        public string GetJson()
        {
            IntPtr json, error;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_annotation_json(handle, out json, out error), error);
            return TextHandle.Take(json);
        }

        /// <summary>What another policy makes of it, without the model.</summary>
        /// <param name="policyToml">A TOML document; an empty one means the guard's policy.</param>
        /// <exception cref="QwenguardException">Config: the policy is wrong, or names a category that the model does not
        /// have.</exception>
        public unsafe Judgement Judge(string policyToml)
        {
            byte[] policy = Utf8.Encode(policyToml, nameof(policyToml));
            qg_judgement judgement;
            IntPtr rule, error;
            fixed (byte* bytes = policy)
                QwenguardException.ThrowIfFailed(
                    NativeMethods.qg_annotation_judge(
                        handle, bytes, (UIntPtr)policy.Length, &judgement, out rule, out error),
                    error);
            return new Judgement(judgement, TextHandle.Take(rule), names);
        }

        /// <summary>The reward of a response for reinforcement learning.</summary>
        /// <param name="ruleToml">A TOML document: form ("guard" or "hybrid"), controversial_is_safe, safe, not_safe,
        /// not_safe_cap and refusal_cap. An empty one means the defaults: 1 if the response is safe, 0 if not.</param>
        /// <param name="helpfulness">The score of a reward model, which the form "guard" has no use for.</param>
        /// <param name="thinking">The annotation of its thinking, judged as a response of its own, or null: the response is
        /// safe if both say so.</param>
        /// <exception cref="QwenguardException">Config: the rule is wrong. Argument: an annotation is of a prompt, the score
        /// is needed and is no finite number, or it matters whether the response refuses and that is not known.</exception>
        public unsafe double GetReward(
            string ruleToml = "", double helpfulness = 0, [AllowNull] Annotation thinking = null)
        {
            byte[] rule = Utf8.Encode(ruleToml, nameof(ruleToml));
            double reward;
            IntPtr error;
            fixed (byte* bytes = rule)
                QwenguardException.ThrowIfFailed(
                    NativeMethods.qg_annotation_reward(
                        handle, thinking == null ? None : thinking.handle, bytes, (UIntPtr)rule.Length, helpfulness,
                        &reward, out error),
                    error);
            return reward;
        }

        private unsafe string[] Named(qg_annotation_info raw)
        {
            var named = new string[raw.category_count];
            for (int index = 0; index < named.Length; index++)
                named[index] = names[raw.categories[index]];
            return named;
        }

        private unsafe KeyValuePair<string, float>[] Probabilities(qg_annotation_info raw)
        {
            if (raw.has_category_probabilities == 0)
                return null;
            var probabilities = new KeyValuePair<string, float>[names.Length];
            for (int index = 0; index < names.Length; index++)
                probabilities[index] = new KeyValuePair<string, float>(names[index], raw.category_probabilities[index]);
            return probabilities;
        }

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Mode + " " + Risk + " [" + string.Join(", ", Categories) + "]";
    }

    /// <summary>What a policy makes of an annotation.</summary>
    public sealed partial class Judgement
    {
        internal Judgement(in qg_judgement raw, string rule, string[] names)
        {
            Decision = (Decision)raw.decision;
            Finding = raw.has_finding == 0 ? null : new AnnotationFinding(raw, rule, names);
        }

        /// <summary>What is to be done.</summary>
        public Decision Decision { get; }

        /// <summary>What the policy found; null if no rule applies.</summary>
        [MaybeNull]
        public AnnotationFinding Finding { get; }

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Finding == null ? Decision.ToString() : Decision + ", " + Finding;
    }

    /// <summary>What a policy found in an annotation.</summary>
    public sealed partial class AnnotationFinding
    {
        internal AnnotationFinding(in qg_judgement raw, string rule, string[] names)
        {
            Action = (PolicyAction)raw.action;
            Risk = (Risk)raw.risk;
            Category = raw.category < 0 ? null : names[raw.category];
            Probability = raw.probability;
            Rule = rule;
        }

        /// <summary>What is to be done about it.</summary>
        public PolicyAction Action { get; }

        /// <summary>The level that it counts as.</summary>
        public Risk Risk { get; }

        /// <summary>The category whose rule applies, or that is named; null if none is known.</summary>
        [MaybeNull]
        public string Category { get; }

        /// <summary>Probability of the level, 0 to 1.</summary>
        public float Probability { get; }

        /// <summary>The rule that applies, by the names of its settings, such as "answer.strict".</summary>
        public string Rule { get; }

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Invariant($"{Action} {Risk} {Probability}, {Rule}");
    }
}
