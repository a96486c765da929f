package io.github.libqwenguard;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * One conversation being moderated: light, one user at a time. It may move between threads; a call that finds another one
 * going on fails with {@link Status#IN_USE} and does nothing.
 *
 * <p>Any call that computes may fail with BUSY if too many tokens wait, OUT_OF_MEMORY, INFERENCE or ENGINE_STOPPED. Every call
 * but those that only tell something fails with EXPIRED once the stream was not used for the engine.idle_seconds of the
 * configuration. A call that fails changes nothing. Methods fail with an {@link IllegalStateException} once the stream is
 * closed.
 *
 * <p>Methods whose names end with Async make the same calls, and no thread waits for the model. Whatever such a call fails
 * with, its future has, but for arguments that could never be right, which are thrown. What depends on the future runs in the
 * pool that {@link CompletableFuture} has for this. The call is cancelled, also while the model computes it, when its future
 * is cancelled or completed by somebody else: nothing was added then. Until the call came back, which is soon, the stream is
 * in use for all calls but further Async ones, which wait for that.
 */
public final class GuardStream implements AutoCloseable {
    /** How many tokens or flags of an update there is room for at first. */
    private static final int USUAL = 64;

    private final Handle handle;
    /** Whether a {@link CompletionQueue} has a call of it. */
    final AtomicBoolean queued = new AtomicBoolean();
    /** Done when the last call that was given up came back; null if none was. */
    volatile CompletableFuture<Void> leaving;

    GuardStream(long raw) {
        handle = new Handle(this, "stream", raw, Native.get()::streamFree);
    }

    Handle handle() {
        return handle;
    }

    /**
     * Gives the conversation, and judges its last message of the user; with {@code prompt.roles = ["user", "tool"]} in the
     * policy the last message of either role. A message of the assistant at the end is the beginning of the answer: it is
     * given to the model but not judged. On a stream that had a prompt this starts the next turn.
     *
     * @throws QwenguardException CONVERSATION if there is no message to judge, the template refuses the messages, or it
     *     leaves one out, as it does with roles that it does not know: the error names role and index, counted from 0;
     *     CONTEXT_FULL; IN_USE
     */
    public PromptCheck prompt(Message... messages) {
        try (Frame frame = handle.enter(this, Message.size(messages))) {
            Message.write(messages, frame, Frame.IN);
            return frame.outCheck(Native.get().streamPrompt(
                    frame.raw(), frame.in(), messages.length, frame.out(), frame.error()));
        }
    }

    /** As {@link #prompt(Message...)}. */
    public PromptCheck prompt(Collection<Message> messages) {
        return prompt(Message.array(messages));
    }

    /**
     * Goes on with the conversation after {@link #finish}: the messages so far, the answer as it was pushed, and these
     * messages. The last of the user is judged, as {@link #prompt(Message...)} says.
     *
     * @throws QwenguardException WRONG_STATE before the end of the answer; CONVERSATION also if the answer came as tokens
     *     and is not UTF-8; and as {@link #prompt(Message...)}
     */
    public PromptCheck nextTurn(Message... messages) {
        try (Frame frame = handle.enter(this, Message.size(messages))) {
            Message.write(messages, frame, Frame.IN);
            return frame.outCheck(Native.get().streamNextTurn(
                    frame.raw(), frame.in(), messages.length, frame.out(), frame.error()));
        }
    }

    /** As {@link #nextTurn(Message...)}. */
    public PromptCheck nextTurn(Collection<Message> messages) {
        return nextTurn(Message.array(messages));
    }

    /**
     * Gives the next piece of the answer's text, and judges its tokens. Thinking between {@code <think>} and
     * {@code </think>} at the answer's beginning is judged by the policy's rules for thinking. After {@link Decision#STOP}
     * further text is still judged: stopping is yours to do.
     *
     * @throws IllegalArgumentException if it has half a surrogate pair: cut text as bytes instead
     * @throws QwenguardException as {@link #pushText(byte[])}
     */
    public Update pushText(String text) {
        return pushText(Utf8.encode("text", text));
    }

    /**
     * Gives the next piece of the answer's text in UTF-8. It may begin and end anywhere, even inside a character.
     *
     * @throws QwenguardException ARGUMENT if the text is not UTF-8 (the message says at which byte of the answer), has more
     *     than 1 MiB, or the bundle's tokenizer cannot take text in pieces; WRONG_STATE before the prompt, after tokens or
     *     after the end of the answer; CONTEXT_FULL; IN_USE
     */
    public Update pushText(byte[] text) {
        Objects.requireNonNull(text, "text");
        try (Frame frame = handle.enter(this, text.length)) {
            frame.put(Frame.IN, text);
            return frame.outUpdate(Native.get().streamPushText(
                    frame.raw(), frame.in(), text.length, frame.out(), frame.error()));
        }
    }

    /**
     * As {@link #pushText(String)}, for a piece of thinking from a host that knows it as such: no tag in it means anything.
     *
     * @throws IllegalArgumentException if it has half a surrogate pair
     * @throws QwenguardException as {@link #pushThinking(byte[])}
     */
    public Update pushThinking(String text) {
        return pushThinking(Utf8.encode("text", text));
    }

    /**
     * As {@link #pushText(byte[])}, for a piece of thinking.
     *
     * @throws QwenguardException as {@link #pushText(byte[])}; WRONG_STATE also if the answer has begun already or the
     *     template has no place for thinking
     */
    public Update pushThinking(byte[] text) {
        Objects.requireNonNull(text, "text");
        try (Frame frame = handle.enter(this, text.length)) {
            frame.put(Frame.IN, text);
            return frame.outUpdate(Native.get().streamPushThinking(
                    frame.raw(), frame.in(), text.length, frame.out(), frame.error()));
        }
    }

    /**
     * Gives the next tokens of the answer, from a model with the guard's own vocabulary, and judges each of them. Errors name an
     * id without its sign: -1 is 4294967295.
     *
     * @throws QwenguardException ARGUMENT for an id that is no token; WRONG_STATE before the prompt, after text or after the
     *     end of the answer; CONTEXT_FULL; IN_USE
     */
    public Update pushTokens(int... ids) {
        Objects.requireNonNull(ids, "ids");
        try (Frame frame = handle.enter(this, (long) ids.length * Integer.BYTES)) {
            frame.put(Frame.IN, ids);
            return frame.outUpdate(Native.get().streamPushTokens(
                    frame.raw(), frame.in(), ids.length, frame.out(), frame.error()));
        }
    }

    /** As {@link #pushTokens(int...)}, with what {@link Guard#encode(String)} gives. */
    public Update pushTokens(List<TextToken> tokens) {
        return pushTokens(TextToken.ids(tokens));
    }

    /**
     * Says that the answer is complete: what was provisional becomes final. Nothing can be pushed afterwards.
     *
     * @throws QwenguardException WRONG_STATE before the prompt or after the end of the answer; ARGUMENT if the text ends
     *     inside a character (the message says at which byte); CONTEXT_FULL; IN_USE
     */
    public Update finish() {
        try (Frame frame = handle.enter(this, 0)) {
            return frame.outUpdate(Native.get().streamFinish(frame.raw(), frame.out(), frame.error()));
        }
    }

    /**
     * Cuts the answer back to its first bytes, as if nothing after them had ever come; a violation after them is forgotten.
     *
     * @throws QwenguardException ARGUMENT if the answer is shorter, or that is inside a character or, for pushed tokens,
     *     inside a token; WRONG_STATE before the prompt; IN_USE
     */
    public Update truncate(long bytes) {
        notNegative("bytes", bytes);
        try (Frame frame = handle.enter(this, 0)) {
            return frame.outUpdate(Native.get().streamTruncate(frame.raw(), bytes, frame.out(), frame.error()));
        }
    }

    /**
     * As {@link #truncate}, to the answer's first tokens, as {@link TokenVerdict#index} counts them.
     *
     * @throws QwenguardException as {@link #truncate}; ARGUMENT also if its text has no place between characters there
     */
    public Update truncateTokens(long tokens) {
        notNegative("tokens", tokens);
        try (Frame frame = handle.enter(this, 0)) {
            return frame.outUpdate(Native.get().streamTruncateTokens(frame.raw(), tokens, frame.out(), frame.error()));
        }
    }

    static void notNegative(String argument, long value) {
        if (value < 0) {
            throw new IllegalArgumentException(argument + ": " + value + " is negative");
        }
    }

    /**
     * Another stream with the same conversation so far, which goes its own way from here. It shares the cache of what is
     * common, so that several drafts of an answer cost their own tokens only.
     *
     * @throws QwenguardException BUSY if as many streams are open as the configuration allows; IN_USE
     */
    public GuardStream fork() {
        SafetyNet.sweep();
        try (Frame frame = handle.enter(this, 0)) {
            frame.check(Native.get().streamFork(frame.raw(), frame.out(), frame.error()));
            return new GuardStream(frame.outLong());
        }
    }

    /** How many tokens of the model's context the conversation uses so far, those of the template included. */
    public long contextUsed() {
        try (Frame frame = handle.enter(this, 0)) {
            frame.check(Native.get().streamContextUsed(frame.raw(), frame.out(), frame.error()));
            return frame.outLong();
        }
    }

    /** The tokens that the last update judged, in order; none if the last call that succeeded had no update. */
    public List<TokenVerdict> tokens() {
        List<TokenVerdict> tokens = new ArrayList<>();
        read(Native.get()::streamTokens, Layout.TokenVerdict.SIZE,
                (frame, place) -> tokens.add(TokenVerdict.read(frame.memory, place)));
        return tokens;
    }

    /** The places that the last update found flagged. */
    public List<Violation> flags() {
        List<Violation> flags = new ArrayList<>();
        read(Native.get()::streamFlags, Layout.Violation.SIZE,
                (frame, place) -> flags.add(Violation.read(frame.memory, place)));
        return flags;
    }

    /** The second opinions that the last update asked for. */
    public List<Opinion> opinions() {
        List<Opinion> opinions = new ArrayList<>();
        read(Native.get()::streamOpinions, Layout.Opinion.SIZE,
                (frame, place) -> opinions.add(Opinion.read(frame.memory, place)));
        return opinions;
    }

    /**
     * What one of the opinions of the last update says, in the order of {@link #opinions}, judged by the policy's rules for its
     * channel. Its categories are those of the guard that was asked.
     *
     * @throws QwenguardException ARGUMENT if there is no such opinion; of one that could not be had, that for which it could not
     */
    public Annotation opinionAnnotation(int opinion) {
        notNegative("opinion", opinion);
        try (Frame frame = handle.enter(this, 0)) {
            frame.check(Native.get().streamOpinionAnnotation(frame.raw(), opinion, frame.out(), frame.error()));
            return new Annotation(frame.outLong());
        }
    }

    private interface Copy {
        int copy(long stream, long array, long capacity, long count, long error);
    }

    private interface Element {
        void read(Frame frame, int place);
    }

    /** Reads an array of the last update: in one call, if it is not longer than what is usual. */
    private void read(Copy copy, int size, Element element) {
        long count = USUAL;
        for (long capacity = 0; capacity < count; ) {
            capacity = count;
            try (Frame frame = handle.enter(this, capacity * size)) {
                frame.check(copy.copy(frame.raw(), frame.in(), capacity, frame.out(), frame.error()));
                count = frame.outLong();
                for (int index = 0; index < count && count <= capacity; index++) {
                    element.read(frame, Frame.IN + index * size);
                }
            }
        }
    }

    /**
     * The rule of the policy that fired, by the names of its settings, such as "answer.strict: 2 consecutive": for the
     * violation of the last update, or for what the last prompt's verdict found.
     *
     * @throws QwenguardException WRONG_STATE if the last call that succeeded found nothing; IN_USE
     */
    public String rule() {
        try (Frame frame = handle.enter(this, 0)) {
            return frame.outText(Native.get().streamRule(frame.raw(), frame.out(), frame.error()));
        }
    }

    /**
     * The rule behind one of the flags of the last update, in the order of {@link #flags}.
     *
     * @throws QwenguardException ARGUMENT if there is no such flag; IN_USE
     */
    public String flagRule(int flag) {
        notNegative("flag", flag);
        try (Frame frame = handle.enter(this, 0)) {
            return frame.outText(Native.get().streamFlagRule(frame.raw(), flag, frame.out(), frame.error()));
        }
    }

    /** As {@link #prompt(Message...)}, without waiting. */
    public CompletableFuture<PromptCheck> promptAsync(Message... messages) {
        return AsyncCalls.make(Call.prompt(this, messages.clone()), Reply::check);
    }

    /** As {@link #prompt(Collection)}, without waiting. */
    public CompletableFuture<PromptCheck> promptAsync(Collection<Message> messages) {
        return promptAsync(Message.array(messages));
    }

    /** As {@link #nextTurn(Message...)}, without waiting. */
    public CompletableFuture<PromptCheck> nextTurnAsync(Message... messages) {
        return AsyncCalls.make(Call.nextTurn(this, messages.clone()), Reply::check);
    }

    /** As {@link #nextTurn(Collection)}, without waiting. */
    public CompletableFuture<PromptCheck> nextTurnAsync(Collection<Message> messages) {
        return nextTurnAsync(Message.array(messages));
    }

    /** As {@link #pushText(String)}, without waiting. */
    public CompletableFuture<Update> pushTextAsync(String text) {
        return AsyncCalls.make(Call.pushText(this, text), Reply::update);
    }

    /** As {@link #pushText(byte[])}, without waiting. */
    public CompletableFuture<Update> pushTextAsync(byte[] text) {
        return AsyncCalls.make(Call.pushText(this, text.clone()), Reply::update);
    }

    /** As {@link #pushThinking(String)}, without waiting. */
    public CompletableFuture<Update> pushThinkingAsync(String text) {
        return AsyncCalls.make(Call.pushThinking(this, text), Reply::update);
    }

    /** As {@link #pushThinking(byte[])}, without waiting. */
    public CompletableFuture<Update> pushThinkingAsync(byte[] text) {
        return AsyncCalls.make(Call.pushThinking(this, text.clone()), Reply::update);
    }

    /** As {@link #pushTokens(int...)}, without waiting. */
    public CompletableFuture<Update> pushTokensAsync(int... ids) {
        return AsyncCalls.make(Call.pushTokens(this, ids.clone()), Reply::update);
    }

    /** As {@link #pushTokens(List)}, without waiting. */
    public CompletableFuture<Update> pushTokensAsync(List<TextToken> tokens) {
        return AsyncCalls.make(Call.pushTokens(this, tokens), Reply::update);
    }

    /** As {@link #finish}, without waiting. */
    public CompletableFuture<Update> finishAsync() {
        return AsyncCalls.make(Call.finish(this), Reply::update);
    }

    /** As {@link #truncate}, without waiting. */
    public CompletableFuture<Update> truncateAsync(long bytes) {
        return AsyncCalls.make(Call.truncate(this, bytes), Reply::update);
    }

    /** As {@link #truncateTokens}, without waiting. */
    public CompletableFuture<Update> truncateTokensAsync(long tokens) {
        return AsyncCalls.make(Call.truncateTokens(this, tokens), Reply::update);
    }

    /**
     * Makes a call of each of many streams, which the model takes together, and waits for all of them. That is much faster
     * than one after the other.
     *
     * @return replies in the order of the calls; one that fails leaves the others alone
     */
    public static List<Reply> callAll(Collection<Call> calls) {
        return CallAll.make(Objects.requireNonNull(calls, "calls").toArray(new Call[0]));
    }

    /**
     * Frees the stream, at once or when the calls that use it are over, one in a {@link CompletionQueue} too. Closing it
     * again does nothing.
     */
    @Override
    public void close() {
        handle.close();
    }
}
