package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The programs that people see first, and what they see if something is missing. */
class ProgramsTest {
    private static final String VERSION = """
            import io.github.libqwenguard.Qwenguard;
            public class Version {
                public static void main(String[] arguments) {
                    System.out.println(Qwenguard.provider() + " " + Qwenguard.version());
                }
            }
            """;

    private static void hasLine(String output, String pattern) {
        assertTrue(Pattern.compile("(?m)^" + pattern + "$").matcher(output).find(), output);
    }

    @Test
    void example() throws Exception {
        Path source = Fixtures.ROOT.resolve("bindings/java/examples/ModeratedPublisher.java");
        String output = new Program(source).run(0, Program.JAR, Program.NATIVES);
        hasLine(output, "bad-prompt: prompt refused, prompt\\.strict.*");
        hasLine(output, "turns: cut at byte 153 of \\d+, answer\\.strict: 2 consecutive: Unsafe");
        hasLine(output, "fine: complete, 233 bytes");
    }

    @Test
    void readme() throws Exception {
        String page = Fixtures.read(Fixtures.ROOT.resolve("bindings/java/README.md"));
        Matcher code = Pattern.compile("(?s)```java\n(import .*?)```").matcher(page);
        assertTrue(code.find(), "the page has a program");
        String output = Program.of("Chat", code.group(1)).run(0, Program.JAR, Program.NATIVES);
        Matcher said = Pattern.compile("(?s)```text\n(may be shown.*?)```").matcher(page);
        assertTrue(said.find(), "the page says what the program writes");
        assertEquals(said.group(1), output.replace("\r\n", "\n"));
    }

    /** In an empty folder, but for the program. */
    @Test
    void readmeCommands() throws Exception {
        String page = Fixtures.read(Fixtures.ROOT.resolve("bindings/java/README.md"));
        List<String> commands = Pattern.compile("(?s)```sh\n(.*?)```").matcher(page).results()
                .map(match -> match.group(1)).toList();
        assertEquals(4, commands.size());
        Matcher code = Pattern.compile("(?s)```java\n(import .*?)```").matcher(page);
        assertTrue(code.find(), "the page has a program");
        Path folder = Files.createTempDirectory("newcomer");
        Files.writeString(folder.resolve("Chat.java"), code.group(1));
        ProcessBuilder shell = new ProcessBuilder("sh", "-euc", commands.get(2) + commands.get(3))
                .directory(folder.toFile()).redirectErrorStream(true);
        shell.environment().put("CHECKOUT", Fixtures.ROOT.toRealPath().toString());
        shell.environment().put("DIST", Fixtures.DIST.toString());
        String bin = Path.of(System.getProperty("java.home"), "bin").toString();
        shell.environment().put("PATH", bin + File.pathSeparator + System.getenv("PATH"));
        shell.environment().put("JAVA_TOOL_OPTIONS", "-Dqwenguard.cache=" + System.getProperty("qwenguard.cache")
                + " -Dqwenguard.provider=" + Qwenguard.provider());
        Process process = shell.start();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertEquals(0, process.waitFor(), output);
        hasLine(output, "cut: Unsafe, answer\\.strict: 2 consecutive");
        hasLine(output, "turns: cut at byte 153 of .*");
    }

    @Test
    void readmeHasFutures() throws Exception {
        String page = Fixtures.read(Fixtures.ROOT.resolve("bindings/java/README.md"));
        Matcher code = Pattern.compile("(?s)```java\n(CompletionStage.*?)```").matcher(page);
        assertTrue(code.find(), "the page has futures");
        String program = "import io.github.libqwenguard.*; import java.util.concurrent.*; public class Futures {"
                + " static CompletionStage<Update> refuse(PromptCheck check) { throw new IllegalStateException(); }"
                + " public static void main(String[] arguments) {"
                + " String question = \"Hello\", piece = \"Hi there.\";"
                + " try (Guard guard = Guard.nano(); GuardStream stream = guard.stream()) {\n" + code.group(1)
                + "System.out.println(shown.toCompletableFuture().join().received()); } } }\n";
        assertEquals("9\n", Program.of("Futures", program).run(0, Program.JAR, Program.NATIVES));
    }

    @Test
    void readmeAnnotates() throws Exception {
        String page = Fixtures.read(Fixtures.ROOT.resolve("bindings/java/README.md"));
        Matcher code = Pattern.compile("(?s)```java\n(String bad.*?)```").matcher(page);
        assertTrue(code.find(), "the page annotates");
        String program = "import io.github.libqwenguard.*; public class Annotates { public static void main(String[] arguments) {"
                + " try (Guard guard = Guard.nanoGen()) {\n" + code.group(1)
                + "System.out.println(loose.decision()); } } }\n";
        String output = Program.of("Annotates", program).run(0, Program.JAR, Program.NATIVES);
        hasLine(output, "UNSAFE \\[Violent\\]");
        hasLine(output, "STOP: answer\\.strict");
        hasLine(output, "STOP");
    }

    @Test
    void onTheModulePath() throws Exception {
        Program program = Program.of("Version", VERSION);
        String version = Qwenguard.provider() + " " + Qwenguard.version() + "\n";
        assertEquals(version, program.runAsModule(0, "Version", Program.JAR, Program.NATIVES));
        String output = program.runAsModule(1, "Version", Program.JAR);
        assertTrue(output.contains("on the class and module path: add the jar with the classifier"), output);
    }

    /** Natives without ONNX Runtime need the module of its maker, and nobody has to ask for it. */
    @Test
    void onTheModulePathWithTheOfficialRuntime(@TempDir Path work) throws Exception {
        Path natives = work.resolve("natives");
        Path libraries;
        try (JarFile jar = new JarFile(Program.NATIVES)) {
            List<JarEntry> entries = jar.stream().filter(entry -> entry.getName().matches(".*/libqwenguard[^/]*")).toList();
            libraries = natives.resolve(entries.get(0).getName()).getParent();
            Files.createDirectories(libraries);
            for (JarEntry entry : entries) {
                Files.copy(jar.getInputStream(entry), natives.resolve(entry.getName()));
            }
        }
        Path official = Files.createDirectories(work.resolve("official/ai/onnxruntime"));
        Path source = Files.writeString(official.resolve("OrtEnvironment.java"), """
                package ai.onnxruntime;
                public class OrtEnvironment { static { System.out.println("theirs"); } }
                """);
        Path manifest = Files.writeString(work.resolve("manifest"), "Automatic-Module-Name: com.microsoft.onnxruntime\n");
        String bin = Path.of(System.getProperty("java.home"), "bin").toString();
        String commands = String.join("\n",
                "PATH=$0:$PATH",
                "sh bindings/java/src/main/native/pack.sh \"${0%/bin}\" " + libraries.getFileName() + " \"$1/natives\"",
                "jar --create --file \"$1/slim.jar\" -C \"$1/natives\" .",
                "javac \"$2\"",
                "jar --create --file \"$1/onnxruntime.jar\" --manifest \"$3\" -C \"$1/official\" .");
        Process process = new ProcessBuilder(
                        "sh", "-euc", commands, bin, work.toString(), source.toString(), manifest.toString())
                .directory(Fixtures.ROOT.toFile()).inheritIO().start();
        assertEquals(0, process.waitFor());
        Program program = Program.of("Version", VERSION);
        String slim = work.resolve("slim.jar").toString();
        String version = Qwenguard.provider() + " " + Qwenguard.version() + "\n";
        assertEquals("theirs\n" + version,
                program.runAsModule(0, "Version", Program.JAR, slim, work.resolve("onnxruntime.jar").toString()));
        String output = program.runAsModule(1, "Version", Program.JAR, slim);
        assertTrue(output.contains("Module com.microsoft.onnxruntime not found"), output);
        assertEquals("theirs\n" + version, program.run(0, Program.JAR, slim, work.resolve("onnxruntime.jar").toString()));
        assertEquals(version, program.run(0, Program.JAR, slim));
    }

    /** One jar with everything in it, as maven-shade makes it: its manifest says nothing of releases. */
    @Test
    void shaded() throws Exception {
        String shaded = System.getProperty("test.shaded");
        try (JarFile jar = new JarFile(shaded)) {
            assertNull(jar.getManifest().getMainAttributes().getValue("Multi-Release"));
        }
        String version = Qwenguard.provider() + " " + Qwenguard.version() + "\n";
        assertEquals(version, Program.of("Version", VERSION).run(0, shaded));
        Program chooses = Program.of("Version", VERSION).without("qwenguard.provider");
        assertEquals(Runtime.version().feature() < 22 ? "jni" : "ffm", chooses.run(0, shaded).split(" ")[0]);
        Path source = Fixtures.ROOT.resolve("bindings/java/examples/ModeratedPublisher.java");
        hasLine(new Program(source).run(0, shaded), "turns: cut at byte 153 of .*");
    }

    /** In a container whose user has no home, or one that cannot be written to. */
    @Test
    void withoutAHome() throws Exception {
        Path work = Files.createTempDirectory("temporary");
        for (String home : List.of("?", "/proc")) {
            Program program = Program.of("Version", VERSION)
                    .without("qwenguard.cache")
                    .option("user.home", home)
                    .option("java.io.tmpdir", work.toString());
            String version = Qwenguard.provider() + " " + Qwenguard.version() + "\n";
            assertEquals(version, program.run(0, Program.JAR, Program.NATIVES));
        }
        try (Stream<Path> left = Files.list(work)) {
            assertEquals(List.of(), left.toList());
        }
        Files.delete(work);
    }

    /** A home from which nothing can be loaded, in a file system of the program's own. */
    @Test
    void aHomeThatIsMountedNoexec(@TempDir Path work) throws Exception {
        Path home = Files.createDirectory(work.resolve("home"));
        Path temporary = Files.createDirectory(work.resolve("temporary"));
        List<String> unshare = List.of("unshare", "-rm", "sh", "-euc", "mount -t tmpfs -o noexec none \"$0\"; exec \"$@\"");
        List<String> trial = new ArrayList<>(unshare);
        trial.addAll(List.of(home.toString(), "true"));
        assumeTrue(new ProcessBuilder(trial).start().waitFor() == 0, "SKIPPED: no file system can be mounted here");
        String[] mounted = Stream.concat(unshare.stream(), Stream.of(home.toString())).toArray(String[]::new);
        Program program = Program.of("Version", VERSION)
                .by(mounted)
                .option("user.home", home.toString())
                .option("java.io.tmpdir", temporary.toString());
        String version = Qwenguard.provider() + " " + Qwenguard.version() + "\n";
        for (Program asked : List.of(program.without("qwenguard.cache"), program.option("qwenguard.cache", ""))) {
            assertEquals(version, asked.run(0, Program.JAR, Program.NATIVES));
        }
        String output = program.without("qwenguard.cache")
                .option("qwenguard.cache", home.toString())
                .run(1, Program.JAR, Program.NATIVES);
        assertTrue(output.contains("cannot load libqwenguard: ") && output.contains(home.toString()), output);
        try (Stream<Path> left = Files.list(temporary)) {
            assertEquals(List.of(), left.toList());
        }
    }

    @Test
    void withoutTheNatives() throws Exception {
        String output = Program.of("Version", VERSION).run(1, Program.JAR);
        assertTrue(output.contains("cannot load libqwenguard: there is no libqwenguard.so"), output);
        assertTrue(output.contains("add the jar with the classifier"), output);
    }

    @Test
    void aFolderOfLibraries() throws Exception {
        String version = Qwenguard.provider() + " " + Qwenguard.version() + "\n";
        for (String property : List.of("qwenguard.library.path", "java.library.path")) {
            if (Qwenguard.provider().equals("ffm")) {
                Program program = Program.of("Version", VERSION)
                        .option(property, Fixtures.DIST.resolve("lib").toString());
                assertEquals(version, program.run(0, Program.JAR));
            }
        }
        Program program = Program.of("Version", VERSION)
                .option("qwenguard.library.path", Fixtures.DIST.resolve("lib").toString());
        assertEquals(version, program.run(0, Program.JAR, Program.NATIVES));
    }

    @Test
    void wrongProperties() throws Exception {
        String output = Program.of("Version", VERSION).option("qwenguard.provider", "jna").run(1, Program.JAR);
        assertTrue(output.contains("qwenguard.provider is jna, neither jni nor ffm"), output);
        output = Program.of("Version", VERSION).option("qwenguard.library.path", "/nowhere").run(1, Program.JAR);
        assertTrue(output.contains("qwenguard.library.path is /nowhere"), output);
        output = Program.of("Version", VERSION)
                .option("qwenguard.library.path", Fixtures.ROOT.resolve("README.md").toString())
                .run(1, Program.JAR);
        assertTrue(output.contains("cannot load libqwenguard: ") && output.contains("README.md"), output);
        if (Qwenguard.provider().equals("jni") && Runtime.version().feature() < 22) {
            output = Program.of("Version", VERSION).option("qwenguard.provider", "ffm").run(1, Program.JAR);
            assertTrue(output.contains("qwenguard.provider=ffm needs Java 22 or newer"), output);
        }
    }

    @Test
    void anotherBinaryInterface() throws Exception {
        Path work = Files.createDirectories(Path.of(System.getProperty("test.work"), Qwenguard.provider()));
        StringBuilder source = new StringBuilder("const char *qg_version(void) { return \"9.8.7\"; }\n");
        Matcher names = Pattern.compile("\\b(qg_\\w+)\\(").matcher(
                Fixtures.read(Fixtures.ROOT.resolve("include/qwenguard.h")).replaceAll("(?s)/\\*.*?\\*/|//[^\n]*", ""));
        for (String name : names.results().map(match -> match.group(1)).distinct().toList()) {
            source.append(name.equals("qg_version") ? "" : "int " + name + "(void) { return 6; }\n");
        }
        Path library = work.resolve("libqwenguard.so");
        int code = new ProcessBuilder("cc", "-shared", "-fPIC", "-Wl,-soname,libqwenguard.so.0.1", "-o", library.toString(),
                        Files.writeString(work.resolve("other.c"), source).toString())
                .inheritIO()
                .start()
                .waitFor();
        assertEquals(0, code);
        String output = Program.of("Version", VERSION)
                .option("qwenguard.library.path", library.toString())
                .run(1, Program.JAR, Program.NATIVES);
        assertTrue(output.contains("libqwenguard 9.8.7 has binary interface 6, this program needs 1"), output);
    }
}
