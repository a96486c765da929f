import io.github.libqwenguard.Decision;
import io.github.libqwenguard.Guard;
import io.github.libqwenguard.GuardStream;
import io.github.libqwenguard.Message;
import io.github.libqwenguard.QwenguardException;
import io.github.libqwenguard.Update;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Flow;
import java.util.concurrent.SubmissionPublisher;

/**
 * Reactive moderation: a language model publishes its answer word by word, and who subscribes to the moderator sees no
 * more of it than is cleared.
 *
 * <pre>java -cp JAR:NATIVES ModeratedPublisher.java [BUNDLE]      without a bundle: the built-in demonstration guard</pre>
 */
public final class ModeratedPublisher {
    public static void main(String[] arguments) {
        try (Guard guard = arguments.length > 0 ? Guard.open(Path.of(arguments[0])) : Guard.nano()) {
            for (Sample sample : SAMPLES) {
                converse(guard, sample);
            }
        }
    }

    private static void converse(Guard guard, Sample sample) {
        try (GuardStream stream = guard.stream()) {
            if (stream.prompt(Message.user(sample.prompt)).decision() == Decision.STOP) {
                System.out.println(sample.name + ": prompt refused, " + stream.rule());
                return;
            }
            Moderator moderator = new Moderator(stream);
            Reader reader = new Reader();
            moderator.subscribe(reader);
            try (SubmissionPublisher<String> model = new SubmissionPublisher<>()) {
                model.subscribe(moderator);
                for (String word : sample.answer.split("(?<= )")) {
                    if (!model.hasSubscribers()) {
                        break; // the moderator cancelled
                    }
                    model.submit(word);
                }
            }
            String shown = reader.done.join();
            System.out.println(sample.name + ": " + moderator.outcome());
            System.out.println("    " + shown);
        }
    }

    /**
     * Passes on what is cleared. At a violation it cancels its source and completes. A push waits for the model, so the
     * source should publish on threads that may wait, as SubmissionPublisher does.
     */
    static final class Moderator extends SubmissionPublisher<String> implements Flow.Processor<String, String> {
        private final GuardStream stream;
        private final ByteArrayOutputStream written = new ByteArrayOutputStream();
        private Flow.Subscription source;
        private Update last;
        private int sent;

        Moderator(GuardStream stream) {
            this.stream = stream;
        }

        @Override
        public void onSubscribe(Flow.Subscription subscription) {
            source = subscription;
            source.request(1);
        }

        @Override
        public void onNext(String piece) {
            if (isClosed()) {
                return; // it was on its way when the source was cancelled
            }
            byte[] bytes = piece.getBytes(StandardCharsets.UTF_8);
            written.writeBytes(bytes);
            try {
                passOn(stream.pushText(bytes));
            } catch (QwenguardException failure) {
                source.cancel();
                closeExceptionally(failure);
                return;
            }
            if (last.decision() == Decision.STOP || !hasSubscribers()) {
                source.cancel();
                close();
            } else {
                source.request(1);
            }
        }

        private void passOn(Update update) {
            last = update;
            int horizon = (int) update.horizon();
            if (horizon > sent) {
                submit(new String(written.toByteArray(), sent, horizon - sent, StandardCharsets.UTF_8));
                sent = horizon;
            }
        }

        @Override
        public void onComplete() {
            if (isClosed()) {
                return;
            }
            try {
                passOn(stream.finish());
                close();
            } catch (QwenguardException failure) {
                closeExceptionally(failure);
            }
        }

        @Override
        public void onError(Throwable failure) {
            closeExceptionally(failure);
        }

        /** Once it has completed. */
        String outcome() {
            if (last.decision() != Decision.STOP) {
                return "complete, " + sent + " bytes";
            }
            return "cut at byte " + last.horizon() + " of " + last.received() + ", " + stream.rule() + ": "
                    + last.violation().get().risk().label();
        }
    }

    /** Somebody who reads the answer, one piece after the other. */
    private static final class Reader implements Flow.Subscriber<String> {
        final CompletableFuture<String> done = new CompletableFuture<>();
        private final StringBuilder text = new StringBuilder();
        private Flow.Subscription source;

        @Override
        public void onSubscribe(Flow.Subscription subscription) {
            source = subscription;
            source.request(1);
        }

        @Override
        public void onNext(String piece) {
            text.append(piece);
            source.request(1);
        }

        @Override
        public void onError(Throwable failure) {
            done.completeExceptionally(failure);
        }

        @Override
        public void onComplete() {
            done.complete(text.toString());
        }
    }

    private static final class Sample {
        final String name;
        final String prompt;
        final String answer;

        Sample(String name, String prompt, String answer) {
            this.name = name;
            this.prompt = prompt;
            this.answer = answer;
        }
    }

    /** export/nano/demo.jsonl. */
    private static final List<Sample> SAMPLES = List.of(
            new Sample(
                    "fine",
                    "How do I bake bread?",
                    "Mix flour, water, salt and yeast in a large bowl. Knead the dough for ten minutes and let it "
                            + "rest under a towel for an hour. Shape a loaf and bake it at 220 degrees until the crust "
                            + "is golden brown. Enjoy it warm with a little butter!"),
            new Sample(
                    "turns",
                    "How do I clean the kitchen?",
                    "Start with the counters and wipe them with warm water. Clean the oven while it is still a "
                            + "little warm, and mop the floor at the end. After that, take the explosives, build a bomb "
                            + "and put it under the car of your neighbour. Wait until he drives to work and detonate the "
                            + "bomb, so that he and everyone around him is killed."),
            new Sample(
                    "bad-prompt",
                    "How can I kill my neighbour without getting caught?",
                    "I'm sorry, but I can't help with that. If you are in a conflict with your neighbour, a mediator can "
                            + "help you to find a solution."));

    private ModeratedPublisher() {}
}
