package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Supplier;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** tests/vectors/annotations.json: every conversation alone, together with the others of its group, and through a queue. */
class AnnotationVectorsTest {
    /** An annotation, or why there is none. */
    private record Answer(Annotation annotation, int status, String message) {
        static Answer of(Supplier<Annotation> call) {
            try {
                return new Answer(call.get(), 0, "");
            } catch (QwenguardException failure) {
                return new Answer(null, failure.statusNumber(), failure.detail());
            }
        }
    }

    @TestFactory
    List<DynamicTest> groups() throws IOException {
        JsonObject vectors = JsonParser.parseString(
                        Fixtures.read(Fixtures.ROOT.resolve("tests/vectors/annotations.json")))
                .getAsJsonObject();
        assertEquals(1, vectors.get("format").getAsInt());
        List<DynamicTest> tests = new ArrayList<>();
        for (JsonElement element : vectors.getAsJsonArray("groups")) {
            JsonObject group = element.getAsJsonObject();
            String name = group.get("guard").getAsString() + ", " + group.get("decoding").getAsString() + ", "
                    + group.get("overflow").getAsString();
            String config = vectors.get("config").getAsString();
            tests.add(DynamicTest.dynamicTest(name, () -> run(group, config)));
        }
        assertTrue(tests.size() > 5, "there are groups");
        return tests;
    }

    private static Guard open(String bundle, GuardOptions options) {
        switch (bundle) {
            case "nano":
                return Guard.nano(options);
            case "nano-gen":
                return Guard.nanoGen(options);
            default:
                return Guard.open(Fixtures.ROOT.resolve(bundle), options);
        }
    }

    private static void run(JsonObject group, String config) throws InterruptedException {
        String bundle = group.get("guard").getAsString();
        GuardOptions guardOptions = new GuardOptions().configToml(config);
        TextOverflow overflow = TextOverflow.valueOf(group.get("overflow").getAsString().toUpperCase());
        AnnotateOptions options = new AnnotateOptions()
                .decoding(Decoding.valueOf(group.get("decoding").getAsString().toUpperCase()))
                .overflow(overflow);
        try (Guard guard = open(bundle, guardOptions)) {
            JsonObject categories = group.getAsJsonObject("categories");
            assertEquals(categories.getAsJsonArray("prompt"), texts(guard.categories(Heads.PROMPT)));
            assertEquals(categories.getAsJsonArray("response"), texts(guard.categories(Heads.ANSWER)));
            List<JsonObject> cases = VectorsTest.elements(group.getAsJsonArray("cases"))
                    .map(JsonElement::getAsJsonObject)
                    .toList();
            List<List<Message>> all = cases.stream().map(AnnotationVectorsTest::messages).toList();
            compare(guard, "alone", cases, all.stream()
                    .map(messages -> Answer.of(() -> guard.annotate(messages, options)))
                    .toList());
            if (overflow != TextOverflow.REFUSE) {
                return;
            }
            compare(guard, "together", cases, guard.annotateAll(all, options).stream()
                    .map(reply -> Answer.of(reply::annotation))
                    .toList());
            compare(guard, "queued", cases, queued(guard, all, options));
        }
    }

    private static List<Message> messages(JsonObject test) {
        List<Message> messages = new ArrayList<>();
        for (JsonElement element : test.getAsJsonArray("messages")) {
            JsonObject message = element.getAsJsonObject();
            boolean isLast = messages.size() + 1 == test.getAsJsonArray("messages").size();
            int times = isLast && test.has("repeat") ? test.get("repeat").getAsInt() : 1;
            messages.add(Message.of(
                    message.get("role").getAsString(), message.get("content").getAsString().repeat(times)));
        }
        return messages;
    }

    private static List<Answer> queued(Guard guard, List<List<Message>> all, AnnotateOptions options)
            throws InterruptedException {
        Answer[] answers = new Answer[all.size()];
        try (CompletionQueue queue = CompletionQueue.open()) {
            for (int index = 0; index < answers.length; index++) {
                int tag = index;
                answers[index] = Answer.of(() -> {
                    queue.annotate(guard, all.get(tag), options, tag);
                    return null;
                });
            }
            while (queue.size() > 0) {
                for (Completion done : queue.await(2)) {
                    assertNull(done.stream());
                    answers[(int) done.tag()] = Answer.of(done.reply()::annotation);
                }
            }
        }
        return Arrays.asList(answers);
    }

    private static void compare(Guard guard, String way, List<JsonObject> cases, List<Answer> answers) {
        assertEquals(cases.size(), answers.size());
        for (int index = 0; index < answers.size(); index++) {
            JsonObject test = cases.get(index);
            JsonObject expected = test.getAsJsonObject("expect");
            VectorCheck check = new VectorCheck(guard, test.get("name").getAsString() + ", " + way, expected);
            Answer answer = answers.get(index);
            if (answer.annotation() == null) {
                check.failure(answer.status(), answer.message());
            } else {
                check.success();
                check.same("annotation", expected, found(test, answers, answer.annotation()));
            }
        }
    }

    private static JsonObject found(JsonObject test, List<Answer> answers, Annotation annotation) {
        JsonObject line = JsonParser.parseString(annotation.json()).getAsJsonObject();
        assertEquals(VectorCheck.lower(annotation.mode()), line.get("mode").getAsString());
        JsonObject found = said(annotation);
        JsonArray judgements = new JsonArray();
        for (JsonElement policy : list(test, "policies")) {
            judgements.add(attempt(() -> judged(annotation.judge(policy.getAsString()))));
        }
        found.add("judgements", judgements);
        JsonArray rewards = new JsonArray();
        for (JsonElement element : list(test, "rewards")) {
            JsonObject step = element.getAsJsonObject();
            String rule = step.has("rule") ? step.get("rule").getAsString() : "";
            double helpfulness = step.has("helpfulness") ? step.get("helpfulness").getAsDouble() : 0;
            Annotation thinking =
                    step.has("thinking") ? answers.get(step.get("thinking").getAsInt()).annotation() : null;
            rewards.add(attempt(() -> {
                JsonObject reward = new JsonObject();
                reward.addProperty("reward", (float) annotation.reward(rule, helpfulness, thinking));
                return reward;
            }));
        }
        found.add("rewards", rewards);
        return found;
    }

    private static JsonArray list(JsonObject test, String name) {
        return test.has(name) ? test.getAsJsonArray(name) : new JsonArray();
    }

    private static JsonObject attempt(Supplier<JsonObject> call) {
        try {
            return call.get();
        } catch (QwenguardException failure) {
            JsonObject error = new JsonObject();
            error.addProperty("status", Qwenguard.statusName(failure.statusNumber()));
            error.addProperty("message", failure.detail());
            JsonObject found = new JsonObject();
            found.add("error", error);
            return found;
        }
    }

    private static JsonObject said(Annotation annotation) {
        JsonObject found = judged(new Judgement(annotation.decision(), annotation.finding().orElse(null)));
        found.addProperty("mode", VectorCheck.lower(annotation.mode()));
        found.addProperty("risk", annotation.risk().label());
        JsonArray risks = new JsonArray();
        for (Risk risk : List.of(Risk.SAFE, Risk.CONTROVERSIAL, Risk.UNSAFE)) {
            annotation.probability(risk).ifPresent(risks::add);
        }
        found.add("risk_probs", risks.isEmpty() ? null : risks);
        found.add("categories", texts(annotation.categories()));
        JsonArray probabilities = new JsonArray();
        annotation.categoryProbabilities().values().forEach(probabilities::add);
        found.add("category_probs", probabilities.isEmpty() ? null : probabilities);
        found.addProperty("none_prob", annotation.noneProbability());
        found.addProperty("refusal", annotation.refusal().orElse(null));
        found.addProperty("refusal_prob", annotation.refusalProbability().orElse(null));
        found.addProperty("parsed", annotation.isParsed());
        found.addProperty("answer", annotation.answer());
        found.addProperty("cut", annotation.isCut());
        JsonArray judged = new JsonArray();
        judged.add(annotation.judged().start());
        judged.add(annotation.judged().end());
        found.add("judged", judged);
        found.addProperty("windows", annotation.windows());
        found.addProperty("ids", annotation.idCount());
        return found;
    }

    private static JsonObject judged(Judgement judgement) {
        JsonObject found = new JsonObject();
        found.addProperty("decision", VectorCheck.lower(judgement.decision()));
        found.add("finding", null);
        judgement.finding().ifPresent(it -> {
            JsonObject finding = new JsonObject();
            finding.addProperty("action", VectorCheck.lower(it.action()));
            finding.addProperty("risk", it.risk().label());
            finding.addProperty("category", it.category().orElse(null));
            finding.addProperty("probability", it.probability());
            finding.addProperty("rule", it.rule());
            found.add("finding", finding);
        });
        return found;
    }

    private static JsonArray texts(List<String> texts) {
        JsonArray array = new JsonArray();
        texts.forEach(array::add);
        return array;
    }
}
