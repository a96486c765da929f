package io.github.libqwenguard;

import java.io.IOException;
import java.io.InputStream;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.nio.file.StandardCopyOption;
import java.security.DigestInputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.List;
import java.util.function.Function;

/**
 * Copies the native libraries out of the jar, all into one folder, so that each finds the others. The folder's name tells
 * what is in it, so that versions do not meet. Files appear whole or not at all, and one that is not as in the jar, by its
 * SHA-256, is replaced before it is loaded.
 */
final class Extractor {
    static final String CACHE = "qwenguard.cache";

    private final Function<String, String> property;
    private final Function<String, InputStream> resource;
    private final List<String> index;
    private final String platform;
    /** Whether what is in the user's cache was given. */
    private boolean fromCache;

    /**
     * @param index lines of SHA-256, length and name
     */
    Extractor(
            Function<String, String> property,
            Function<String, InputStream> resource,
            List<String> index,
            String platform) {
        this.property = property;
        this.resource = resource;
        this.index = index;
        this.platform = platform;
    }

    /**
     * Makes sure that the files are there: in the folder that was chosen, else in the user's cache, else in a new temporary
     * folder, which goes when the process ends.
     *
     * @return the folder they are in
     */
    Path extract() throws IOException {
        String chosen = property.apply(CACHE);
        if (chosen != null && !chosen.isEmpty()) {
            return extract(Paths.get(chosen));
        }
        Path cache = userCache();
        IOException first = null;
        if (cache != null) {
            try {
                Path folder = extract(cache);
                fromCache = true;
                return folder;
            } catch (IOException failure) {
                first = failure;
            }
        }
        try {
            return temporary();
        } catch (IOException failure) {
            throw first == null ? failure : new IOException(first + ", then " + failure);
        }
    }

    /**
     * Another folder, where what is in the user's cache cannot be loaded, as from a file system that is mounted noexec: a
     * temporary one, once.
     *
     * @return null if there is none
     */
    Path elsewhere() throws IOException {
        if (!fromCache) {
            return null;
        }
        fromCache = false;
        return temporary();
    }

    /** Of the user alone, because who can write there can run code. Null if the user has no home. */
    private Path userCache() {
        String home = property.apply("user.home");
        // Java says "?" where it does not know.
        if (home == null || home.equals("?") || !Paths.get(home).isAbsolute() || !Files.isDirectory(Paths.get(home))) {
            return null;
        }
        String cache = platform.startsWith("windows") ? "AppData/Local/qwenguard"
                : platform.startsWith("macos") ? "Library/Caches/qwenguard" : ".cache/qwenguard";
        return Paths.get(home).resolve(cache);
    }

    private Path temporary() throws IOException {
        Path cache = Files.createTempDirectory(Paths.get(property.apply("java.io.tmpdir")), "qwenguard-");
        cache.toFile().deleteOnExit();
        Path folder = cache.resolve(digest());
        folder.toFile().deleteOnExit();
        for (String line : index) {
            folder.resolve(new Entry(line).name).toFile().deleteOnExit();
        }
        return extract(cache);
    }

    private Path extract(Path cache) throws IOException {
        Path folder = Files.createDirectories(cache.resolve(digest()));
        for (String line : index) {
            Entry entry = new Entry(line);
            Path file = folder.resolve(entry.name);
            if (!entry.describes(file)) {
                copy(entry, file);
            }
        }
        return folder;
    }

    private void copy(Entry entry, Path file) throws IOException {
        Path part = Files.createTempFile(file.getParent(), entry.name, ".part");
        try (InputStream source = resource.apply(entry.name)) {
            if (source == null) {
                throw new IOException("the jar lacks " + entry.name);
            }
            Files.copy(source, part, StandardCopyOption.REPLACE_EXISTING);
            if (!entry.describes(part)) {
                throw new IOException("in the jar, " + entry.name + " is damaged");
            }
            Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
        } finally {
            Files.deleteIfExists(part);
        }
    }

    private String digest() {
        byte[] text = String.join("\n", index).getBytes(StandardCharsets.UTF_8);
        return hex(sha256().digest(text)).substring(0, 16);
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException absent) {
            throw new IllegalStateException(absent); // every Java has it
        }
    }

    private static String hex(byte[] digest) {
        return String.format("%064x", new BigInteger(1, digest));
    }

    /** A line of the index. */
    private static final class Entry {
        final String sha256;
        final long length;
        final String name;

        Entry(String line) {
            String[] parts = line.split(" ", 3);
            sha256 = parts[0];
            length = Long.parseLong(parts[1]);
            name = parts[2];
        }

        boolean describes(Path file) throws IOException {
            if (!Files.isRegularFile(file) || Files.size(file) != length) {
                return false;
            }
            byte[] buffer = new byte[1 << 16];
            MessageDigest digest = sha256();
            try (InputStream bytes = new DigestInputStream(Files.newInputStream(file), digest)) {
                while (bytes.read(buffer) >= 0) {
                    // the digest sees what is read
                }
            }
            return hex(digest.digest()).equals(sha256);
        }
    }
}
