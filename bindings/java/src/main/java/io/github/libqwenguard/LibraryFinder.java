package io.github.libqwenguard;

import io.github.libqwenguard.spi.NativeLibraries;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.List;
import java.util.ServiceLoader;
import java.util.function.Function;

/**
 * Finds native libraries: where the property qwenguard.library.path says; else in a jar on the class or module path, from
 * where they are copied to a folder; else on java.library.path.
 */
final class LibraryFinder {
    static final String PATH = "qwenguard.library.path";

    private final Function<String, String> property;
    private final Function<String, InputStream> resource;
    private final String platform;
    private final List<String> tried = new ArrayList<>();
    /** What copies the files of the jar, and where they are, once they are. */
    private Extractor extractor;
    private Path extracted;

    LibraryFinder(Function<String, String> property, Function<String, InputStream> resource) {
        this.property = property;
        this.resource = resource;
        platform = Platform.of(property.apply("os.name"), property.apply("os.arch"));
    }

    static LibraryFinder ofProcess() {
        return new LibraryFinder(System::getProperty, LibraryFinder::packed);
    }

    /** Reads a file of some jar: of the class path as any file of it, of the module path through the service. */
    private static InputStream packed(String path) {
        ClassLoader loader = LibraryFinder.class.getClassLoader();
        InputStream found = loader == null
                ? ClassLoader.getSystemResourceAsStream(path.substring(1))
                : loader.getResourceAsStream(path.substring(1));
        if (found == null) {
            for (NativeLibraries jar : ServiceLoader.load(NativeLibraries.class, loader)) {
                found = jar.open(path);
                if (found != null) {
                    return found;
                }
            }
        }
        return found;
    }

    /**
     * Finds a library and loads it. From the user's cache that may be forbidden: then it comes from a temporary folder.
     *
     * @param loading throws an {@link UnsatisfiedLinkError} or {@link IllegalArgumentException} with the words of the
     *     system's loader
     */
    <T> T load(String name, Function<Path, T> loading) {
        try {
            return loading.apply(find(name));
        } catch (UnsatisfiedLinkError | IllegalArgumentException failure) {
            if (Musl.isHere()) {
                throw new UnsatisfiedLinkError(Musl.REFUSAL + " (" + failure.getMessage() + ")");
            }
            // Another class loader of the process has it: a second copy of the library would be no help.
            if (String.valueOf(failure.getMessage()).contains("already loaded") || !moved()) {
                throw failure;
            }
            try {
                return loading.apply(find(name));
            } catch (UnsatisfiedLinkError | IllegalArgumentException second) {
                throw new UnsatisfiedLinkError(failure.getMessage() + ", then " + second.getMessage() + ". Set "
                        + Extractor.CACHE + " to a folder that libraries can be loaded from.");
            }
        }
    }

    /** Copies the files of the jar to another folder. */
    private boolean moved() {
        try {
            Path elsewhere = extractor == null ? null : extractor.elsewhere();
            extracted = elsewhere == null ? extracted : elsewhere;
            return elsewhere != null;
        } catch (IOException failure) {
            return false; // the failure before it says more
        }
    }

    /** The absolute path of a library, given its name without prefix and suffix. */
    Path find(String name) {
        tried.clear();
        String explicit = property.apply(PATH);
        Path found = explicit == null ? null : given(Paths.get(explicit), name);
        if (found == null) {
            found = inJar(name);
        }
        String path = property.apply("java.library.path");
        if (found == null && path != null) {
            found = on(path, name);
        }
        if (found == null) {
            throw new UnsatisfiedLinkError("there is no " + fileNames(name).get(0) + ". Tried:\n  "
                    + String.join("\n  ", tried));
        }
        return found.toAbsolutePath();
    }

    /** In a folder, or beside a file. What was asked for must be there: nothing else may take its place. */
    private Path given(Path place, String name) {
        Path folder = Files.isDirectory(place) ? place : place.toAbsolutePath().getParent();
        if (name.equals("qwenguard") && Files.isRegularFile(place)) {
            return place;
        }
        Path found = in(folder, name, PATH);
        if (found == null && name.equals("qwenguard")) {
            throw new UnsatisfiedLinkError(PATH + " is " + place + ", where there is no " + fileNames(name).get(0));
        }
        return found;
    }

    private Path inJar(String name) {
        String folder = "/io/github/libqwenguard/native/" + platform;
        try (InputStream index = extracted != null ? null : resource.apply(folder + "/index")) {
            if (index != null) {
                extractor = new Extractor(
                        property, file -> resource.apply(folder + "/" + file), lines(index), platform);
                extracted = extractor.extract();
            }
        } catch (IOException failure) {
            throw new UnsatisfiedLinkError("cannot copy the native libraries out of the jar: " + failure
                    + ". Set " + Extractor.CACHE + " to a folder that this user can write to.");
        }
        if (extracted == null) {
            tried.add(folder + " on the class and module path: add the jar with the classifier " + platform);
            return null;
        }
        return in(extracted, name, "out of the jar");
    }

    private static List<String> lines(InputStream stream) throws IOException {
        List<String> lines = new ArrayList<>();
        BufferedReader reader = new BufferedReader(new InputStreamReader(stream, StandardCharsets.UTF_8));
        for (String line = reader.readLine(); line != null; line = reader.readLine()) {
            lines.add(line);
        }
        return lines;
    }

    private Path on(String path, String name) {
        for (String folder : path.split(File.pathSeparator)) {
            Path found = folder.isEmpty() ? null : in(Paths.get(folder), name, "java.library.path");
            if (found != null) {
                return found;
            }
        }
        return null;
    }

    private Path in(Path folder, String name, String why) {
        for (String file : fileNames(name)) {
            Path path = folder.resolve(file);
            if (Files.isRegularFile(path)) {
                return path;
            }
        }
        tried.add(folder + " (" + why + ")");
        return null;
    }

    /** As the linker wants it, and as it is installed where nothing is linked. */
    private List<String> fileNames(String name) {
        List<String> names = new ArrayList<>();
        if (platform.startsWith("windows")) {
            names.add(name + ".dll");
        } else if (platform.startsWith("macos")) {
            names.add("lib" + name + ".dylib");
            names.add("lib" + name + ".0.1.dylib");
        } else {
            names.add("lib" + name + ".so");
            names.add("lib" + name + ".so.0.1");
        }
        return names;
    }
}
