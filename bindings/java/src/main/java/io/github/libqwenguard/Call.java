package io.github.libqwenguard;

import java.util.Collection;
import java.util.List;
import java.util.Objects;

/** One call of a stream, for {@link GuardStream#callAll} and {@link CompletionQueue}. */
public final class Call {
    /** What to do, by the numbers of the C interface. */
    enum Kind {
        PROMPT,
        NEXT_TURN,
        PUSH_TEXT,
        PUSH_THINKING,
        PUSH_TOKENS,
        FINISH,
        TRUNCATE,
        TRUNCATE_TOKENS
    }

    private static final byte[] NO_TEXT = {};
    private static final int[] NO_TOKENS = {};
    private static final Message[] NO_MESSAGES = {};

    private final GuardStream stream;
    private final Kind kind;
    private final byte[] text;
    private final int[] tokens;
    private final Message[] messages;
    /** How much of the answer stays. */
    private final long keep;
    private final long size;

    private Call(GuardStream stream, Kind kind, byte[] text, int[] tokens, Message[] messages) {
        this.stream = Objects.requireNonNull(stream, "stream");
        this.kind = kind;
        this.text = Objects.requireNonNull(text, "text");
        this.tokens = Objects.requireNonNull(tokens, "ids");
        this.messages = messages;
        keep = 0;
        size = text.length + (long) tokens.length * Integer.BYTES + Message.size(messages);
    }

    private Call(GuardStream stream, Kind kind, String argument, long keep) {
        this.stream = Objects.requireNonNull(stream, "stream");
        this.kind = kind;
        GuardStream.notNegative(argument, keep);
        this.keep = keep;
        text = NO_TEXT;
        tokens = NO_TOKENS;
        messages = NO_MESSAGES;
        size = 0;
    }

    /** See {@link GuardStream#prompt(Message...)}. */
    public static Call prompt(GuardStream stream, Message... messages) {
        return new Call(stream, Kind.PROMPT, NO_TEXT, NO_TOKENS, messages);
    }

    /** See {@link GuardStream#prompt(Collection)}. */
    public static Call prompt(GuardStream stream, Collection<Message> messages) {
        return prompt(stream, Message.array(messages));
    }

    /** See {@link GuardStream#nextTurn(Message...)}. */
    public static Call nextTurn(GuardStream stream, Message... messages) {
        return new Call(stream, Kind.NEXT_TURN, NO_TEXT, NO_TOKENS, messages);
    }

    /** See {@link GuardStream#nextTurn(Collection)}. */
    public static Call nextTurn(GuardStream stream, Collection<Message> messages) {
        return nextTurn(stream, Message.array(messages));
    }

    /** See {@link GuardStream#pushText(String)}. */
    public static Call pushText(GuardStream stream, String text) {
        return pushText(stream, Utf8.encode("text", text));
    }

    /** See {@link GuardStream#pushText(byte[])}. */
    public static Call pushText(GuardStream stream, byte[] text) {
        return new Call(stream, Kind.PUSH_TEXT, text, NO_TOKENS, NO_MESSAGES);
    }

    /** See {@link GuardStream#pushThinking(String)}. */
    public static Call pushThinking(GuardStream stream, String text) {
        return pushThinking(stream, Utf8.encode("text", text));
    }

    /** See {@link GuardStream#pushThinking(byte[])}. */
    public static Call pushThinking(GuardStream stream, byte[] text) {
        return new Call(stream, Kind.PUSH_THINKING, text, NO_TOKENS, NO_MESSAGES);
    }

    /** See {@link GuardStream#pushTokens(int...)}. */
    public static Call pushTokens(GuardStream stream, int... ids) {
        return new Call(stream, Kind.PUSH_TOKENS, NO_TEXT, ids, NO_MESSAGES);
    }

    /** See {@link GuardStream#pushTokens(List)}. */
    public static Call pushTokens(GuardStream stream, List<TextToken> tokens) {
        return pushTokens(stream, TextToken.ids(tokens));
    }

    /** See {@link GuardStream#finish}. */
    public static Call finish(GuardStream stream) {
        return new Call(stream, Kind.FINISH, NO_TEXT, NO_TOKENS, NO_MESSAGES);
    }

    /** See {@link GuardStream#truncate}. */
    public static Call truncate(GuardStream stream, long bytes) {
        return new Call(stream, Kind.TRUNCATE, "bytes", bytes);
    }

    /** See {@link GuardStream#truncateTokens}. */
    public static Call truncateTokens(GuardStream stream, long tokens) {
        return new Call(stream, Kind.TRUNCATE_TOKENS, "tokens", tokens);
    }

    /** The stream that is called. */
    public GuardStream stream() {
        return stream;
    }

    /** How many bytes what it takes needs; a multiple of 8, so that what comes after it is aligned. */
    long size() {
        return (size + 7) & -8;
    }

    /** Writes the call to one place, and what it takes to another. */
    void write(Frame frame, int place, int data) {
        frame.put(data, text);
        frame.put(data, tokens);
        Message.write(messages, frame, data);
        frame.memory
                .putLong(place + Layout.Call.STREAM, stream.handle().raw())
                .putInt(place + Layout.Call.KIND, kind.ordinal())
                .putInt(place + Layout.Call.RESERVED, 0)
                .putLong(place + Layout.Call.DATA, frame.at(data))
                .putLong(place + Layout.Call.LENGTH, text.length + tokens.length + messages.length + keep);
    }

    /** What is called, without the text of the conversation, which has no place in a log. */
    @Override
    public String toString() {
        return kind + " of " + size + " bytes";
    }
}
