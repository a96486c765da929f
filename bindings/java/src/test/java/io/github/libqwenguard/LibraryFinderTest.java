package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.IOException;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LibraryFinderTest {
    private static final String RESOURCES = "/io/github/libqwenguard/native/linux-x86_64/";

    @TempDir
    private Path folder;

    private final Map<String, String> properties = new HashMap<>();
    private final Map<String, String> resources = new HashMap<>();

    @BeforeEach
    void linux() throws IOException {
        properties.put("os.name", "Linux");
        properties.put("os.arch", "amd64");
        properties.put("user.home", Files.createDirectory(folder.resolve("home")).toString());
        properties.put("java.io.tmpdir", Files.createDirectory(folder.resolve("tmp")).toString());
        properties.put("java.library.path", "");
    }

    private LibraryFinder finder() {
        return new LibraryFinder(properties::get, path -> {
            String text = resources.get(path);
            return text == null ? null : new ByteArrayInputStream(text.getBytes(StandardCharsets.UTF_8));
        });
    }

    private Path find(String name) {
        return finder().find(name);
    }

    /** A jar of some version, with its index. */
    private void packed(String version, String... names) throws Exception {
        StringBuilder index = new StringBuilder();
        for (String name : names) {
            String text = version + " of " + name;
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
            index.append(String.format("%064x %d %s%n", new BigInteger(1, digest), text.length(), name));
            resources.put(RESOURCES + name, text);
        }
        resources.put(RESOURCES + "index", index.toString());
    }

    private Path file(String path) throws IOException {
        Path file = folder.resolve(path);
        Files.createDirectories(file.getParent());
        return Files.writeString(file, "library");
    }

    private String failure(String name) {
        return assertThrows(UnsatisfiedLinkError.class, () -> find(name)).getMessage();
    }

    @Test
    void explicitComesFirst() throws Exception {
        packed("1", "libqwenguard.so.0.1", "libqwenguard_jni.so");
        Path chosen = file("given/libqwenguard.so");
        properties.put(LibraryFinder.PATH, chosen.getParent().toString());
        assertEquals(chosen, find("qwenguard"));
        properties.put(LibraryFinder.PATH, file("given/mine.so").toString());
        assertEquals(folder.resolve("given/mine.so"), find("qwenguard"));
        assertTrue(find("qwenguard_jni").startsWith(folder.resolve("home/.cache/qwenguard")));
    }

    @Test
    void explicitIsNotReplaced() throws Exception {
        packed("1", "libqwenguard.so.0.1");
        properties.put(LibraryFinder.PATH, folder.resolve("nowhere").toString());
        assertTrue(failure("qwenguard").contains("qwenguard.library.path is " + folder.resolve("nowhere")));
    }

    @Test
    void theJarComesBeforeTheSystem() throws Exception {
        file("system/libqwenguard.so");
        properties.put("java.library.path", folder.resolve("empty") + File.pathSeparator + folder.resolve("system"));
        assertEquals(folder.resolve("system/libqwenguard.so"), find("qwenguard"));
        packed("1", "libqwenguard.so.0.1", "libonnxruntime.so");
        Path found = find("qwenguard");
        assertTrue(found.startsWith(folder.resolve("home/.cache/qwenguard")), found::toString);
        assertEquals("1 of libqwenguard.so.0.1", Files.readString(found));
        assertTrue(Files.exists(found.resolveSibling("libonnxruntime.so")));
    }

    @Test
    void theErrorListsWhatWasTried() {
        properties.put("java.library.path", "/one:/two");
        String message = failure("qwenguard");
        for (String part : List.of("libqwenguard.so", "/one", "/two", RESOURCES.replaceAll("/$", ""), "linux-x86_64")) {
            assertTrue(message.contains(part), message);
        }
    }

    @Test
    void filesOfOtherSystems() throws IOException {
        properties.put("java.library.path", folder.toString());
        properties.put("os.name", "Windows 11");
        assertEquals(file("qwenguard.dll"), find("qwenguard"));
        properties.put("os.name", "Mac OS X");
        assertEquals(file("libqwenguard.0.1.dylib"), find("qwenguard"));
        assertEquals(file("libqwenguard.dylib"), find("qwenguard"));
    }

    @Test
    void theCacheIsRepairedAndVersioned() throws Exception {
        properties.put(Extractor.CACHE, folder.resolve("cache").toString());
        packed("1", "libqwenguard.so.0.1");
        Path first = find("qwenguard");
        assertTrue(first.startsWith(folder.resolve("cache")));
        for (String damage : List.of("cut", "1 of libqwenguard.so.0.2")) {
            Files.writeString(first, damage);
            assertEquals(first, find("qwenguard"));
            assertEquals("1 of libqwenguard.so.0.1", Files.readString(first));
        }
        packed("2", "libqwenguard.so.0.1");
        assertFalse(first.equals(find("qwenguard")));
        try (Stream<Path> files = Files.list(first.getParent())) {
            assertEquals(1, files.count(), "nothing is left over");
        }
    }

    @Test
    void aCacheThatWasChosenIsNotReplaced() throws Exception {
        packed("1", "libqwenguard.so.0.1");
        properties.put(Extractor.CACHE, file("a file").resolve("below").toString());
        String message = failure("qwenguard");
        assertTrue(message.contains("Set qwenguard.cache") && message.contains("a file"), message);
    }

    @Test
    void withoutAHomeItIsATemporaryFolder() throws Exception {
        packed("1", "libqwenguard.so.0.1", "libqwenguard_jni.so");
        Path occupied = file("occupied/.cache").getParent();
        for (String home : new String[] {"?", null, "", "relative", folder.resolve("none").toString(), occupied.toString()}) {
            properties.put("user.home", home);
            Path found = find("qwenguard");
            assertTrue(found.startsWith(folder.resolve("tmp")), found + " for " + home);
            assertEquals("1 of libqwenguard.so.0.1", Files.readString(found));
        }
        properties.put("java.io.tmpdir", folder.resolve("none").toString());
        String message = failure("qwenguard");
        assertTrue(message.contains("occupied") && message.contains("none"), message);
    }

    @Test
    void anEmptyCacheIsNotChosen() throws Exception {
        packed("1", "libqwenguard.so.0.1");
        properties.put(Extractor.CACHE, "");
        assertTrue(find("qwenguard").startsWith(folder.resolve("home/.cache/qwenguard")));
    }

    /** As from a folder that is mounted noexec. */
    @Test
    void whatCannotBeLoadedComesFromATemporaryFolder() throws Exception {
        packed("1", "libqwenguard.so.0.1", "libqwenguard_jni.so");
        Path home = folder.resolve("home");
        List<Path> tried = new ArrayList<>();
        for (Throwable words : List.of(new UnsatisfiedLinkError("not permitted"), new IllegalArgumentException("no"))) {
            tried.clear();
            LibraryFinder finder = finder();
            for (String name : List.of("qwenguard", "qwenguard_jni")) {
                assertTrue(finder.load(name, path -> loading(path, home, words, tried)).startsWith(folder.resolve("tmp")));
            }
            assertEquals(3, tried.size(), tried::toString);
        }
        tried.clear();
        Throwable no = new UnsatisfiedLinkError("not permitted");
        UnsatisfiedLinkError twice = assertThrows(
                UnsatisfiedLinkError.class, () -> finder().load("qwenguard", path -> loading(path, folder, no, tried)));
        assertTrue(twice.getMessage().matches("not permitted, then not permitted. Set qwenguard.cache to .*"), twice.getMessage());
        assertEquals(2, tried.size());
        // No other copy of what another class loader has, and nothing in place of what was chosen.
        Throwable loaded = new UnsatisfiedLinkError("Native Library x already loaded in another classloader");
        properties.put("user.home", home.toString());
        assertEquals(loaded, assertThrows(
                UnsatisfiedLinkError.class, () -> finder().load("qwenguard", path -> loading(path, home, loaded, tried))));
        properties.put(Extractor.CACHE, folder.resolve("chosen").toString());
        assertEquals(no, assertThrows(
                UnsatisfiedLinkError.class, () -> finder().load("qwenguard", path -> loading(path, folder, no, tried))));
    }

    /** Fails below a folder. */
    private static Path loading(Path path, Path where, Throwable words, List<Path> tried) {
        tried.add(path);
        if (path.startsWith(where)) {
            if (words instanceof Error error) {
                throw error;
            }
            throw (RuntimeException) words;
        }
        return path;
    }

    @Test
    void musl() throws Exception {
        assertFalse(Musl.isHere());
        assertFalse(Musl.isIn(folder.resolve("none")));
        Path maps = folder.resolve("maps");
        Files.writeString(maps, "7f00-7f01 r-xp 00000000 00:00 1    /lib/x86_64-linux-gnu/ld-linux-x86-64.so.2\n");
        assertFalse(Musl.isIn(maps));
        Files.writeString(maps, "7f00-7f01 r-xp 00000000 00:00 1    /lib/ld-musl-x86_64.so.1\n");
        assertTrue(Musl.isIn(maps));
    }

    @Test
    void aDamagedJar() throws Exception {
        packed("1", "libqwenguard.so.0.1");
        resources.put(RESOURCES + "libqwenguard.so.0.1", "1 of libqwenguard.so.0.2");
        properties.put(Extractor.CACHE, folder.toString());
        assertTrue(failure("qwenguard").contains("in the jar, libqwenguard.so.0.1 is damaged"));
        resources.remove(RESOURCES + "libqwenguard.so.0.1");
        assertTrue(failure("qwenguard").contains("the jar lacks libqwenguard.so.0.1"));
    }

    @Test
    void manyProcessesAtOnce() throws Exception {
        packed("1", "libqwenguard.so.0.1", "libonnxruntime.so");
        ExecutorService threads = Executors.newFixedThreadPool(8);
        try {
            List<Future<Path>> found = new ArrayList<>();
            for (int count = 0; count < 32; count++) {
                found.add(threads.submit(() -> find("qwenguard")));
            }
            for (Future<Path> one : found) {
                assertEquals("1 of libqwenguard.so.0.1", Files.readString(one.get()));
            }
        } finally {
            threads.shutdown();
        }
    }
}
