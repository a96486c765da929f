package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;

/** Makes the calls of one case. */
final class VectorCase implements AutoCloseable {
    private final Guard guard;
    private final List<GuardStream> streams = new ArrayList<>();

    VectorCase(Guard guard) {
        this.guard = guard;
    }

    @Override
    public void close() {
        streams.forEach(GuardStream::close);
    }

    void run(String place, JsonObject step) throws InterruptedException {
        VectorCheck check = new VectorCheck(guard, place, step.getAsJsonObject("expect"));
        try {
            call(step, check);
        } catch (QwenguardException failure) {
            check.failure(failure.statusNumber(), failure.detail());
            return;
        }
        check.success();
    }

    private void call(JsonObject step, VectorCheck check) throws InterruptedException {
        switch (step.get("call").getAsString()) {
            case "open" -> streams.add(
                    step.has("policy") ? guard.stream(step.get("policy").getAsString()) : guard.stream());
            case "fork" -> streams.add(stream(step).fork());
            case "prompt" -> check.check(stream(step), stream(step).prompt(messages(step)));
            case "next_turn" -> check.check(stream(step), stream(step).nextTurn(messages(step)));
            case "push_text" -> check.update(stream(step), stream(step).pushText(text(step)));
            case "push_thinking" -> check.update(stream(step), stream(step).pushThinking(text(step)));
            case "push_tokens" -> check.update(stream(step), stream(step).pushTokens(ids(step)));
            case "finish" -> check.update(stream(step), stream(step).finish());
            case "truncate" -> check.update(stream(step), stream(step).truncate(step.get("bytes").getAsLong()));
            case "truncate_tokens" -> check.update(
                    stream(step), stream(step).truncateTokens(step.get("tokens").getAsLong()));
            case "encode" -> check.encoded(guard.encode(text(step)));
            case "context_used" -> check.contextUsed(stream(step).contextUsed());
            case "call_all" -> check.replies(streams(step), GuardStream.callAll(calls(step)));
            case "queue" -> check.replies(streams(step), queued(calls(step)));
            default -> throw new AssertionError(step.get("call"));
        }
    }

    private GuardStream stream(JsonObject step) {
        return streams.get(step.has("stream") ? step.get("stream").getAsInt() : 0);
    }

    private List<GuardStream> streams(JsonObject step) {
        return calls(step).stream().map(Call::stream).toList();
    }

    private List<Call> calls(JsonObject step) {
        return VectorsTest.elements(step.getAsJsonArray("calls"))
                .map(call -> call(call.getAsJsonObject()))
                .toList();
    }

    private Call call(JsonObject step) {
        GuardStream stream = stream(step);
        return switch (step.get("call").getAsString()) {
            case "prompt" -> Call.prompt(stream, messages(step));
            case "next_turn" -> Call.nextTurn(stream, messages(step));
            case "push_text" -> Call.pushText(stream, text(step));
            case "push_thinking" -> Call.pushThinking(stream, text(step));
            case "push_tokens" -> Call.pushTokens(stream, ids(step));
            case "finish" -> Call.finish(stream);
            case "truncate" -> Call.truncate(stream, step.get("bytes").getAsLong());
            case "truncate_tokens" -> Call.truncateTokens(stream, step.get("tokens").getAsLong());
            default -> throw new AssertionError(step.get("call"));
        };
    }

    private static List<Reply> queued(List<Call> calls) throws InterruptedException {
        Reply[] replies = new Reply[calls.size()];
        try (CompletionQueue queue = CompletionQueue.open()) {
            for (int tag = 0; tag < replies.length; tag++) {
                queue.submit(calls.get(tag), tag);
            }
            while (queue.size() > 0) {
                for (Completion done : queue.await(replies.length)) {
                    assertEquals(calls.get((int) done.tag()).stream(), done.stream());
                    replies[(int) done.tag()] = done.reply();
                }
            }
        }
        return Arrays.asList(replies);
    }

    private static Message[] messages(JsonObject step) {
        return VectorsTest.elements(step.getAsJsonArray("messages"))
                .map(JsonElement::getAsJsonObject)
                .map(it -> Message.of(it.get("role").getAsString(), it.get("content").getAsString()))
                .toArray(Message[]::new);
    }

    private static byte[] text(JsonObject step) {
        byte[] piece = step.has("hex")
                ? HexFormat.of().parseHex(step.get("hex").getAsString())
                : step.get("text").getAsString().getBytes(StandardCharsets.UTF_8);
        ByteArrayOutputStream text = new ByteArrayOutputStream();
        int repeat = step.has("repeat") ? step.get("repeat").getAsInt() : 1;
        for (int count = 0; count < repeat; count++) {
            text.writeBytes(piece);
        }
        return text.toByteArray();
    }

    private static int[] ids(JsonObject step) {
        return VectorsTest.elements(step.getAsJsonArray("ids"))
                .mapToInt(id -> (int) id.getAsLong())
                .toArray();
    }
}
