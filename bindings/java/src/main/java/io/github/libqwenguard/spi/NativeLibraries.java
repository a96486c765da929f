package io.github.libqwenguard.spi;

import java.io.InputStream;

/**
 * A jar with native libraries. On the module path nobody else may read its files, and nobody would need its module: so it
 * provides this service. Programs have no use for it.
 */
public interface NativeLibraries {
    /**
     * Reads a file of the jar.
     *
     * @param path from the root, such as "/io/github/libqwenguard/native/linux-x86_64/index"
     * @return null if it has no such file
     */
    InputStream open(String path);
}
