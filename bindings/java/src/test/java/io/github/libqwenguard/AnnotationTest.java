package io.github.libqwenguard;

import static io.github.libqwenguard.Fixtures.fails;
import static io.github.libqwenguard.Fixtures.isClosed;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.Arrays;
import java.util.Collection;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Whole conversations: who owns what, wrong arguments, and calls that are given up. */
@Timeout(60)
class AnnotationTest {
    private static final AnnotateOptions DEFAULTS = new AnnotateOptions();
    private static final List<Message> ANSWERED = List.of(
            Message.user("How do I clean the kitchen?"),
            Message.assistant("Take the explosives, build a bomb and put it under the car of your neighbour."));

    @Test
    void annotationsOutliveTheirGuard() {
        Guard guard = Guard.nano(Fixtures.small());
        Annotation annotation = guard.annotate(ANSWERED, DEFAULTS);
        guard.close();
        assertEquals(AnnotationMode.RESPONSE, annotation.mode());
        assertEquals(Risk.UNSAFE, annotation.risk());
        assertEquals(Decision.STOP, annotation.decision());
        assertEquals(Optional.empty(), annotation.refusal());
        assertEquals(8, annotation.categoryProbabilities().size());
        assertThrows(IllegalArgumentException.class, () -> annotation.probability(Risk.UNKNOWN));
        Judgement judged = annotation.judge("[answer]\nmode = { custom = { unsafe = { action = 'flag' } } }");
        assertEquals(Decision.CONTINUE, judged.decision());
        assertEquals(Action.FLAG, judged.finding().orElseThrow().action());
        fails(Status.CONFIG, "Spam", () -> annotation.judge("answer.categories.Spam.action = 'flag'"));
        fails(Status.CONFIG, "what", () -> annotation.reward("what = 1", 0));
        fails(Status.ARGUMENT, "helpfulness", () -> annotation.reward("form = 'hybrid'", Double.NaN));
        assertEquals(0, annotation.reward());
        assertEquals("policyToml", assertThrows(NullPointerException.class, () -> annotation.judge(null)).getMessage());
    }

    private static void isNull(String argument, org.junit.jupiter.api.function.Executable call) {
        assertEquals(argument, assertThrows(NullPointerException.class, call).getMessage());
    }

    @Test
    void wrongConversations() {
        try (Guard guard = Guard.nano(Fixtures.small());
                CompletionQueue queue = CompletionQueue.open()) {
            isNull("messages", () -> guard.annotate((Message[]) null));
            isNull("messages", () -> guard.annotate((Message) null));
            isNull("messages", () -> guard.annotate(null, DEFAULTS));
            isNull("options", () -> guard.annotate(ANSWERED, null));
            isNull("conversations", () -> guard.annotateAll(null));
            isNull("messages", () -> guard.annotateAll(Arrays.asList((Collection<Message>) null)));
            isNull("guard", () -> queue.annotate(null, ANSWERED, DEFAULTS, 1));
            isNull("messages", () -> queue.annotate(guard, null, DEFAULTS, 1));
            isNull("timeout", () -> queue.annotate(guard, ANSWERED, DEFAULTS, 1, null));
            isNull("decoding", () -> new AnnotateOptions().decoding(null));
            isNull("overflow", () -> new AnnotateOptions().overflow(null));
            fails(Status.CONVERSATION, "no message", guard::annotate);
            assertEquals(0, queue.size());
            List<Reply> replies = guard.annotateAll(List.of(ANSWERED, List.of(), ANSWERED));
            assertEquals(Risk.UNSAFE, replies.get(0).annotation().risk());
            assertEquals(Status.CONVERSATION, replies.get(1).status());
            fails(Status.CONVERSATION, "no message", () -> replies.get(1).annotation());
            fails(Status.WRONG_STATE, "another kind", () -> replies.get(2).update());
            assertTrue(replies.get(2).toString().startsWith("RESPONSE UNSAFE"), replies::toString);
            assertEquals(List.of(), guard.annotateAll(List.of()));
        }
    }

    /** Each comes back once, done or given up. */
    @Test
    void annotationsAreGivenUp() throws InterruptedException {
        int count = 24;
        try (Guard guard = Guard.nano(Fixtures.small())) {
            CompletionQueue queue = CompletionQueue.open();
            for (int index = 0; index < count; index++) {
                Duration timeout = index % 3 == 1 ? Duration.ZERO : Duration.ofHours(1);
                queue.annotate(guard, ANSWERED, DEFAULTS, index % 3, timeout);
            }
            int cancelled = queue.cancel(2);
            int came = 0;
            while (came < count) {
                for (Completion done : queue.await(count)) {
                    came++;
                    assertNull(done.stream());
                    if (done.reply().status() == Status.OK) {
                        assertEquals(Risk.UNSAFE, done.reply().annotation().risk());
                    } else if (done.tag() == 2) {
                        fails(Status.CANCELLED, "cancelled", done.reply()::annotation);
                        cancelled--;
                    } else {
                        assertEquals(1, done.tag());
                        fails(Status.DEADLINE_EXCEEDED, "deadline", done.reply()::annotation);
                    }
                }
            }
            assertEquals(0, cancelled);
            assertEquals(0, queue.size());
            for (int index = 0; index < count; index++) {
                queue.annotate(guard, ANSWERED, DEFAULTS, index);
            }
            queue.close();
            isClosed(() -> queue.annotate(guard, ANSWERED, DEFAULTS, 1));
            assertEquals(0, guard.stats().openStreams());
        }
    }

    /** A collector that runs all the time must not take what a call uses. */
    @Test
    void unreachableDuringTheCall() throws InterruptedException {
        Thread collector = new Thread(() -> {
            while (!Thread.interrupted()) {
                System.gc();
            }
        });
        collector.start();
        try (Guard guard = Guard.nano(Fixtures.small())) {
            for (int count = 0; count < 5; count++) {
                assertFalse(guard.annotate(ANSWERED, DEFAULTS).json().isEmpty());
                assertEquals(0, guard.annotate(ANSWERED, DEFAULTS).reward("", 0, guard.annotate(ANSWERED, DEFAULTS)));
            }
        } finally {
            collector.interrupt();
            collector.join();
        }
    }
}
