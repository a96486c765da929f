#if __MonoCS__
using System;
using System.Runtime.CompilerServices;

// Mono's compiler knows nothing of nullable references. What others write by themselves, so that programs see it: every
// reference in these types is of something, but for those that an attribute says otherwise of.
namespace System.Runtime.CompilerServices
{
    [AttributeUsage(AttributeTargets.Class | AttributeTargets.Delegate | AttributeTargets.Struct, Inherited = false)]
    internal sealed class NullableContextAttribute : Attribute
    {
        public readonly byte Flag;

        public NullableContextAttribute(byte flag)
        {
            Flag = flag;
        }
    }
}

namespace Qwenguard
{
    [NullableContext(1)]
    partial class AnnotateOptions { }

    [NullableContext(1)]
    partial class Annotation { }

    [NullableContext(1)]
    partial class AnnotationFinding { }

    [NullableContext(1)]
    partial struct ByteRange { }

    [NullableContext(1)]
    partial class Completion { }

    [NullableContext(1)]
    partial class CompletionQueue { }

    [NullableContext(1)]
    partial struct Finding { }

    [NullableContext(1)]
    partial class Guard { }

    [NullableContext(1)]
    partial class GuardLog { }

    [NullableContext(1)]
    partial class GuardOptions { }

    [NullableContext(1)]
    partial struct GuardStats { }

    [NullableContext(1)]
    partial class GuardStream { }

    [NullableContext(1)]
    partial class Judgement { }

    [NullableContext(1)]
    partial struct Message { }

    [NullableContext(1)]
    partial class Names { }

    [NullableContext(1)]
    partial class NativeLibraryVersion { }

    [NullableContext(1)]
    partial struct Opinion { }

    [NullableContext(1)]
    partial struct PromptCheck { }

    [NullableContext(1)]
    partial class QwenguardException { }

    [NullableContext(1)]
    partial class Reply { }

    [NullableContext(1)]
    partial class StreamCall { }

    [NullableContext(1)]
    partial struct TextToken { }

    [NullableContext(1)]
    partial struct TokenVerdict { }

    [NullableContext(1)]
    partial struct Update { }

    [NullableContext(1)]
    partial struct Verdict { }

    [NullableContext(1)]
    partial struct VerdictCount { }

    [NullableContext(1)]
    partial struct Violation { }
}
#endif
