using System.Diagnostics.CodeAnalysis;
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Qwenguard.Native;

namespace Qwenguard
{
    // Whole conversations that are there already; what is being written a stream judges.
    public sealed partial class Guard
    {
        /// <summary>Judges a whole conversation: what is asked, if the last message is the user's, else what is answered.
        /// </summary>
        /// <exception cref="QwenguardException">Conversation: there is no message, the template refuses one or leaves out a
        /// part of it, or there is nothing to judge. ContextFull: conversation and answer do not fit the model's
        /// context.</exception>
        public unsafe Annotation Annotate(IEnumerable<Message> messages, [AllowNull] AnnotateOptions options = null)
        {
            IntPtr annotation = IntPtr.Zero;
            using (var pinned = new PinnedConversations(new[] { messages }))
            {
                qg_annotate_options raw = AnnotateOptions.Raw(options);
                IntPtr error;
                QwenguardException.ThrowIfFailed(
                    NativeMethods.qg_guard_annotate(
                        Handle, pinned.Raw[0].messages, pinned.Raw[0].message_count, &raw, out annotation, out error),
                    error);
            }
            return new Annotation(annotation);
        }

        /// <summary>Judges a whole conversation, with the default options.</summary>
        public Annotation Annotate(params Message[] messages) => Annotate((IEnumerable<Message>)messages);

        /// <summary>Judges many conversations together and waits for all of them, which is much faster than one after the
        /// other. Replies are in their order; one that fails leaves the others alone.</summary>
        public unsafe IReadOnlyList<Reply> AnnotateAll(
            IEnumerable<IEnumerable<Message>> conversations, [AllowNull] AnnotateOptions options = null)
        {
            if (conversations == null)
                throw new ArgumentNullException(nameof(conversations));
            using (var pinned = new PinnedConversations(conversations))
            {
                qg_annotate_options raw = AnnotateOptions.Raw(options);
                var results = new qg_annotation_result[pinned.Raw.Length];
                IntPtr error;
                fixed (qg_conversation* first = pinned.Raw)
                fixed (qg_annotation_result* result = results)
                    QwenguardException.ThrowIfFailed(
                        NativeMethods.qg_guard_annotate_all(
                            Handle, first, (UIntPtr)results.Length, &raw, result, out error),
                        error);
                var replies = new Reply[results.Length];
                for (int index = 0; index < replies.Length; index++)
                    replies[index] = new Reply(results[index]);
                return replies;
            }
        }

        /// <summary>As <see cref="Annotate(IEnumerable{Message}, AnnotateOptions)"/>, without a thread that waits. Those that
        /// are made at the same time are computed together.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled.</exception>
        public Task<Annotation> AnnotateAsync(
            IEnumerable<Message> messages, [AllowNull] AnnotateOptions options = null,
            CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Annotate(this, messages, options, cancellationToken);

        /// <summary>Begins to annotate in a queue of the library.</summary>
        internal unsafe void Annotate(
            QueueHandle queue, IEnumerable<Message> messages, AnnotateOptions options, ulong tag, ulong milliseconds)
        {
            using (var pinned = new PinnedConversations(new[] { messages }))
            {
                qg_annotate_options raw = AnnotateOptions.Raw(options);
                IntPtr error;
                QwenguardException.ThrowIfFailed(
                    NativeMethods.qg_queue_annotate(
                        queue, Handle, pinned.Raw[0].messages, pinned.Raw[0].message_count, &raw, tag, milliseconds,
                        out error),
                    error);
            }
        }
    }
}
