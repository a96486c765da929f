/** Moderates conversations with Qwen3Guard while a language model is still writing them. */
module io.github.libqwenguard {
    exports io.github.libqwenguard;
    exports io.github.libqwenguard.spi;

    uses io.github.libqwenguard.spi.NativeLibraries;
}
