package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** The conversations that all languages must judge alike: tests/vectors. */
class VectorsTest {
    private static final List<String> FILES = Fixtures.PROVIDER.isEmpty()
            ? List.of("vectors.json", "opinions.json", "built_in_opinions.json")
            : List.of("vectors.json");

    private static final List<JsonObject> VECTORS = new ArrayList<>();
    private static final List<Guard> GUARDS = new ArrayList<>();

    @BeforeAll
    static void open() throws IOException {
        for (String file : FILES) {
            JsonObject vectors = JsonParser.parseString(Fixtures.read(Fixtures.ROOT.resolve("tests/vectors").resolve(file)))
                    .getAsJsonObject();
            String config = vectors.get("config").getAsString();
            if (vectors.has("second_opinion")) {
                config += "\n[second_opinion]\nbundle = '"
                        + Fixtures.ROOT.resolve(vectors.get("second_opinion").getAsString()).toAbsolutePath()
                        + "'\ncache_mib = 64\n";
            }
            VECTORS.add(vectors);
            GUARDS.add(open(config));
        }
    }

    private static Guard open(String config) {
        if (Fixtures.PROVIDER.isEmpty()) {
            return Guard.nano(new GuardOptions().configToml(config));
        }
        String toml = config + "\nruntime.provider = '" + Fixtures.PROVIDER + "'";
        return Guard.open(Fixtures.ROOT.resolve("target/golden-gpu/nano"), new GuardOptions().configToml(toml));
    }

    @AfterAll
    static void close() {
        GUARDS.forEach(Guard::close);
        GUARDS.clear();
        VECTORS.clear();
    }

    @Test
    void formatAndCategories() {
        for (int index = 0; index < FILES.size(); index++) {
            assertEquals(1, VECTORS.get(index).get("format").getAsInt());
            for (Heads heads : Heads.values()) {
                JsonElement expected = VECTORS.get(index).getAsJsonObject("categories").get(heads.name().toLowerCase());
                assertEquals(strings(expected.getAsJsonArray()), GUARDS.get(index).categories(heads));
            }
        }
    }

    private static List<String> strings(JsonArray array) {
        return elements(array).map(JsonElement::getAsString).toList();
    }

    static Stream<JsonElement> elements(JsonArray array) {
        return StreamSupport.stream(array.spliterator(), false);
    }

    @TestFactory
    List<DynamicTest> cases() {
        List<DynamicTest> tests = new ArrayList<>();
        for (int index = 0; index < FILES.size(); index++) {
            Guard guard = GUARDS.get(index);
            for (JsonElement test : VECTORS.get(index).getAsJsonArray("cases")) {
                String name = test.getAsJsonObject().get("name").getAsString();
                JsonArray steps = test.getAsJsonObject().getAsJsonArray("steps");
                tests.add(DynamicTest.dynamicTest(name, () -> run(guard, name, steps)));
            }
        }
        assertTrue(tests.size() > 20, "there are cases");
        return tests;
    }

    private static void run(Guard guard, String name, JsonArray steps) throws InterruptedException {
        try (VectorCase runner = new VectorCase(guard)) {
            for (int index = 0; index < steps.size(); index++) {
                runner.run(name + ", step " + index, steps.get(index).getAsJsonObject());
            }
        }
    }
}
