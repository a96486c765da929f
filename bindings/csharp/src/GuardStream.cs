using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Qwenguard.Native;

namespace Qwenguard
{
    /// <summary>
    /// One conversation being moderated. It has one user at a time and may move between threads; a call that finds another
    /// one going on fails with Status InUse. Dispose may come at any time, and takes effect when no call is going on.
    /// All calls may throw QwenguardException with Status Busy, Expired, OutOfMemory, Inference, EngineStopped or InUse.
    /// Expired is what every call but those that only tell something throws once the stream was not used for the
    /// engine.idle_seconds of the configuration.
    /// </summary>
    public sealed partial class GuardStream : IDisposable
    {
        /// <summary>Pushes judge few tokens: these are copied without asking for their number.</summary>
        private const int UsualTokens = 8;

        private readonly StreamHandle handle;

        internal GuardStream(IntPtr pointer)
        {
            handle = new StreamHandle(pointer);
        }

        internal StreamHandle Handle
        {
            get
            {
                handle.ThrowIfDisposed(nameof(GuardStream));
                return handle;
            }
        }

        /// <summary>Gives the conversation, and judges its last message of the user; with <c>prompt.roles = ["user",
        /// "tool"]</c> in the policy the last message of either role. A message of the assistant at the end is the
        /// beginning of the answer, which is not judged.</summary>
        /// <exception cref="QwenguardException">Conversation: there is no message to judge, the template refuses the
        /// messages, or it leaves one out, as it does with roles that it does not know: the error names role and index,
        /// counted from 0. ContextFull: the prompt is longer than the model's context.</exception>
        public PromptCheck Prompt(params Message[] messages) => Check(CallKind.Prompt, messages);

        /// <summary>As <see cref="Prompt(Message[])"/>.</summary>
        public PromptCheck Prompt(IEnumerable<Message> messages) => Check(CallKind.Prompt, messages);

        /// <summary>Goes on with the conversation after <see cref="Finish"/>: the messages so far, the answer as it was
        /// pushed, and these messages. The last of the user is judged, as <see cref="Prompt(Message[])"/>
        /// says.</summary>
        /// <exception cref="QwenguardException">WrongState before the end of the answer; else as for
        /// <see cref="Prompt(Message[])"/>.</exception>
        public PromptCheck NextTurn(params Message[] messages) => Check(CallKind.NextTurn, messages);

        /// <summary>As <see cref="NextTurn(Message[])"/>.</summary>
        public PromptCheck NextTurn(IEnumerable<Message> messages) => Check(CallKind.NextTurn, messages);

        /// <summary>Gives the next piece of the answer's text, and judges its tokens. After Decision Stop further text is
        /// still judged: stopping is yours to do.</summary>
        /// <exception cref="ArgumentException">Half a surrogate pair: give both halves at once, or UTF-8 bytes, which may
        /// be cut anywhere.</exception>
        /// <exception cref="QwenguardException">WrongState before the prompt, after tokens or after the end of the answer.
        /// Argument: the text is not UTF-8 or has more than 1 MiB. ContextFull: it does not fit the model's
        /// context.</exception>
        public Update PushText(string text) => Push(CallKind.PushText, text);

        /// <summary>As <see cref="PushText(string)"/>, in UTF-8. It may begin and end inside a character.</summary>
        public Update PushText(byte[] text) => Push(CallKind.PushText, NotNull(text));

        /// <summary>As <see cref="PushText(byte[])"/>.</summary>
        public Update PushText(ArraySegment<byte> text) => Push(CallKind.PushText, text);

        /// <summary>As <see cref="PushText(string)"/>, for a piece of thinking from a host that knows it as such. The first
        /// PushText ends the thinking.</summary>
        /// <exception cref="QwenguardException">As for <see cref="PushText(string)"/>; WrongState also if the answer has
        /// begun already or the template has no place for thinking.</exception>
        public Update PushThinking(string text) => Push(CallKind.PushThinking, text);

        /// <summary>As <see cref="PushThinking(string)"/>, in UTF-8. It may begin and end inside a character.</summary>
        public Update PushThinking(byte[] text) => Push(CallKind.PushThinking, NotNull(text));

        /// <summary>As <see cref="PushThinking(byte[])"/>.</summary>
        public Update PushThinking(ArraySegment<byte> text) => Push(CallKind.PushThinking, text);

        /// <summary>Gives the next tokens of the answer, from a model with the guard's own vocabulary, and judges each of
        /// them.</summary>
        /// <exception cref="QwenguardException">Argument for an id that is no token. WrongState before the prompt, after
        /// text or after the end of the answer. ContextFull: they do not fit the model's context.</exception>
        public unsafe Update PushTokens(params uint[] ids)
        {
            if (ids == null)
                throw new ArgumentNullException(nameof(ids));
            fixed (uint* pointer = ids)
                return Push(pointer, ids.Length);
        }

        /// <summary>As <see cref="PushTokens(uint[])"/>, with what <see cref="Guard.Encode"/> gives.</summary>
        public Update PushTokens(IEnumerable<TextToken> tokens) => PushTokens(TextToken.Ids(tokens));

#if NETSTANDARD2_1_OR_GREATER || NET
        /// <summary>As <see cref="PushText(byte[])"/>.</summary>
        public unsafe Update PushText(ReadOnlySpan<byte> text)
        {
            fixed (byte* pointer = &MemoryMarshal.GetReference(text))
                return Push(CallKind.PushText, pointer, text.Length);
        }

        /// <summary>As <see cref="PushThinking(byte[])"/>.</summary>
        public unsafe Update PushThinking(ReadOnlySpan<byte> text)
        {
            fixed (byte* pointer = &MemoryMarshal.GetReference(text))
                return Push(CallKind.PushThinking, pointer, text.Length);
        }

        /// <summary>As <see cref="PushTokens(uint[])"/>.</summary>
        public unsafe Update PushTokens(ReadOnlySpan<uint> ids)
        {
            fixed (uint* pointer = &MemoryMarshal.GetReference(ids))
                return Push(pointer, ids.Length);
        }
#endif

        /// <summary>Says that the answer is complete: what was provisional becomes final.</summary>
        /// <exception cref="QwenguardException">WrongState before the prompt or after the end of the answer. Argument: the
        /// text ends inside a character.</exception>
        public unsafe Update Finish()
        {
            qg_update update;
            IntPtr error;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_stream_finish(Handle, &update, out error), error);
            return new Update(update);
        }

        /// <summary>Cuts the answer back to its first bytes, as if nothing after them had ever come.</summary>
        /// <exception cref="QwenguardException">Argument: the answer is shorter, or that is inside a character or, for
        /// pushed tokens, inside a token. WrongState before the prompt.</exception>
        public unsafe Update Truncate(long bytes)
        {
            NotNegative(bytes, nameof(bytes));
            qg_update update;
            IntPtr error;
            QwenguardException.ThrowIfFailed(
                NativeMethods.qg_stream_truncate(Handle, (UIntPtr)(ulong)bytes, &update, out error), error);
            return new Update(update);
        }

        /// <summary>Cuts the answer back to its first tokens, as <see cref="TokenVerdict.Index"/> counts them.</summary>
        /// <exception cref="QwenguardException">As for <see cref="Truncate"/>; Argument also if its text has no place
        /// between characters there.</exception>
        public unsafe Update TruncateTokens(long tokens)
        {
            NotNegative(tokens, nameof(tokens));
            qg_update update;
            IntPtr error;
            QwenguardException.ThrowIfFailed(
                NativeMethods.qg_stream_truncate_tokens(Handle, (UIntPtr)(ulong)tokens, &update, out error), error);
            return new Update(update);
        }

        /// <summary>Gives another stream with the same conversation so far, which goes its own way from here. What is common
        /// is computed and kept once.</summary>
        /// <exception cref="QwenguardException">Busy: as many streams are open as the configuration allows.</exception>
        public GuardStream Fork()
        {
            IntPtr fork, error;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_stream_fork(Handle, out fork, out error), error);
            return new GuardStream(fork);
        }

        /// <summary>How many tokens of the model's context the conversation uses so far, those of the template
        /// included.</summary>
        public unsafe long GetContextUsed()
        {
            UIntPtr tokens;
            IntPtr error;
            QwenguardException.ThrowIfFailed(
                NativeMethods.qg_stream_context_used(Handle, &tokens, out error), error);
            return (long)tokens;
        }

        /// <summary>The tokens that the last update judged, in order. None if the last call that succeeded had no
        /// update.</summary>
        public unsafe TokenVerdict[] GetTokens()
        {
            qg_token_verdict* usual = stackalloc qg_token_verdict[UsualTokens];
            int count = CopyTokens(usual, UsualTokens);
            var tokens = new TokenVerdict[count];
            if (count <= UsualTokens)
                for (int index = 0; index < count; index++)
                    tokens[index] = new TokenVerdict(usual[index]);
            else
                fixed (TokenVerdict* pointer = tokens)
                    CopyTokens((qg_token_verdict*)pointer, count);
            return tokens;
        }

        /// <summary>The places that the last update found flagged, in order.</summary>
        public unsafe Violation[] GetFlags()
        {
            var flags = new Violation[CopyFlags(null, 0)];
            if (flags.Length > 0)
                fixed (Violation* pointer = flags)
                    CopyFlags((qg_violation*)pointer, flags.Length);
            return flags;
        }

        /// <summary>The second opinions that the last update asked for, in order.</summary>
        public unsafe Opinion[] GetOpinions()
        {
            var opinions = new Opinion[CopyOpinions(null, 0)];
            if (opinions.Length > 0)
                fixed (Opinion* pointer = opinions)
                    CopyOpinions((qg_opinion*)pointer, opinions.Length);
            return opinions;
        }

        /// <summary>What one of <see cref="GetOpinions"/> says, judged by the policy's rules for its channel. Its categories are
        /// those of the guard that was asked.</summary>
        /// <exception cref="QwenguardException">Argument: there is no such opinion. Of an opinion that could not be had, that
        /// for which it could not.</exception>
        public Annotation GetOpinionAnnotation(int opinion)
        {
            NotNegative(opinion, nameof(opinion));
            IntPtr annotation, error;
            QwenguardException.ThrowIfFailed(
                NativeMethods.qg_stream_opinion_annotation(Handle, (UIntPtr)(uint)opinion, out annotation, out error), error);
            return new Annotation(annotation);
        }

        /// <summary>The rule of the policy that fired, such as "answer.strict: 2 consecutive": for the violation of the last
        /// update, or for what the last prompt's check found.</summary>
        /// <exception cref="QwenguardException">WrongState: the last call that succeeded found nothing.</exception>
        public string GetRule()
        {
            IntPtr rule, error;
            QwenguardException.ThrowIfFailed(NativeMethods.qg_stream_rule(Handle, out rule, out error), error);
            return TextHandle.Take(rule);
        }

        /// <summary>The rule behind one of <see cref="GetFlags"/>.</summary>
        /// <exception cref="QwenguardException">Argument: there is no such flag.</exception>
        public string GetFlagRule(int flag)
        {
            NotNegative(flag, nameof(flag));
            IntPtr rule, error;
            QwenguardException.ThrowIfFailed(
                NativeMethods.qg_stream_flag_rule(Handle, (UIntPtr)(uint)flag, out rule, out error), error);
            return TextHandle.Take(rule);
        }

        /// <summary>Makes a call of each of many streams, which the model takes together, and waits for all of them. Replies
        /// are in the order of the calls. One that fails leaves the others alone, and its Status tells.</summary>
        public static IReadOnlyList<Reply> CallAll(IReadOnlyList<StreamCall> calls)
        {
            if (calls == null)
                throw new ArgumentNullException(nameof(calls));
            LibraryLoader.EnsureLoaded();
            using (var pinned = new PinnedCalls(calls))
                return MakeCalls(pinned.Raw);
        }

        /// <summary>Gives the stream back. A call that is going on ends as it would.</summary>
        public void Dispose()
        {
            handle.Dispose();
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static unsafe Reply[] MakeCalls(qg_call[] calls)
        {
            var raw = new qg_reply[calls.Length];
            IntPtr error;
            fixed (qg_call* callPointer = calls)
            fixed (qg_reply* replyPointer = raw)
                QwenguardException.ThrowIfFailed(
                    NativeMethods.qg_streams_call(callPointer, (UIntPtr)calls.Length, replyPointer, out error), error);
            return Array.ConvertAll(raw, reply => new Reply(reply, IntPtr.Zero));
        }

        private unsafe PromptCheck Check(CallKind kind, IEnumerable<Message> messages)
        {
            var texts = new MessageTexts(messages);
            var pins = new List<GCHandle>();
            try
            {
                qg_prompt_check check;
                IntPtr error;
                var raw = (qg_message*)texts.Pin(pins);
                var count = (UIntPtr)texts.Count;
                int status = kind == CallKind.Prompt
                    ? NativeMethods.qg_stream_prompt(Handle, raw, count, &check, out error)
                    : NativeMethods.qg_stream_next_turn(Handle, raw, count, &check, out error);
                QwenguardException.ThrowIfFailed(status, error);
                return new PromptCheck(check);
            }
            finally
            {
                foreach (GCHandle pin in pins)
                    pin.Free();
            }
        }

        internal static long NotNegative(long value, string argument)
        {
            if (value < 0)
                throw new ArgumentOutOfRangeException(argument, value, argument + " is negative");
            return value;
        }

        internal static ArraySegment<byte> NotNull(byte[] text)
        {
            if (text == null)
                throw new ArgumentNullException(nameof(text));
            return new ArraySegment<byte>(text);
        }

        private unsafe Update Push(CallKind kind, string text)
        {
            if (text == null)
                throw new ArgumentNullException(nameof(text));
            if (text.Length > Utf8.StackCharacters)
                return Push(kind, new ArraySegment<byte>(Utf8.Encode(text, nameof(text))));
            byte* bytes = stackalloc byte[Utf8.StackBytes];
            return Push(kind, bytes, Utf8.Encode(text, bytes, nameof(text)));
        }

        private unsafe Update Push(CallKind kind, ArraySegment<byte> text)
        {
            fixed (byte* bytes = text.Array)
                return Push(kind, bytes + text.Offset, text.Count);
        }

        private unsafe Update Push(CallKind kind, byte* text, int length)
        {
            qg_update update;
            IntPtr error;
            int status = kind == CallKind.PushText
                ? NativeMethods.qg_stream_push_text(Handle, text, (UIntPtr)length, &update, out error)
                : NativeMethods.qg_stream_push_thinking(Handle, text, (UIntPtr)length, &update, out error);
            QwenguardException.ThrowIfFailed(status, error);
            return new Update(update);
        }

        private unsafe Update Push(uint* ids, int count)
        {
            qg_update update;
            IntPtr error;
            QwenguardException.ThrowIfFailed(
                NativeMethods.qg_stream_push_tokens(Handle, ids, (UIntPtr)count, &update, out error), error);
            return new Update(update);
        }

        private unsafe int CopyTokens(qg_token_verdict* tokens, int capacity)
        {
            UIntPtr count;
            IntPtr error;
            QwenguardException.ThrowIfFailed(
                NativeMethods.qg_stream_tokens(Handle, tokens, (UIntPtr)capacity, &count, out error), error);
            return (int)count;
        }

        private unsafe int CopyOpinions(qg_opinion* opinions, int capacity)
        {
            UIntPtr count;
            IntPtr error;
            QwenguardException.ThrowIfFailed(
                NativeMethods.qg_stream_opinions(Handle, opinions, (UIntPtr)capacity, &count, out error), error);
            return (int)count;
        }

        private unsafe int CopyFlags(qg_violation* flags, int capacity)
        {
            UIntPtr count;
            IntPtr error;
            QwenguardException.ThrowIfFailed(
                NativeMethods.qg_stream_flags(Handle, flags, (UIntPtr)capacity, &count, out error), error);
            return (int)count;
        }
    }
}
