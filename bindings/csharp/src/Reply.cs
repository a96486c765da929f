using Qwenguard.Native;

namespace Qwenguard
{
    /// <summary>What a call answers.</summary>
    public sealed class Reply
    {
        private readonly bool isCheck;
        private readonly PromptCheck check;
        private readonly Update update;

        /// <summary>Takes the error over.</summary>
        internal Reply(in qg_reply raw)
        {
            Status = (Status)raw.status;
            Message = ErrorHandle.Take(raw.error);
            isCheck = raw.is_check != 0;
            check = new PromptCheck(raw.check);
            update = new Update(raw.update);
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

        /// <summary>The answer to all other calls.</summary>
        /// <exception cref="QwenguardException">The call failed, or WrongState: it has another kind of answer.</exception>
        public Update GetUpdate()
        {
            ThrowUnless(!isCheck);
            return update;
        }

        private void ThrowUnless(bool hasThis)
        {
            if (Status != Status.Ok)
                throw new QwenguardException(Status, Message);
            if (!hasThis)
                throw new QwenguardException(Status.WrongState, "the call has another kind of answer");
        }
    }
}
