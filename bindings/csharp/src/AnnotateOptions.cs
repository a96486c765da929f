using Qwenguard.Native;

namespace Qwenguard
{
    /// <summary>How conversations are annotated.</summary>
    public sealed partial class AnnotateOptions
    {
        /// <summary>How the verdict is had of a model that writes it.</summary>
        public Decoding Decoding { get; set; } = Decoding.Constrained;

        /// <summary>What happens to a conversation that does not fit the model's context.</summary>
        public TextOverflow Overflow { get; set; } = TextOverflow.Refuse;

        /// <summary>Null means the defaults.</summary>
        internal static unsafe qg_annotate_options Raw(AnnotateOptions options)
        {
            options = options ?? new AnnotateOptions();
            return new qg_annotate_options
            {
                struct_size = (uint)sizeof(qg_annotate_options),
                decoding = (uint)options.Decoding,
                overflow = (uint)options.Overflow,
            };
        }

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() => Decoding + ", " + Overflow;
    }
}
