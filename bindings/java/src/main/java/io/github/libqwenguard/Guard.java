package io.github.libqwenguard;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;

/**
 * An opened bundle: heavy, shared, for any number of threads at once. Streams that are still open when it is closed keep
 * what they need.
 *
 * <p>Methods fail with an {@link IllegalStateException} once the guard is closed.
 */
public final class Guard implements AutoCloseable {
    private final Handle handle;

    private Guard(long raw) {
        handle = new Handle(this, "guard", raw, Native.get()::guardFree);
    }

    /** Opens the bundle in a folder, with the defaults: see {@link #open(Path, GuardOptions)}. */
    public static Guard open(Path bundle) {
        return open(bundle, new GuardOptions());
    }

    /**
     * Opens the bundle in a folder. It takes as long as reading the weights and making the session do.
     *
     * @throws QwenguardException CONFIG; RUNTIME_NOT_FOUND or RUNTIME_UNUSABLE if there is no ONNX Runtime to run it;
     *     BUNDLE_FILE, BUNDLE_FIELD or BUNDLE_FORMAT if the bundle is damaged, newer than this library or of an unknown
     *     kind; OUT_OF_MEMORY; INFERENCE
     * @throws UnsatisfiedLinkError if there is no native library; the message lists where it was looked for
     */
    public static Guard open(Path bundle, GuardOptions options) {
        Objects.requireNonNull(options, "options");
        byte[] path = Utf8.encode("bundle", Objects.requireNonNull(bundle, "bundle").toString());
        SafetyNet.sweep();
        try (Frame inputs = options.frame();
                Frame frame = Frame.allocate(null, path.length)) {
            frame.put(Frame.IN, path);
            frame.check(Native.get().guardOpen(frame.in(), path.length, inputs.in(), frame.out(), frame.error()));
            return new Guard(frame.outLong());
        }
    }

    /** Opens the demonstration guard that is built in, with the defaults: see {@link #nano(GuardOptions)}. */
    public static Guard nano() {
        return nano(new GuardOptions());
    }

    /**
     * Opens the demonstration guard that is built into the library. It is small and only tells the obvious apart: for
     * trying things and for tests.
     *
     * @throws QwenguardException as {@link #open(Path, GuardOptions)}
     */
    public static Guard nano(GuardOptions options) {
        Objects.requireNonNull(options, "options");
        SafetyNet.sweep();
        try (Frame frame = options.frame()) {
            frame.check(Native.get().guardOpenNano(frame.in(), frame.out(), frame.error()));
            return new Guard(frame.outLong());
        }
    }

    /** Opens the built-in demonstration guard that annotates, with the defaults: see {@link #nanoGen(GuardOptions)}. */
    public static Guard nanoGen() {
        return nanoGen(new GuardOptions());
    }

    /**
     * Opens the built-in demonstration guard of the variant gen: it annotates whole conversations and has no streams. It is
     * as small as the other.
     *
     * @throws QwenguardException as {@link #open(Path, GuardOptions)}
     */
    public static Guard nanoGen(GuardOptions options) {
        Objects.requireNonNull(options, "options");
        SafetyNet.sweep();
        try (Frame frame = options.frame()) {
            frame.check(Native.get().guardOpenNanoGen(frame.in(), frame.out(), frame.error()));
            return new Guard(frame.outLong());
        }
    }

    /** Lists every execution provider: see {@link #providers(GuardOptions)}. */
    public static String providers() {
        return providers(new GuardOptions());
    }

    /**
     * Lists every execution provider, as a JSON array of objects with <code>provider</code>, <code>available</code>,
     * <code>devices</code> and <code>reason</code>: whether a guard can be opened on it here, what it can compute on, and why
     * not. Which one the options choose makes no difference.
     *
     * @throws QwenguardException CONFIG if the configuration is wrong; RUNTIME_NOT_FOUND or RUNTIME_UNUSABLE if there is no
     *     ONNX Runtime
     */
    public static String providers(GuardOptions options) {
        Objects.requireNonNull(options, "options");
        SafetyNet.sweep();
        try (Frame frame = options.frame()) {
            return frame.outText(Native.get().providers(frame.in(), frame.out(), frame.error()));
        }
    }

    Handle handle() {
        return handle;
    }

    /**
     * Opens a stream with the policy of the guard's configuration.
     *
     * @throws QwenguardException BUSY if as many streams are open as the configuration allows
     */
    public GuardStream stream() {
        try (Frame frame = handle.enter(this, 0)) {
            frame.check(Native.get().streamOpen(frame.raw(), 0, 0, frame.out(), frame.error()));
            return new GuardStream(frame.outLong());
        }
    }

    /**
     * Opens a stream with a policy of its own, a TOML document. What it does not say is strict, whatever the guard's policy
     * says. An empty text means the guard's policy.
     *
     * @throws QwenguardException CONFIG if the policy is wrong or names a category that the model does not have; BUSY if as
     *     many streams are open as the configuration allows
     */
    public GuardStream stream(String policyToml) {
        byte[] policy = Utf8.encode("policyToml", policyToml);
        try (Frame frame = handle.enter(this, policy.length)) {
            frame.put(Frame.IN, policy);
            frame.check(Native.get().streamOpen(
                    frame.raw(), frame.in(), policy.length, frame.out(), frame.error()));
            return new GuardStream(frame.outLong());
        }
    }

    /** What the guard is made of, as a JSON object: bundle, checkpoint, precision, dimensions, labels, ONNX Runtime. */
    public String info() {
        try (Frame frame = handle.enter(this, 0)) {
            return frame.outText(Native.get().guardInfo(frame.raw(), frame.out(), frame.error()));
        }
    }

    /** Judges a whole conversation: see {@link #annotate(Collection, AnnotateOptions)}. */
    public Annotation annotate(Message... messages) {
        return annotate(Arrays.asList(Objects.requireNonNull(messages, "messages")), new AnnotateOptions());
    }

    /** Judges a whole conversation: see {@link #annotate(Collection, AnnotateOptions)}. */
    public Annotation annotate(Collection<Message> messages) {
        return annotate(messages, new AnnotateOptions());
    }

    /**
     * Judges a whole conversation: what is asked, if the last message is the user's, else what is answered. For texts that are
     * there already; what is being written a {@link GuardStream} judges.
     *
     * @throws QwenguardException CONVERSATION if there is no message, the template refuses one or leaves out a part of it, or
     *     there is nothing to judge: the error names role and index, counted from 0; CONTEXT_FULL if conversation and answer do
     *     not fit the model's context; BUSY; OUT_OF_MEMORY; INFERENCE; ENGINE_STOPPED
     */
    public Annotation annotate(Collection<Message> messages, AnnotateOptions options) {
        Message[] conversation = Message.array(messages);
        try (Frame frame = handle.enter(this, Annotate.size(conversation))) {
            long place = Annotate.write(frame, conversation, options);
            frame.check(Native.get().guardAnnotate(
                    frame.raw(), place, conversation.length, frame.in(), frame.out(), frame.error()));
            return new Annotation(frame.outLong());
        }
    }

    /** As {@link #annotate(Message...)}, without waiting: see {@link #annotateAsync(Collection, AnnotateOptions)}. */
    public CompletableFuture<Annotation> annotateAsync(Message... messages) {
        return annotateAsync(Arrays.asList(messages.clone()), new AnnotateOptions());
    }

    /** As {@link #annotate(Collection)}, without waiting: see {@link #annotateAsync(Collection, AnnotateOptions)}. */
    public CompletableFuture<Annotation> annotateAsync(Collection<Message> messages) {
        return annotateAsync(messages, new AnnotateOptions());
    }

    /**
     * As {@link #annotate(Collection, AnnotateOptions)}, and no thread waits for the model. The future has what it fails with;
     * if it is cancelled, or completed by somebody else, nothing more is computed. What depends on it runs in the pool that
     * {@link CompletableFuture} has for this.
     */
    public CompletableFuture<Annotation> annotateAsync(Collection<Message> messages, AnnotateOptions options) {
        return AsyncCalls.annotate(this, messages, options);
    }

    /** Judges many conversations: see {@link #annotateAll(Collection, AnnotateOptions)}. */
    public List<Reply> annotateAll(Collection<? extends Collection<Message>> conversations) {
        return annotateAll(conversations, new AnnotateOptions());
    }

    /**
     * Judges many conversations together and waits for all of them, which is much faster than one after the other.
     *
     * @return replies in the order of the conversations, each with {@link Reply#annotation}; one that fails leaves the others
     *     alone
     */
    public List<Reply> annotateAll(
            Collection<? extends Collection<Message>> conversations, AnnotateOptions options) {
        return Annotate.all(this, conversations, options);
    }

    /** The names of categories by their index, exactly as the checkpoint spells them. */
    public List<String> categories(Heads heads) {
        int number = Objects.requireNonNull(heads, "heads").number();
        try (Frame frame = handle.enter(this, 0)) {
            frame.check(Native.get().guardCategoryCount(frame.raw(), number, frame.out(), frame.error()));
            int count = frame.memory.getInt(Frame.OUT);
            List<String> names = new ArrayList<>(count);
            for (int category = 0; category < count; category++) {
                names.add(category(frame, number, category));
            }
            return Collections.unmodifiableList(names);
        }
    }

    /**
     * The name of one category.
     *
     * @throws QwenguardException ARGUMENT if there is no such category
     */
    public String category(Heads heads, int category) {
        int number = Objects.requireNonNull(heads, "heads").number();
        try (Frame frame = handle.enter(this, 0)) {
            return category(frame, number, category);
        }
    }

    private static String category(Frame frame, int heads, int category) {
        frame.check(Native.get().guardCategoryName(frame.raw(), heads, category, frame.out(), frame.error()));
        return Native.get().string(frame.outLong());
    }

    /**
     * The tokens of a text. Special tokens that it spells are text.
     *
     * @throws IllegalArgumentException if it has half a surrogate pair
     * @throws QwenguardException ARGUMENT if the tokenizer cannot encode it
     */
    public List<TextToken> encode(String text) {
        return encode(Utf8.encode("text", text));
    }

    /**
     * The tokens of a text in UTF-8.
     *
     * @throws QwenguardException ARGUMENT if it is not UTF-8 or the tokenizer cannot encode it
     */
    public List<TextToken> encode(byte[] text) {
        Objects.requireNonNull(text, "text");
        List<TextToken> tokens = new ArrayList<>();
        // Normalising can make more tokens than the text has bytes.
        for (long capacity = Math.max(text.length, 1); !encode(text, capacity, tokens); ) {
            capacity *= 2;
        }
        return tokens;
    }

    /** Whether the capacity was enough. */
    private boolean encode(byte[] text, long capacity, List<TextToken> tokens) {
        long spans = capacity * Layout.Span.SIZE;
        long ids = capacity * Integer.BYTES;
        try (Frame frame = handle.enter(this, spans + ids + text.length)) {
            int idsPlace = Frame.IN + (int) spans;
            int textPlace = idsPlace + (int) ids;
            frame.put(textPlace, text);
            frame.check(Native.get().guardEncode(frame.raw(), frame.at(textPlace), text.length, frame.at(idsPlace),
                    frame.in(), capacity, frame.out(), frame.error()));
            long count = frame.outLong();
            for (int index = 0; index < count && count <= capacity; index++) {
                tokens.add(token(frame, idsPlace, index));
            }
            return count <= capacity;
        }
    }

    private static TextToken token(Frame frame, int ids, int index) {
        int span = Frame.IN + index * Layout.Span.SIZE;
        return new TextToken(
                frame.memory.getInt(ids + index * Integer.BYTES),
                new ByteRange(
                        frame.memory.getLong(span + Layout.Span.START), frame.memory.getLong(span + Layout.Span.END)));
    }

    /**
     * The bytes that a token stands for: often not whole characters. Errors name an id without its sign: -1 is 4294967295.
     *
     * @throws QwenguardException ARGUMENT if there is no such token
     */
    public byte[] tokenBytes(int token) {
        try (Frame frame = handle.enter(this, 0)) {
            frame.check(Native.get().guardTokenBytes(
                    frame.raw(), token, frame.out(), frame.at(Frame.OUT + Long.BYTES), frame.error()));
            return Native.get().bytes(frame.outLong(), frame.memory.getLong(Frame.OUT + Long.BYTES));
        }
    }

    /** What the guard has done, and how it is. */
    public Stats stats() {
        try (Frame frame = handle.enter(this, 0)) {
            frame.check(Native.get().guardStats(frame.raw(), frame.out(), frame.error()));
            return Stats.read(frame.memory, Frame.OUT);
        }
    }

    /**
     * How often the guard gave which verdict, and what policies made of it: an element for each channel, level and category that
     * there was. {@link #metrics()} has the same with names.
     */
    public List<VerdictCount> verdictCounts() {
        return VerdictCount.of(this);
    }

    /** What {@link #stats()} and {@link #verdictCounts()} have, and histograms, in the text format of Prometheus, version 0.0.4. */
    public String metrics() {
        try (Frame frame = handle.enter(this, 0)) {
            return frame.outText(Native.get().guardMetrics(frame.raw(), frame.out(), frame.error()));
        }
    }

    /** Frees the guard, at once or when the calls that use it are over. Closing it again does nothing. */
    @Override
    public void close() {
        handle.close();
    }
}
