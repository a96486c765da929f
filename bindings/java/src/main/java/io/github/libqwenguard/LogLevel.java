package io.github.libqwenguard;

/** How grave a message of the log is. The names are those of {@code System.Logger.Level}. */
public enum LogLevel {
    /** Nothing. */
    OFF(0),
    /** Something failed that should not. */
    ERROR(1),
    /** Something that may be wrong: a setting, or what ONNX Runtime warns of. */
    WARNING(2),
    /** What happens seldom: what was loaded, and what computes. */
    INFO(3),
    /** What happens often, and most of what ONNX Runtime says. */
    DEBUG(4),
    /** Everything. */
    TRACE(5);

    private static final LogLevel[] VALUES = values();

    private final int number;

    LogLevel(int number) {
        this.number = number;
    }

    /** The number of the C interface: the graver, the smaller. */
    public int number() {
        return number;
    }

    /** The levels are all that there can be: a log says how much it wants. */
    static LogLevel of(int number) {
        return VALUES[Math.max(0, Math.min(number, VALUES.length - 1))];
    }
}
