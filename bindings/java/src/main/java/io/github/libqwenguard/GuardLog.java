package io.github.libqwenguard;

import java.util.Objects;

/**
 * Messages of the library, and of ONNX Runtime as it uses it, on their way to a logger of the program. With a
 * {@code System.Logger}:
 *
 * <pre>{@code
 * GuardLog.open(LogLevel.INFO, (level, target, message) ->
 *         logger.log(System.Logger.Level.valueOf(level.name()), target + ": " + message));
 * }</pre>
 *
 * <p>One that is not closed goes on for as long as the program does.
 */
public final class GuardLog implements AutoCloseable {
    private static final int LEVEL = Frame.OUT;
    private static final int TARGET = LEVEL + Long.BYTES;
    private static final int MESSAGE = TARGET + Long.BYTES;
    private static final int LOST = MESSAGE + Long.BYTES;

    private final long raw;
    private final Thread thread;
    private boolean ended;

    private GuardLog(long raw, LogSink sink) {
        this.raw = raw;
        thread = new Thread(() -> handOn(raw, sink), "qwenguard-log");
        thread.setDaemon(true);
    }

    /**
     * Has messages handed to a sink from now on, by a thread that is started here: those of the level and graver ones. If the
     * sink is more than 1,024 messages behind, newer ones are lost, of which it is told by a warning. What it throws goes to
     * the handler of uncaught exceptions, and the next message is handed on.
     */
    public static GuardLog open(LogLevel level, LogSink sink) {
        Objects.requireNonNull(sink, "sink");
        int number = Objects.requireNonNull(level, "level").number();
        SafetyNet.sweep();
        try (Frame frame = Frame.allocate(null, 0)) {
            frame.check(Native.get().logOpen(number, frame.out(), frame.error()));
            GuardLog log = new GuardLog(frame.outLong(), sink);
            log.thread.start();
            return log;
        }
    }

    private static void handOn(long raw, LogSink sink) {
        try (Frame frame = Frame.allocate(null, 0)) {
            while (Native.get().logWait(raw, Constants.NO_TIMEOUT, frame.at(LEVEL), frame.at(TARGET), frame.at(MESSAGE),
                    frame.at(LOST), 0) == 0) {
                long lost = frame.memory.getLong(LOST);
                if (lost > 0) {
                    handOn(sink, LogLevel.WARNING, "qwenguard::log", lost + " messages of the library were lost");
                }
                int level = frame.memory.getInt(LEVEL);
                if (level != Constants.LOG_OFF) {
                    String target = Native.get().take(frame.memory.getLong(TARGET));
                    String message = Native.get().take(frame.memory.getLong(MESSAGE));
                    handOn(sink, LogLevel.of(level), target, message);
                }
            }
        }
        Native.get().logFree(raw);
    }

    private static void handOn(LogSink sink, LogLevel level, String target, String message) {
        try {
            sink.log(level, target, message);
        } catch (Throwable failure) {
            Thread thread = Thread.currentThread();
            thread.getUncaughtExceptionHandler().uncaughtException(thread, failure);
        }
    }

    /** Its thread frees it then. */
    private synchronized void end() {
        if (!ended) {
            ended = true;
            Native.get().logEnd(raw, 0);
        }
    }

    /** Ends the log, when all that came before is handed on; the sink may call it, which does not wait. */
    @Override
    public void close() {
        end();
        if (Thread.currentThread() != thread) {
            boolean interrupted = false;
            while (thread.isAlive()) {
                try {
                    thread.join();
                } catch (InterruptedException interruption) {
                    interrupted = true;
                }
            }
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }
}
