package io.github.libqwenguard;

import java.nio.charset.StandardCharsets;
import java.util.Collection;
import java.util.Objects;

/** A message of a conversation. Special tokens in it, such as {@code <|im_end|>}, are text. */
public final class Message {
    private final byte[] role;
    private final byte[] content;

    private Message(String role, String content) {
        this.role = Utf8.encode("role", role);
        this.content = Utf8.encode("content", content);
    }

    /**
     * @param role "system" or "developer", which is the same, "user", "assistant", "tool" or what else the model's template
     *     knows: exactly so
     * @param content the text
     * @throws IllegalArgumentException if either has half a surrogate pair
     */
    public static Message of(String role, String content) {
        return new Message(role, content);
    }

    public static Message system(String content) {
        return of("system", content);
    }

    public static Message user(String content) {
        return of("user", content);
    }

    public static Message assistant(String content) {
        return of("assistant", content);
    }

    public String role() {
        return new String(role, StandardCharsets.UTF_8);
    }

    public String content() {
        return new String(content, StandardCharsets.UTF_8);
    }

    static Message[] array(Collection<Message> messages) {
        return Objects.requireNonNull(messages, "messages").toArray(new Message[0]);
    }

    /** How many bytes {@link #write} needs. */
    static long size(Message[] messages) {
        long size = 0;
        for (Message message : Objects.requireNonNull(messages, "messages")) {
            Objects.requireNonNull(message, "messages");
            size += Layout.Message.SIZE + message.role.length + message.content.length;
        }
        return size;
    }

    static void write(Message[] messages, Frame frame, int place) {
        int text = place + messages.length * Layout.Message.SIZE;
        for (Message message : messages) {
            frame.putPointer(place + Layout.Message.ROLE, text, message.role);
            text += message.role.length;
            frame.putPointer(place + Layout.Message.CONTENT, text, message.content);
            text += message.content.length;
            place += Layout.Message.SIZE;
        }
    }

    @Override
    public String toString() {
        return role() + ": " + content();
    }
}
