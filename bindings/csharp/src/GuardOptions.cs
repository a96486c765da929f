using System.Diagnostics.CodeAnalysis;
using static System.FormattableString;

namespace Qwenguard
{
    /// <summary>How a guard is opened. What is not set is as the configuration says, else the default.</summary>
    public sealed partial class GuardOptions
    {
        /// <summary>Threads that compute one step, 1024 at most. 0: one per core.</summary>
        public int Threads { get; set; }

        /// <summary>Memory for keys and values of all streams together, in MiB. 0: by the machine's memory.</summary>
        public long CacheMib { get; set; }

        /// <summary>The configuration, a TOML document: policies, limits, everything else.</summary>
        [AllowNull, MaybeNull]
        public string ConfigToml { get; set; }

        /// <summary>Path of the ONNX Runtime library or of its folder.</summary>
        [AllowNull, MaybeNull]
        public string RuntimeLibrary { get; set; }

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() =>
            Invariant($"GuardOptions[Threads={Threads}, CacheMib={CacheMib}, ConfigToml={ConfigToml}, ")
            + Invariant($"RuntimeLibrary={RuntimeLibrary}]");
    }
}
