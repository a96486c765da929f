package io.github.libqwenguard;

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
        FINISH
    }

    private static final byte[] NO_TEXT = {};
    private static final int[] NO_TOKENS = {};
    private static final Message[] NO_MESSAGES = {};

    private final GuardStream stream;
    private final Kind kind;
    private final byte[] text;
    private final int[] tokens;
    private final Message[] messages;
    private final long size;

    private Call(GuardStream stream, Kind kind, byte[] text, int[] tokens, Message[] messages) {
        this.stream = Objects.requireNonNull(stream, "stream");
        this.kind = kind;
        this.text = Objects.requireNonNull(text, "text");
        this.tokens = Objects.requireNonNull(tokens, "ids");
        this.messages = messages;
        size = text.length + (long) tokens.length * Integer.BYTES + Message.size(messages);
    }

    /** See {@link GuardStream#prompt(Message...)}. */
    public static Call prompt(GuardStream stream, Message... messages) {
        return new Call(stream, Kind.PROMPT, NO_TEXT, NO_TOKENS, messages);
    }

    /** See {@link GuardStream#nextTurn(Message...)}. */
    public static Call nextTurn(GuardStream stream, Message... messages) {
        return new Call(stream, Kind.NEXT_TURN, NO_TEXT, NO_TOKENS, messages);
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

    /** See {@link GuardStream#pushTokens}. */
    public static Call pushTokens(GuardStream stream, int... ids) {
        return new Call(stream, Kind.PUSH_TOKENS, NO_TEXT, ids, NO_MESSAGES);
    }

    /** See {@link GuardStream#finish}. */
    public static Call finish(GuardStream stream) {
        return new Call(stream, Kind.FINISH, NO_TEXT, NO_TOKENS, NO_MESSAGES);
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
                .putLong(place + Layout.Call.LENGTH, text.length + tokens.length + messages.length);
    }
}
