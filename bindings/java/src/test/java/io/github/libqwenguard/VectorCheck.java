package io.github.libqwenguard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.List;
import java.util.Optional;

/** Compares what a step gave with what it should give: every field of either must be in the other. */
final class VectorCheck {
    private static final double TOLERANCE = Fixtures.PROVIDER.isEmpty() ? 1e-3 : 2e-2;

    private final Guard guard;
    private final String place;
    private final JsonObject expected;

    VectorCheck(Guard guard, String place, JsonObject expected) {
        this.guard = guard;
        this.place = place;
        this.expected = expected;
    }

    void success() {
        assertFalse(expected.has("error"), () -> place + " should have failed: " + expected.get("error"));
    }

    void failure(int status, String message) {
        assertTrue(expected.has("error"), () -> place + " failed: " + message);
        JsonObject error = new JsonObject();
        error.addProperty("status", Qwenguard.statusName(status));
        error.addProperty("message", message);
        same("error", expected.get("error"), error);
    }

    void replies(List<GuardStream> streams, List<Reply> replies) {
        JsonArray wanted = expected.getAsJsonArray("replies");
        assertEquals(wanted.size(), replies.size(), place);
        for (int index = 0; index < replies.size(); index++) {
            JsonObject expect = wanted.get(index).getAsJsonObject();
            new VectorCheck(guard, place + ", reply " + index, expect).reply(streams.get(index), replies.get(index));
        }
    }

    private void reply(GuardStream stream, Reply reply) {
        if (reply.status() != Status.OK) {
            failure(reply.statusNumber(), reply.message());
        } else if (expected.has("verdict")) {
            check(stream, reply.check());
        } else {
            success();
            update(stream, reply.update());
        }
    }

    void contextUsed(long tokens) {
        JsonObject found = new JsonObject();
        found.addProperty("tokens", tokens);
        same("context_used", expected, found);
    }

    void encoded(List<TextToken> tokens) {
        JsonArray ids = new JsonArray();
        JsonArray spans = new JsonArray();
        for (TextToken token : tokens) {
            ids.add(token.id());
            JsonArray span = new JsonArray();
            span.add(token.bytes().start());
            span.add(token.bytes().end());
            spans.add(span);
        }
        JsonObject found = new JsonObject();
        found.add("ids", ids);
        found.add("spans", spans);
        same("encode", expected, found);
    }

    void check(GuardStream stream, PromptCheck check) {
        JsonObject found = new JsonObject();
        found.addProperty("decision", lower(check.decision()));
        found.add("finding", null);
        check.finding().ifPresent(it -> found.add("finding", finding(it, stream.rule())));
        found.add("verdict", verdict(check.verdict(), Heads.PROMPT));
        same("check", expected, found);
    }

    void update(GuardStream stream, Update update) {
        JsonObject found = new JsonObject();
        found.addProperty("decision", lower(update.decision()));
        found.addProperty("horizon", update.horizon());
        found.addProperty("horizon_tokens", update.horizonTokens());
        found.addProperty("received", update.received());
        found.addProperty("excess", update.excess());
        found.addProperty("final_tokens", update.finalTokens());
        found.addProperty("void_from", update.voidFrom());
        Optional<Violation> violation = update.violation();
        found.add("violation", violation.isPresent() ? violation(violation.get(), stream.rule()) : null);

        List<Violation> flags = stream.flags();
        assertEquals(update.flagCount(), flags.size(), place);
        JsonArray foundFlags = new JsonArray();
        for (int index = 0; index < flags.size(); index++) {
            foundFlags.add(violation(flags.get(index), stream.flagRule(index)));
        }
        found.add("flags", foundFlags);

        List<TokenVerdict> tokens = stream.tokens();
        assertEquals(update.tokenCount(), tokens.size(), place);
        JsonArray foundTokens = new JsonArray();
        tokens.forEach(token -> foundTokens.add(token(token)));
        found.add("tokens", foundTokens);

        List<Opinion> opinions = stream.opinions();
        assertEquals(update.opinionCount(), opinions.size(), place);
        JsonArray foundOpinions = new JsonArray();
        for (int index = 0; index < opinions.size(); index++) {
            foundOpinions.add(opinion(stream, index, opinions.get(index)));
        }
        if (!opinions.isEmpty()) {
            found.add("opinions", foundOpinions);
        }
        same("update", expected, found);
    }

    private static JsonObject opinion(GuardStream stream, int index, Opinion opinion) {
        JsonObject found = new JsonObject();
        found.addProperty("trigger", lower(opinion.trigger()));
        found.addProperty("outcome", lower(opinion.outcome()));
        found.addProperty("channel", lower(opinion.channel()));
        found.addProperty("byte_start", opinion.bytes().start());
        found.addProperty("byte_end", opinion.bytes().end());
        found.addProperty("first_token", opinion.firstToken());
        found.addProperty("confirming_token", opinion.confirmingToken());
        try {
            Risk risk = stream.opinionAnnotation(index).risk();
            assertEquals(opinion.risk().get(), risk);
            found.addProperty("risk", risk.label());
            JsonArray risks = new JsonArray();
            for (Risk level : new Risk[] {Risk.SAFE, Risk.CONTROVERSIAL, Risk.UNSAFE}) {
                risks.add(opinion.probability(level));
            }
            found.add("risk_probs", risks);
        } catch (QwenguardException failure) {
            JsonObject error = new JsonObject();
            error.addProperty("status", Qwenguard.statusName(failure.statusNumber()));
            error.addProperty("message", failure.detail());
            found.add("error", error);
        }
        return found;
    }

    private JsonObject finding(Finding finding, String rule) {
        JsonObject found = new JsonObject();
        found.addProperty("action", lower(finding.action()));
        found.addProperty("risk", finding.risk().label());
        found.addProperty("category", guard.category(Heads.PROMPT, finding.category()));
        found.addProperty("probability", finding.probability());
        found.addProperty("rule", rule);
        return found;
    }

    private JsonObject violation(Violation violation, String rule) {
        JsonObject found = new JsonObject();
        found.addProperty("action", lower(violation.action()));
        found.addProperty("channel", lower(violation.channel()));
        found.addProperty("byte_start", violation.bytes().start());
        found.addProperty("byte_end", violation.bytes().end());
        found.addProperty("first_token", violation.firstToken());
        found.addProperty("confirming_token", violation.confirmingToken());
        found.addProperty("risk", violation.risk().label());
        found.addProperty("category", guard.category(Heads.ANSWER, violation.category()));
        found.addProperty("probability", violation.probability());
        found.addProperty("rule", rule);
        return found;
    }

    private JsonObject token(TokenVerdict token) {
        JsonObject found = new JsonObject();
        found.addProperty("index", token.index());
        found.addProperty("id", token.id());
        found.addProperty("byte_start", token.bytes().start());
        found.addProperty("byte_end", token.bytes().end());
        found.addProperty("channel", lower(token.channel()));
        found.addProperty("final", token.isFinal());
        found.add("verdict", verdict(token.verdict(), Heads.ANSWER));
        return found;
    }

    private JsonObject verdict(Verdict verdict, Heads heads) {
        JsonArray risks = new JsonArray();
        for (Risk risk : List.of(Risk.SAFE, Risk.CONTROVERSIAL, Risk.UNSAFE)) {
            risks.add(verdict.probability(risk));
        }
        JsonArray categories = new JsonArray();
        for (float probability : verdict.categoryProbabilities()) {
            categories.add(probability);
        }
        JsonObject found = new JsonObject();
        found.addProperty("risk", verdict.risk().label());
        found.addProperty(
                "category",
                verdict.category().isPresent() ? guard.category(heads, verdict.category().getAsInt()) : null);
        found.add("risk_probs", risks);
        found.add("category_probs", categories);
        return found;
    }

    static String lower(Enum<?> value) {
        return value.name().toLowerCase();
    }

    /** Floats are probabilities; everything else is equal or wrong. */
    void same(String path, JsonElement wanted, JsonElement found) {
        if (wanted.isJsonObject()) {
            assertEquals(wanted.getAsJsonObject().keySet(), found.getAsJsonObject().keySet(), place + ": " + path);
            for (String key : wanted.getAsJsonObject().keySet()) {
                same(path + "." + key, wanted.getAsJsonObject().get(key), found.getAsJsonObject().get(key));
            }
        } else if (wanted.isJsonArray()) {
            assertEquals(wanted.getAsJsonArray().size(), found.getAsJsonArray().size(), place + ": " + path);
            for (int index = 0; index < wanted.getAsJsonArray().size(); index++) {
                same(path + "[" + index + "]", wanted.getAsJsonArray().get(index), found.getAsJsonArray().get(index));
            }
        } else if (found.isJsonPrimitive() && found.getAsJsonPrimitive().isNumber()
                && found.getAsNumber() instanceof Float) {
            assertEquals(wanted.getAsDouble(), found.getAsDouble(), TOLERANCE, place + ": " + path);
        } else {
            assertEquals(wanted, found, place + ": " + path);
        }
    }
}
