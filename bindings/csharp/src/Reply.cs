using System;
using Qwenguard.Native;

namespace Qwenguard
{
    /// <summary>What a call or an annotation answers.</summary>
    public sealed partial class Reply
    {
        private readonly bool isCheck;
        private readonly PromptCheck check;
        private readonly Update update;
        private readonly Annotation annotation;

        /// <summary>Takes the error and the annotation over, which may be NULL.</summary>
        internal Reply(in qg_reply raw, IntPtr annotation)
        {
            if (annotation != IntPtr.Zero)
                this.annotation = new Annotation(annotation);
            Status = (Status)raw.status;
            Message = ErrorHandle.Take(raw.error);
            isCheck = raw.is_check != 0;
            check = new PromptCheck(raw.check);
            update = new Update(raw.update);
        }

        /// <summary>Takes the error and the annotation over.</summary>
        internal Reply(in qg_annotation_result raw) :
            this(new qg_reply { status = raw.status, error = raw.error }, raw.annotation)
        {
        }

        /// <summary>How the call ended.</summary>
        public Status Status { get; }

        /// <summary>Why it failed; empty if it did not.</summary>
        public string Message { get; }

        /// <summary>The answer to a prompt or a next turn.</summary>
        /// <exception cref="QwenguardException">The call failed, or WrongState: it has another kind of answer.</exception>
        public PromptCheck GetCheck()
        {
            ThrowUnless(isCheck);
            return check;
        }

        /// <summary>The answer to all other calls of a stream.</summary>
        /// <exception cref="QwenguardException">The call failed, or WrongState: it has another kind of answer.</exception>
        public Update GetUpdate()
        {
            ThrowUnless(!isCheck && annotation == null);
            return update;
        }

        /// <summary>The answer of <see cref="Guard.AnnotateAll"/> and
        /// <see cref="CompletionQueue.Annotate(Guard, System.Collections.Generic.IEnumerable{Message}, ulong,
        /// AnnotateOptions)"/>.</summary>
        /// <exception cref="QwenguardException">It failed, or WrongState: it was a call of a stream.</exception>
        public Annotation GetAnnotation()
        {
            ThrowUnless(annotation != null);
            return annotation;
        }

        private void ThrowUnless(bool hasThis)
        {
            if (Status != Status.Ok)
                throw new QwenguardException(Status, Message);
            if (!hasThis)
                throw new QwenguardException(Status.WrongState, "the call has another kind of answer");
        }

        /// <summary>For logs: its form may change.</summary>
        public override string ToString() =>
            Status != Status.Ok ? Status + ": " + Message : annotation != null ? annotation.ToString()
                : isCheck ? check.ToString() : update.ToString();
    }
}
