package io.github.libqwenguard;

import java.nio.file.Path;
import java.util.Objects;

/** How a guard is opened. What is not set is as the configuration says, else the default. */
public final class GuardOptions {
    private int threads;
    private long cacheMib;
    private String configToml;
    private String runtimeLibrary;

    /** Threads that compute one step. 0: one per core. */
    public GuardOptions threads(int threads) {
        if (threads < 0) {
            throw new IllegalArgumentException("threads: " + threads + " is negative");
        }
        this.threads = threads;
        return this;
    }

    /** Memory for keys and values of all streams together, in MiB. 0: by the machine's memory. */
    public GuardOptions cacheMib(long cacheMib) {
        if (cacheMib < 0) {
            throw new IllegalArgumentException("cacheMib: " + cacheMib + " is negative");
        }
        this.cacheMib = cacheMib;
        return this;
    }

    /** The configuration, a TOML document: policies, limits, everything else. */
    public GuardOptions configToml(String configToml) {
        this.configToml = Objects.requireNonNull(configToml, "configToml");
        return this;
    }

    /**
     * The ONNX Runtime library, or the folder it is in. Without it: the variable ORT_DYLIB_PATH, then one that is loaded
     * already, as that of com.microsoft.onnxruntime is where the program has it, then beside the native library, then the system's folders.
     */
    public GuardOptions runtimeLibrary(Path runtimeLibrary) {
        this.runtimeLibrary = Objects.requireNonNull(runtimeLibrary, "runtimeLibrary").toString();
        return this;
    }

    /** Memory with these options as its inputs. */
    Frame frame() {
        byte[] config = configToml == null ? new byte[0] : Utf8.encode("configToml", configToml);
        byte[] runtime = runtimeLibrary == null ? new byte[0] : Utf8.encode("runtimeLibrary", runtimeLibrary);
        Frame frame = Frame.allocate(null, (long) Layout.GuardOptions.SIZE + config.length + runtime.length);
        frame.check(Native.get().guardOptionsInit(frame.in(), Layout.GuardOptions.SIZE, frame.error()));
        frame.memory.putInt(Frame.IN + Layout.GuardOptions.THREADS, threads);
        frame.memory.putLong(Frame.IN + Layout.GuardOptions.CACHE_MIB, cacheMib);
        int text = Frame.IN + Layout.GuardOptions.SIZE;
        if (configToml != null) {
            frame.putPointer(Frame.IN + Layout.GuardOptions.CONFIG_TOML, text, config);
        }
        if (runtimeLibrary != null) {
            frame.putPointer(Frame.IN + Layout.GuardOptions.RUNTIME_LIBRARY, text + config.length, runtime);
        }
        return frame;
    }

    @Override
    public String toString() {
        return "GuardOptions[threads=" + threads + ", cacheMib=" + cacheMib + ", configToml=" + configToml
                + ", runtimeLibrary=" + runtimeLibrary + "]";
    }
}
