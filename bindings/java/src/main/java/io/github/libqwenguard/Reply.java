package io.github.libqwenguard;

import java.nio.ByteBuffer;

/** What a call answers. */
public final class Reply {
    private final int statusNumber;
    private final String message;
    private final PromptCheck check;
    private final Update update;

    private Reply(int statusNumber, String message, PromptCheck check, Update update) {
        this.statusNumber = statusNumber;
        this.message = message;
        this.check = check;
        this.update = update;
    }

    /** Reads a reply, and frees its error. */
    static Reply take(ByteBuffer memory, int place) {
        int status = memory.getInt(place + Layout.Reply.STATUS);
        if (status != 0) {
            return new Reply(status, Native.get().takeMessage(memory.getLong(place + Layout.Reply.ERROR)), null, null);
        }
        if (memory.getInt(place + Layout.Reply.IS_CHECK) != 0) {
            return new Reply(status, "", PromptCheck.read(memory, place + Layout.Reply.CHECK), null);
        }
        return new Reply(status, "", null, Update.read(memory, place + Layout.Reply.UPDATE));
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
     * The answer to all other calls.
     *
     * @throws QwenguardException what the call failed with; WRONG_STATE if it was another call
     */
    public Update update() {
        return answer(update);
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
        return statusNumber != 0 ? status() + ": " + message : String.valueOf(check == null ? update : check);
    }
}
