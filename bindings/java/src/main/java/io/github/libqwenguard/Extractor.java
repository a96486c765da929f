package io.github.libqwenguard;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardCopyOption;
import java.util.List;
import java.util.function.Function;
import java.util.zip.CRC32;

/**
 * Copies the native libraries out of the jar, all into one folder, so that each finds the others. The folder's name tells
 * what is in it, so that versions do not meet, and files appear whole or not at all.
 */
final class Extractor {
    static final String CACHE = "qwenguard.cache";

    private final Function<String, InputStream> resource;

    Extractor(Function<String, InputStream> resource) {
        this.resource = resource;
    }

    /** Where the folders go: of the user, because who can write there can run code. */
    static Path cache(Function<String, String> property, String platform) {
        String chosen = property.apply(CACHE);
        if (chosen != null) {
            return Paths.get(chosen);
        }
        Path home = Paths.get(property.apply("user.home"));
        if (platform.startsWith("windows")) {
            return home.resolve("AppData/Local/qwenguard");
        }
        return home.resolve(platform.startsWith("macos") ? "Library/Caches/qwenguard" : ".cache/qwenguard");
    }

    /**
     * Makes sure that the files are there.
     *
     * @param index lines of checksum, length and name
     * @return the folder they are in
     */
    Path extract(List<String> index, Path cache) throws IOException {
        Path folder = Files.createDirectories(cache.resolve(digest(index)));
        for (String line : index) {
            String[] parts = line.split(" ", 3);
            Path file = folder.resolve(parts[2]);
            if (!Files.isRegularFile(file) || Files.size(file) != Long.parseLong(parts[1])) {
                copy(parts[2], file);
            }
        }
        return folder;
    }

    private void copy(String name, Path file) throws IOException {
        Path part = Files.createTempFile(file.getParent(), name, ".part");
        try (InputStream source = resource.apply(name)) {
            if (source == null) {
                throw new IOException("the jar lacks " + name);
            }
            Files.copy(source, part, StandardCopyOption.REPLACE_EXISTING);
            Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
        } finally {
            Files.deleteIfExists(part);
        }
    }

    private static String digest(List<String> index) {
        CRC32 digest = new CRC32();
        digest.update(String.join("\n", index).getBytes(StandardCharsets.UTF_8));
        return String.format("%08x", digest.getValue());
    }
}
