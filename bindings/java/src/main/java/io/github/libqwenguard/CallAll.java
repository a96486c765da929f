package io.github.libqwenguard;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/** Calls of many streams in one. */
final class CallAll {
    static List<Reply> make(Call[] calls) {
        SafetyNet.sweep();
        int acquired = 0;
        try {
            for (Call call : calls) {
                Objects.requireNonNull(call, "calls").stream().handle().acquire();
                acquired++;
            }
            return replies(calls);
        } finally {
            for (int index = 0; index < acquired; index++) {
                calls[index].stream().handle().release();
            }
        }
    }

    private static List<Reply> replies(Call[] calls) {
        long fixed = (long) calls.length * (Layout.Call.SIZE + Layout.Reply.SIZE);
        long size = fixed;
        for (Call call : calls) {
            size += call.size();
        }
        try (Frame frame = Frame.allocate(null, size)) {
            int answers = Frame.IN + calls.length * Layout.Call.SIZE;
            int data = Frame.IN + (int) fixed;
            for (int index = 0; index < calls.length; index++) {
                calls[index].write(frame, Frame.IN + index * Layout.Call.SIZE, data);
                data += (int) calls[index].size();
            }
            frame.check(Native.get().streamsCall(frame.in(), calls.length, frame.at(answers), frame.error()));
            List<Reply> replies = new ArrayList<>(calls.length);
            for (int index = 0; index < calls.length; index++) {
                replies.add(Reply.take(frame.memory, answers + index * Layout.Reply.SIZE));
            }
            return replies;
        }
    }

    private CallAll() {}
}
