package io.github.libqwenguard;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Objects;

/** Conversations as the library takes them: of one, options and then messages. */
final class Annotate {
    static long size(Message[] messages) {
        return Layout.AnnotateOptions.SIZE + Message.size(messages);
    }

    /** Writes the options as the inputs of a call; gives where messages are. */
    static long write(Frame frame, Message[] messages, AnnotateOptions options) {
        int place = Frame.IN + Layout.AnnotateOptions.SIZE;
        Objects.requireNonNull(options, "options").write(frame, Frame.IN);
        Message.write(messages, frame, place);
        return frame.at(place);
    }

    static List<Reply> all(
            Guard guard, Collection<? extends Collection<Message>> conversations, AnnotateOptions options) {
        List<Message[]> all = new ArrayList<>();
        long size = Layout.AnnotateOptions.SIZE;
        for (Collection<Message> messages : Objects.requireNonNull(conversations, "conversations")) {
            Message[] conversation = Message.array(messages);
            all.add(conversation);
            size += Layout.Conversation.SIZE + Layout.AnnotationResult.SIZE + aligned(Message.size(conversation));
        }
        try (Frame frame = guard.handle().enter(guard, size)) {
            Objects.requireNonNull(options, "options").write(frame, Frame.IN);
            int first = Frame.IN + Layout.AnnotateOptions.SIZE;
            int results = first + all.size() * Layout.Conversation.SIZE;
            int data = results + all.size() * Layout.AnnotationResult.SIZE;
            for (int index = 0; index < all.size(); index++) {
                Message[] messages = all.get(index);
                int place = first + index * Layout.Conversation.SIZE;
                frame.memory
                        .putLong(place + Layout.Conversation.MESSAGES, frame.at(data))
                        .putLong(place + Layout.Conversation.MESSAGE_COUNT, messages.length);
                Message.write(messages, frame, data);
                data += (int) aligned(Message.size(messages));
            }
            frame.check(Native.get().guardAnnotateAll(
                    frame.raw(), frame.at(first), all.size(), frame.in(), frame.at(results), frame.error()));
            List<Reply> replies = new ArrayList<>(all.size());
            for (int index = 0; index < all.size(); index++) {
                replies.add(Reply.takeResult(frame.memory, results + index * Layout.AnnotationResult.SIZE));
            }
            return replies;
        }
    }

    /** So that what comes after it is aligned. */
    private static long aligned(long size) {
        return (size + 7) & -8;
    }

    private Annotate() {}
}
