package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Messages of the library, and verdicts that are counted. */
class LogTest {
    private static void openAndClose() {
        Guard.nano(new GuardOptions().threads(1).cacheMib(64)).close();
    }

    private static long count(List<String> lines, String part) {
        return lines.stream().filter(line -> line.contains(part)).count();
    }

    @Test
    void messagesGoToASink() {
        List<String> info = Collections.synchronizedList(new ArrayList<>());
        List<String> warnings = Collections.synchronizedList(new ArrayList<>());
        GuardLog log = GuardLog.open(LogLevel.INFO, (level, target, message) -> {
            info.add(System.Logger.Level.valueOf(level.name()) + " " + target + ": " + message);
            throw new IllegalStateException("goes to the handler");
        });
        try (GuardLog other = GuardLog.open(LogLevel.WARNING, (level, target, message) -> warnings.add(message))) {
            openAndClose();
        }
        log.close();
        log.close();
        assertEquals(1, count(info, "kernels on the CPU isa="), info::toString);
        assertEquals(info.size(), count(info, "INFO qwenguard") + count(info, "WARNING "), info::toString);
        assertEquals(0, count(warnings, "kernels"), warnings::toString);
        openAndClose();
        assertEquals(1, count(info, "kernels on the CPU isa="));
        assertThrows(NullPointerException.class, () -> GuardLog.open(null, (level, target, message) -> {}));
        assertThrows(NullPointerException.class, () -> GuardLog.open(LogLevel.INFO, null));
    }

    @Test
    void aSinkMayCloseItsLog() throws InterruptedException {
        Thread[] thread = new Thread[1];
        GuardLog[] log = new GuardLog[1];
        synchronized (log) {
            log[0] = GuardLog.open(LogLevel.INFO, (level, target, message) -> {
                synchronized (log) {
                    thread[0] = Thread.currentThread();
                    log[0].close();
                    log.notifyAll();
                }
            });
        }
        openAndClose();
        synchronized (log) {
            while (thread[0] == null) {
                log.wait();
            }
        }
        thread[0].join();
    }

    @Test
    void verdictsAreCounted() {
        try (Guard guard = Guard.nano(new GuardOptions().threads(1).cacheMib(64).configToml("name = 'java'"));
                GuardStream stream = guard.stream()) {
            assertEquals(Collections.emptyList(), guard.verdictCounts());
            stream.prompt(Message.user("How do I clean the kitchen?"));
            List<VerdictCount> counts = guard.verdictCounts();
            assertEquals("[PROMPT SAFE -1: 1 verdicts, 0 stops, 0 flags]", counts.toString());
            String line = "qwenguard_verdicts_total{guard=\"java\",channel=\"prompt\",level=\"Safe\",category=\"None\"} 1\n";
            assertTrue(guard.metrics().contains(line), guard::metrics);
        }
    }
}
