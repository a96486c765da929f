package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** A program in a source file, run by the Java and with the provider that are tested. */
final class Program {
    static final String JAR = System.getProperty("test.jar");
    static final String NATIVES = System.getProperty("test.natives");

    private final List<String> options = new ArrayList<>(List.of("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8"));
    private final List<String> starter = new ArrayList<>();
    private final Path source;

    Program(Path source) {
        this.source = source;
        option("qwenguard.provider", Qwenguard.provider());
        option("qwenguard.cache", System.getProperty("qwenguard.cache"));
        if (Runtime.version().feature() >= 22) {
            options.add("--enable-native-access=ALL-UNNAMED");
        }
    }

    /** One with a main method of this text. */
    static Program of(String name, String text) throws IOException {
        Path folder = Files.createDirectories(Path.of(System.getProperty("test.work"), Qwenguard.provider()));
        return new Program(Files.writeString(folder.resolve(name + ".java"), text));
    }

    Program option(String property, String value) {
        options.add("-D" + property + "=" + value);
        return this;
    }

    Program without(String property) {
        options.removeIf(option -> option.startsWith("-D" + property + "="));
        return this;
    }

    /** Starts it by another command, which begins with these words. */
    Program by(String... words) {
        starter.addAll(List.of(words));
        return this;
    }

    /** What it prints. It must end with this code. */
    String run(int code, String... classPath) throws IOException, InterruptedException {
        List<String> command = new ArrayList<>(starter);
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(options);
        command.addAll(List.of("-cp", String.join(File.pathSeparator, classPath), source.toString()));
        return run(command, code);
    }

    /**
     * What it prints as the module {@code app}, which is compiled for the Java that is tested, with jars on the module path.
     * Native access is allowed to no module but that of the library.
     */
    String runAsModule(int code, String mainClass, String... modulePath) throws IOException, InterruptedException {
        String jars = String.join(File.pathSeparator, modulePath);
        Path folder = Files.createDirectories(source.resolveSibling(mainClass + "-module"));
        Path module = Files.writeString(
                folder.resolve("module-info.java"), "module app { requires io.github.libqwenguard; }\n");
        Path packaged = Files.writeString(
                folder.resolve(mainClass + ".java"), "package app;\n" + Files.readString(source));
        Path java = Path.of(System.getProperty("java.home"), "bin");
        run(List.of(java.resolve("javac").toString(), "-p", jars, "-d", folder.resolve("out").toString(),
                module.toString(), packaged.toString()), 0);
        List<String> command = new ArrayList<>(starter);
        command.add(java.resolve("java").toString());
        for (String option : options) {
            command.add(option.replace("ALL-UNNAMED", "io.github.libqwenguard"));
        }
        command.addAll(List.of("-p", jars + File.pathSeparator + folder.resolve("out"), "-m", "app/app." + mainClass));
        return run(command, code);
    }

    private static String run(List<String> command, int code) throws IOException, InterruptedException {
        Path output = Files.createTempFile("program", ".txt");
        try {
            Process process = new ProcessBuilder(command)
                    .redirectErrorStream(true)
                    .redirectOutput(output.toFile())
                    .start();
            boolean ended = process.waitFor(60, TimeUnit.SECONDS);
            process.destroyForcibly();
            String text = Files.readString(output, StandardCharsets.UTF_8);
            assertTrue(ended && process.exitValue() == code, text);
            return text;
        } finally {
            Files.delete(output);
        }
    }
}
