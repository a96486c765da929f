package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** That this binding has all of qwenguard.h, and nothing else. */
class HeaderTest {
    private static final Map<String, Integer> SIZES = new HashMap<>(Map.of(
            "qg_status", 4, "int32_t", 4, "uint32_t", 4, "float", 4, "uint64_t", 8, "double", 8, "size_t", 8));

    private static String header;

    @BeforeAll
    static void read() throws IOException {
        header = Fixtures.read(Fixtures.ROOT.resolve("include/qwenguard.h"))
                .replaceAll("(?s)/\\*.*?\\*/", "")
                .replaceAll("//.*", "");
    }

    private static List<MatchResult> all(String pattern, String text) {
        return Pattern.compile(pattern).matcher(text).results().toList();
    }

    private static String camelCase(String name) {
        return Pattern.compile("_(.)").matcher(name).replaceAll(match -> match.group(1).toUpperCase());
    }

    @Test
    void functions() {
        Map<String, String> wanted = new TreeMap<>();
        for (MatchResult function : all("(?m)^(\\w[\\w ]*?[ *]+)qg_(\\w+)\\(([^)]*)\\);", header)) {
            List<String> parameters = new ArrayList<>();
            for (String parameter : function.group(3).split(",")) {
                if (!parameter.equals("void")) {
                    parameters.add(javaType(parameter));
                }
            }
            wanted.put(camelCase(function.group(2)), javaType(function.group(1)) + parameters);
        }
        assertTrue(wanted.size() > 40, wanted::toString);

        Map<String, String> found = new TreeMap<>();
        for (Method method : RawFunctions.class.getDeclaredMethods()) {
            found.put(
                    method.getName(),
                    method.getReturnType()
                            + Arrays.stream(method.getParameterTypes()).map(Class::getName).toList().toString());
        }
        assertEquals(wanted, found);
    }

    private static String javaType(String type) {
        if (type.contains("*") || type.contains("_callback") || type.contains("size_t") || type.contains("uint64_t")) {
            return "long";
        }
        String name = type.replaceAll("\\w+$", "").strip();
        if (name.equals("double")) {
            return "double";
        }
        return type.strip().equals("void") ? "void" : "int";
    }

    @Test
    void numbers() {
        Map<String, Long> wanted = new TreeMap<>();
        for (MatchResult define : all("(?m)^#define QG_(\\w+) (.*)$", header)) {
            if (!define.group(1).startsWith("VERSION_")) {
                String value = define.group(2).strip();
                wanted.put(define.group(1), value.equals("UINT64_MAX") ? -1 : Long.parseLong(value));
            }
        }
        Map<String, Long> found = new TreeMap<>();
        for (Status status : Status.values()) {
            put(found, status == Status.OK ? "" : "ERROR_", status, status.number());
        }
        for (Decision decision : Decision.values()) {
            put(found, "DECISION_", decision, decision.number());
        }
        for (Risk risk : Risk.values()) {
            put(found, "RISK_", risk, risk.number());
        }
        for (Action action : Action.values()) {
            put(found, "ACTION_", action, action.number());
        }
        for (Channel channel : Channel.values()) {
            put(found, "CHANNEL_", channel, channel.number());
        }
        for (OpinionTrigger trigger : OpinionTrigger.values()) {
            put(found, "TRIGGER_", trigger, trigger.number());
        }
        for (OpinionOutcome outcome : OpinionOutcome.values()) {
            put(found, "OPINION_", outcome, outcome.number());
        }
        for (Heads heads : Heads.values()) {
            put(found, "HEADS_", heads, heads.number());
        }
        for (AnnotationMode mode : AnnotationMode.values()) {
            put(found, "MODE_", mode, mode.number());
        }
        for (Decoding decoding : Decoding.values()) {
            put(found, "DECODING_", decoding, decoding.number());
        }
        for (TextOverflow overflow : TextOverflow.values()) {
            put(found, "TEXT_OVERFLOW_", overflow, overflow.number());
        }
        for (LogLevel level : LogLevel.values()) {
            put(found, "LOG_", level, level.number());
        }
        for (VerdictChannel channel : VerdictChannel.values()) {
            put(found, "VERDICT_CHANNEL_", channel, channel.number());
        }
        for (Call.Kind kind : Call.Kind.values()) {
            put(found, "CALL_", kind, kind.ordinal());
        }
        assertEquals(wanted.keySet(), names(Constants.class));
        found.put("MAX_CATEGORIES", (long) Constants.MAX_CATEGORIES);
        found.put("ABI_VERSION", (long) Constants.ABI_VERSION);
        found.put("NO_TIMEOUT", Constants.NO_TIMEOUT);
        assertEquals(wanted, found);
    }

    private static Set<String> names(Class<?> constants) {
        return Arrays.stream(constants.getDeclaredFields())
                .map(Field::getName)
                .filter(name -> !name.startsWith("VERSION_"))
                .collect(Collectors.toSet());
    }

    private static void put(Map<String, Long> found, String prefix, Enum<?> value, int number) {
        if (!value.name().equals("UNKNOWN")) {
            found.put(prefix + value.name(), (long) number);
        }
    }

    @Test
    void structs() throws IllegalAccessException {
        List<MatchResult> structs = all("(?s)typedef struct qg_(\\w+) \\{(.*?)\\} qg_\\w+;", header);
        TreeSet<String> names = new TreeSet<>();
        for (MatchResult struct : structs) {
            String name = Pattern.compile("(?:^|_)(.)").matcher(struct.group(1))
                    .replaceAll(match -> match.group(1).toUpperCase());
            names.add(name);
            Map<String, Integer> wanted = layout(struct.group(2));
            SIZES.put("qg_" + struct.group(1), wanted.get("SIZE"));
            Map<String, Integer> found = new TreeMap<>();
            for (Field field : nested(name).getDeclaredFields()) {
                field.setAccessible(true);
                found.put(field.getName(), field.getInt(null));
            }
            assertEquals(wanted, found, name);
        }
        TreeSet<String> known = new TreeSet<>();
        for (Class<?> known0 : Layout.class.getDeclaredClasses()) {
            known.add(known0.getSimpleName());
        }
        assertEquals(names, known);
    }

    private static Class<?> nested(String name) {
        return Arrays.stream(Layout.class.getDeclaredClasses())
                .filter(it -> it.getSimpleName().equals(name))
                .findFirst()
                .orElseThrow(() -> new AssertionError("Layout has no " + name));
    }

    /** The places of a struct's fields, by the rules of C where pointers have 8 bytes. */
    private static Map<String, Integer> layout(String fields) {
        Map<String, Integer> places = new TreeMap<>();
        int end = 0;
        int largest = 1;
        for (MatchResult field : all("([\\w ]+?)\\s*(\\**)(\\w+)(?:\\[(\\d+)\\])?;", fields)) {
            String type = field.group(1).replaceAll("\\b(const|struct)\\b", "").strip();
            Integer size = field.group(2).isEmpty() ? SIZES.get(type) : Integer.valueOf(8);
            assertNotNull(size, "the size of " + type);
            int alignment = type.startsWith("qg_") && size > 8 ? alignmentOf(type) : size;
            end = (end + alignment - 1) / alignment * alignment;
            places.put(field.group(3).toUpperCase(), end);
            end += size * (field.group(4) == null ? 1 : Integer.parseInt(field.group(4)));
            largest = Math.max(largest, alignment);
        }
        places.put("SIZE", (end + largest - 1) / largest * largest);
        return places;
    }

    /** Of structs in structs, only a verdict has nothing of 8 bytes in it. */
    private static int alignmentOf(String struct) {
        return struct.equals("qg_verdict") ? 4 : 8;
    }

    @Test
    void versions() throws IOException {
        List<String> parts = all("#define QG_VERSION_(?:MAJOR|MINOR|PATCH) (\\d+)", header).stream()
                .map(match -> match.group(1))
                .toList();
        String version = String.join(".", parts);
        String pom = Fixtures.read(Fixtures.ROOT.resolve("bindings/java/pom.xml"));
        assertTrue(pom.contains("<artifactId>qwenguard</artifactId>\n  <version>" + version + "</version>"), version);
        assertEquals(version, Qwenguard.version());
        assertEquals(Integer.parseInt(parts.get(1)) * 1000 + Integer.parseInt(parts.get(2)), Qwenguard.versionNumber());
        assertEquals(Constants.ABI_VERSION, Qwenguard.abiVersion());
    }

    @Test
    void providerIsTheOneThatIsTested() {
        assertEquals(System.getProperty("qwenguard.provider"), Qwenguard.provider());
        assertEquals(Qwenguard.provider().equals("jni") ? "JniNative" : "FfmNative",
                Native.get().getClass().getSimpleName());
    }
}
