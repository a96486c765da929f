package io.github.libqwenguard;

import java.nio.ByteBuffer;

/** What a call or an annotation answers. */
public final class Reply {
    private final int statusNumber;
    private final String message;
    private final PromptCheck check;
    private final Update update;
    private final Annotation annotation;

    private Reply(int statusNumber, String message, PromptCheck check, Update update, Annotation annotation) {
        this.statusNumber = statusNumber;
        this.message = message;
        this.check = check;
        this.update = update;
        this.annotation = annotation;
    }

    private static Reply failed(int status, long error) {
        return new Reply(status, Native.get().takeMessage(error), null, null, null);
    }

    /** Reads a reply, and frees its error. */
    static Reply take(ByteBuffer memory, int place) {
        int status = memory.getInt(place + Layout.Reply.STATUS);
        if (status != 0) {
            return failed(status, memory.getLong(place + Layout.Reply.ERROR));
        }
        if (memory.getInt(place + Layout.Reply.IS_CHECK) != 0) {
            return new Reply(status, "", PromptCheck.read(memory, place + Layout.Reply.CHECK), null, null);
        }
        return new Reply(status, "", null, Update.read(memory, place + Layout.Reply.UPDATE), null);
    }

    /** Reads a completion, frees its error and takes its annotation over. */
    static Reply takeCompletion(ByteBuffer memory, int place) {
        long annotation = memory.getLong(place + Layout.Completion.ANNOTATION);
        return annotation == 0
                ? take(memory, place + Layout.Completion.REPLY)
                : new Reply(0, "", null, null, new Annotation(annotation));
    }

    /** As above, of one of many conversations. */
    static Reply takeResult(ByteBuffer memory, int place) {
        int status = memory.getInt(place + Layout.AnnotationResult.STATUS);
        return status != 0
                ? failed(status, memory.getLong(place + Layout.AnnotationResult.ERROR))
                : new Reply(0, "", null, null, new Annotation(memory.getLong(place + Layout.AnnotationResult.ANNOTATION)));
    }

    /** How the call ended. */
    public Status status() {
        return Status.of(statusNumber);
    }

    /** The number of the status, also of one that this version does not know. */
    public int statusNumber() {
        return statusNumber;
    }

    /** Why the call failed; empty if it did not. */
    public String message() {
        return message;
    }

    /**
     * The answer to a prompt or a next turn.
     *
     * @throws QwenguardException what the call failed with; WRONG_STATE if it was another call
     */
    public PromptCheck check() {
        return answer(check);
    }

    /**
     * The answer to all other calls of a stream.
     *
     * @throws QwenguardException what the call failed with; WRONG_STATE if it was another call
     */
    public Update update() {
        return answer(update);
    }

    /**
     * The answer of {@link Guard#annotateAll} and {@link CompletionQueue#annotate}.
     *
     * @throws QwenguardException what it failed with; WRONG_STATE if it was a call of a stream
     */
    public Annotation annotation() {
        return answer(annotation);
    }

    private <T> T answer(T answer) {
        if (statusNumber != 0) {
            throw new QwenguardException(statusNumber, message);
        }
        if (answer == null) {
            throw new QwenguardException(Status.WRONG_STATE, "the call has another kind of answer");
        }
        return answer;
    }

    @Override
    public String toString() {
        if (statusNumber != 0) {
            return status() + ": " + message;
        }
        return String.valueOf(annotation != null ? annotation : check != null ? check : update);
    }
}
