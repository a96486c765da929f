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
    private static JsonObject vectors;
    private static Guard guard;

    @BeforeAll
    static void open() throws IOException {
        vectors = JsonParser.parseString(Fixtures.read(Fixtures.ROOT.resolve("tests/vectors/vectors.json")))
                .getAsJsonObject();
        guard = Guard.nano(new GuardOptions().configToml(vectors.get("config").getAsString()));
    }

    @AfterAll
    static void close() {
        guard.close();
    }

    @Test
    void formatAndCategories() {
        assertEquals(1, vectors.get("format").getAsInt());
        for (Heads heads : Heads.values()) {
            JsonElement expected = vectors.getAsJsonObject("categories").get(heads.name().toLowerCase());
            assertEquals(strings(expected.getAsJsonArray()), guard.categories(heads));
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
        for (JsonElement test : vectors.getAsJsonArray("cases")) {
            String name = test.getAsJsonObject().get("name").getAsString();
            JsonArray steps = test.getAsJsonObject().getAsJsonArray("steps");
            tests.add(DynamicTest.dynamicTest(name, () -> run(name, steps)));
        }
        assertTrue(tests.size() > 20, "there are cases");
        return tests;
    }

    private static void run(String name, JsonArray steps) throws InterruptedException {
        try (VectorCase runner = new VectorCase(guard)) {
            for (int index = 0; index < steps.size(); index++) {
                runner.run(name + ", step " + index, steps.get(index).getAsJsonObject());
            }
        }
    }
}
