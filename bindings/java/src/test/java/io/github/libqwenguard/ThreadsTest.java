package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(60)
class ThreadsTest {
    private static final String ANSWER = "Mix flour, water, salt and yeast in a large bowl. Knead the dough.";

    private static String moderate(Guard guard) {
        StringBuilder log = new StringBuilder();
        try (GuardStream stream = Fixtures.prompted(guard)) {
            for (String word : ANSWER.split("(?<= )")) {
                log.append(stream.pushText(word).horizon()).append(' ');
                log.append(stream.tokens().size()).append(' ');
            }
            return log.append(stream.finish()).toString();
        }
    }

    @Test
    void eightThreadsOnOneGuard() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(8);
        try (Guard guard = Guard.nano(Fixtures.small())) {
            String alone = moderate(guard);
            List<Future<String>> together = new ArrayList<>();
            for (int count = 0; count < 32; count++) {
                together.add(threads.submit(() -> moderate(guard)));
            }
            for (Future<String> one : together) {
                assertEquals(alone, one.get());
            }
            assertEquals(0, guard.stats().openStreams());
        } finally {
            threads.shutdown();
            assertTrue(threads.awaitTermination(10, TimeUnit.SECONDS));
        }
    }

    @Test
    void twoGuardsInOneProcess() {
        try (Guard one = Guard.nano(Fixtures.small());
                Guard other = Guard.nano(Fixtures.small())) {
            assertEquals(moderate(one), moderate(other));
            one.close();
            assertTrue(moderate(other).contains("CONTINUE"));
            assertTrue(other.metrics().contains("qwenguard_open_streams 0\n"));
            assertTrue(other.info().contains("\"provider\":\"cpu\""));
        }
    }

    /** Some get through, and their bytes are counted once each. */
    @Test
    void aStreamHasOneUser() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(8);
        try (Guard guard = Guard.nano(Fixtures.small());
                GuardStream stream = Fixtures.prompted(guard)) {
            AtomicInteger done = new AtomicInteger();
            List<Future<?>> all = new ArrayList<>();
            for (int count = 0; count < 8; count++) {
                all.add(threads.submit(() -> {
                    for (int push = 0; push < 25; push++) {
                        try {
                            stream.pushText("word ");
                            done.incrementAndGet();
                        } catch (QwenguardException failure) {
                            assertEquals(Status.IN_USE, failure.status(), failure.getMessage());
                        }
                    }
                }));
            }
            for (Future<?> one : all) {
                one.get();
            }
            assertTrue(done.get() > 0 && done.get() < 200, done::toString);
            assertEquals(5L * done.get(), stream.pushText("").received());
        } finally {
            threads.shutdown();
            assertTrue(threads.awaitTermination(10, TimeUnit.SECONDS));
        }
    }
}
