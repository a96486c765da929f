package io.github.libqwenguard;

/**
 * The ONNX Runtime of com.microsoft.onnxruntime, if the program has it. It is loaded the way that package loads it, so that the
 * process has it once, whoever needs it first; libqwenguard finds what is loaded. One that libqwenguard cannot use does no harm:
 * then it looks elsewhere.
 */
final class OfficialRuntime {
    static final String CLASS = "ai.onnxruntime.OrtEnvironment";

    static void load() {
        String named = System.getenv("ORT_DYLIB_PATH");
        if (named != null && !named.isEmpty()) {
            return;
        }
        try {
            // Its initializer loads the library and makes no environment.
            Class.forName(CLASS);
        } catch (ClassNotFoundException | LinkageError absent) {
            return;
        }
    }

    private OfficialRuntime() {}
}
