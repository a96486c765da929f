package io.github.libqwenguard;

/** How a call ended. */
public enum Status {
    /** It worked. */
    OK(0),
    /** The ONNX Runtime library was found nowhere; the message lists where. */
    RUNTIME_NOT_FOUND(1),
    /** An ONNX Runtime library was found but cannot be used. */
    RUNTIME_UNUSABLE(2),
    /** The execution provider that was asked for cannot be had here. */
    PROVIDER(3),
    /** A setting of the configuration or of a policy is wrong; the message names it. */
    CONFIG(4),
    /** A file of the bundle is missing, unreadable or damaged. */
    BUNDLE_FILE(5),
    /** The bundle's guard.toml says something that this library cannot accept. */
    BUNDLE_FIELD(6),
    /** The bundle was made in a format that this version does not read. */
    BUNDLE_FORMAT(7),
    /** The conversation cannot be rendered, or there is nothing in it to judge. */
    CONVERSATION(8),
    /** An argument is out of its documented range; the message names it. */
    ARGUMENT(9),
    /** The call has no meaning at this moment, such as an answer before its prompt. */
    WRONG_STATE(10),
    /** The conversation does not fit the model's context. Nothing was added. */
    CONTEXT_FULL(11),
    /** A limit is reached that passes with time. Try again later, or close streams. */
    BUSY(12),
    /** Memory could not be had. */
    OUT_OF_MEMORY(13),
    /** ONNX Runtime failed to load or run the graph. */
    INFERENCE(14),
    /** The guard's engine has stopped after a failure it could not contain. Open the guard again. */
    ENGINE_STOPPED(15),
    /** The deadline of the call passed before its tokens were computed. Nothing was added. */
    DEADLINE_EXCEEDED(16),
    /** The stream was idle for longer than the configuration allows. Open a new one. */
    EXPIRED(17),
    /** The call was cancelled by {@link CompletionQueue#cancel}. Nothing was added. */
    CANCELLED(18),
    /** A pointer of the C interface is NULL that must not be. */
    NULL(100),
    /** A number is none of the values that the argument can have. */
    ENUM(101),
    /** Another thread is using the stream, or a queue has its call: a stream has one user at a time. */
    IN_USE(102),
    /** A bug of the library. The stream that it happened on stays unusable; close it. */
    PANIC(103),
    /** One that this version does not know. */
    UNKNOWN(-1);

    private static final Status[] VALUES = values();

    private final int number;

    Status(int number) {
        this.number = number;
    }

    /** The number of the C interface; -1 for {@link #UNKNOWN}. */
    public int number() {
        return number;
    }

    static Status of(int number) {
        for (Status value : VALUES) {
            if (value.number == number) {
                return value;
            }
        }
        return UNKNOWN;
    }
}
