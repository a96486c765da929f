package io.github.libqwenguard;

/** Takes messages of the library. */
@FunctionalInterface
public interface LogSink {
    /**
     * Takes a message. It is called by one thread of the log, so that the library never waits for it.
     *
     * @param target where it comes from, such as "qwenguard::engine::worker"
     */
    void log(LogLevel level, String target, String message);
}
