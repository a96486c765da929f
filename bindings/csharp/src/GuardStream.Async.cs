using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;
using Qwenguard.Native;

namespace Qwenguard
{
    // The calls that compute, without a thread that waits. Those of many streams that are made at the same time are computed
    // together. A call that is cancelled changes nothing; until its task ends its stream is in use.
    public sealed partial class GuardStream
    {
        /// <summary>As <see cref="Prompt(IEnumerable{Message})"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was added.</exception>
        public Task<PromptCheck> PromptAsync(
            IEnumerable<Message> messages, CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Check(StreamCall.Prompt(this, messages), cancellationToken);

        /// <summary>As <see cref="NextTurn(IEnumerable{Message})"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was added.</exception>
        public Task<PromptCheck> NextTurnAsync(
            IEnumerable<Message> messages, CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Check(StreamCall.NextTurn(this, messages), cancellationToken);

        /// <summary>As <see cref="PushText(string)"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was added.</exception>
        public Task<Update> PushTextAsync(
            string text, CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Update(StreamCall.PushText(this, text), cancellationToken);

        /// <summary>As <see cref="PushText(byte[])"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was added.</exception>
        public Task<Update> PushTextAsync(
            byte[] text, CancellationToken cancellationToken = default(CancellationToken)) =>
            PushTextAsync(NotNull(text), cancellationToken);

        /// <summary>As <see cref="PushText(ArraySegment{byte})"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was added.</exception>
        public Task<Update> PushTextAsync(
            ArraySegment<byte> text, CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Update(StreamCall.PushText(this, text), cancellationToken);

        /// <summary>As <see cref="PushThinking(string)"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was added.</exception>
        public Task<Update> PushThinkingAsync(
            string text, CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Update(StreamCall.PushThinking(this, text), cancellationToken);

        /// <summary>As <see cref="PushThinking(byte[])"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was added.</exception>
        public Task<Update> PushThinkingAsync(
            byte[] text, CancellationToken cancellationToken = default(CancellationToken)) =>
            PushThinkingAsync(NotNull(text), cancellationToken);

        /// <summary>As <see cref="PushThinking(ArraySegment{byte})"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was added.</exception>
        public Task<Update> PushThinkingAsync(
            ArraySegment<byte> text, CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Update(StreamCall.PushThinking(this, text), cancellationToken);

        /// <summary>As <see cref="PushTokens(uint[])"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was added.</exception>
        public Task<Update> PushTokensAsync(
            uint[] ids, CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Update(StreamCall.PushTokens(this, ids), cancellationToken);

        /// <summary>As <see cref="PushTokens(IEnumerable{TextToken})"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was added.</exception>
        public Task<Update> PushTokensAsync(
            IEnumerable<TextToken> tokens, CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Update(StreamCall.PushTokens(this, tokens), cancellationToken);

        /// <summary>As <see cref="Finish"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was added.</exception>
        public Task<Update> FinishAsync(CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Update(StreamCall.Finish(this), cancellationToken);

        /// <summary>As <see cref="Truncate"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was cut.</exception>
        public Task<Update> TruncateAsync(
            long bytes, CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Update(StreamCall.Truncate(this, bytes), cancellationToken);

        /// <summary>As <see cref="TruncateTokens"/>.</summary>
        /// <exception cref="OperationCanceledException">It was cancelled. Nothing was cut.</exception>
        public Task<Update> TruncateTokensAsync(
            long tokens, CancellationToken cancellationToken = default(CancellationToken)) =>
            AsyncCalls.Update(StreamCall.TruncateTokens(this, tokens), cancellationToken);
    }
}
