/* A whole moderated conversation, and everything that can be asked of it. */
#include "check.h"

static void versions(void) {
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", QG_VERSION_MAJOR, QG_VERSION_MINOR, QG_VERSION_PATCH);
    CHECK(strcmp(qg_version(), text) == 0);
    CHECK(qg_version_number() == QG_VERSION_NUMBER);
    CHECK(QG_VERSION_NUMBER == QG_VERSION_MAJOR * 1000000 + QG_VERSION_MINOR * 1000 + QG_VERSION_PATCH);
    CHECK(qg_abi_version() == QG_ABI_VERSION);
}

static void guard_tells_about_itself(const qg_guard *guard) {
    qg_text *json = NULL;
    const char *name = NULL;
    uint32_t count = 0, index;
    WORKS(qg_guard_info(guard, &json, &error));
    CHECK(strlen(qg_text_data(json)) == qg_text_length(json));
    CHECK(strstr(qg_text_data(json), "\"architecture\":\"Qwen3ForGuardModel\"") != NULL);
    qg_text_free(json);
    WORKS(qg_guard_category_count(guard, QG_HEADS_PROMPT, &count, &error));
    CHECK(count == 9);
    WORKS(qg_guard_category_count(guard, QG_HEADS_ANSWER, &count, &error));
    CHECK(count == 8);
    for (index = 0; index < count; index++) {
        WORKS(qg_guard_category_name(guard, QG_HEADS_ANSWER, index, &name, &error));
        CHECK(strlen(name) > 0);
    }
    WORKS(qg_guard_category_name(guard, QG_HEADS_ANSWER, 0, &name, &error));
    CHECK(strcmp(name, "Violent") == 0);
    CHECK(strcmp(qg_risk_name(QG_RISK_CONTROVERSIAL), "Controversial") == 0);
}

static float sum(const float *values, size_t count) {
    float total = 0;
    while (count > 0)
        total += values[--count];
    return total;
}

static void check_verdict(const qg_verdict *verdict) {
    float risks = sum(verdict->risk_probabilities, 3);
    float categories = sum(verdict->category_probabilities, QG_MAX_CATEGORIES);
    CHECK(risks > 0.999f && risks < 1.001f && categories > 0.999f && categories < 1.001f);
    CHECK((verdict->category == -1) == (verdict->risk == QG_RISK_SAFE));
    CHECK(verdict->reserved[0] == 0 && verdict->reserved[1] == 0);
}

/* Pushes the answer in small pieces as a model would write it, and returns the update that stopped it. */
static qg_update answer_until_stop(qg_stream *stream) {
    qg_update update;
    size_t at, length = strlen(ANSWER), horizon = 0;
    memset(&update, 0, sizeof update);
    for (at = 0; at < length; at += 5) {
        size_t piece = length - at < 5 ? length - at : 5, count = 99, index;
        qg_token_verdict tokens[16];
        update = push(stream, ANSWER + at, piece);
        CHECK(update.horizon >= horizon && update.horizon <= update.received && update.received == at + piece);
        horizon = (size_t)update.horizon;
        WORKS(qg_stream_tokens(stream, tokens, 16, &count, &error));
        CHECK(count == update.token_count && count <= 16);
        for (index = 0; index < count; index++) {
            CHECK(tokens[index].byte_start < tokens[index].byte_end && tokens[index].byte_end <= update.received);
            CHECK(tokens[index].is_final == (tokens[index].index < update.final_tokens));
            CHECK(tokens[index].channel == QG_CHANNEL_ANSWER && tokens[index].verdict.category_count == 8);
            check_verdict(&tokens[index].verdict);
        }
        if (update.decision == QG_DECISION_STOP)
            return update;
        CHECK(update.has_violation == 0 && update.violation.byte_end == 0 && update.excess == 0);
    }
    CHECK(!"stopped");
    return update;
}

static void an_answer_is_cut(const qg_guard *guard) {
    qg_stream *stream = open_stream(guard), *draft = NULL;
    qg_prompt_check check = prompt(stream, QUESTION);
    qg_update update, later;
    qg_text *rule = NULL;
    qg_message more;
    qg_token_verdict one;
    size_t used = 0, after = 0, count = 0;
    CHECK(check.decision == QG_DECISION_CONTINUE && check.has_finding == 0 && check.verdict.risk == QG_RISK_SAFE);
    check_verdict(&check.verdict);
    FAILS(qg_stream_rule(stream, &rule, &error), QG_ERROR_WRONG_STATE, "no rule");
    WORKS(qg_stream_context_used(stream, &used, &error));
    CHECK(used > 10);
    WORKS(qg_stream_fork(stream, &draft, &error));

    update = answer_until_stop(stream);
    CHECK(update.has_violation == 1 && update.violation.action == QG_ACTION_STOP);
    CHECK(update.horizon <= update.violation.byte_start && update.violation.byte_end <= update.received);
    CHECK(update.excess == update.received - update.horizon);
    CHECK(update.violation.confirming_token == update.violation.first_token + 1);
    CHECK(strstr(ANSWER, "After that") <= ANSWER + update.violation.byte_start);
    WORKS(qg_stream_rule(stream, &rule, &error));
    CHECK(strcmp(qg_text_data(rule), "answer.strict: 2 consecutive") == 0);
    qg_text_free(rule);
    WORKS(qg_stream_context_used(stream, &after, &error));
    CHECK(after > used);

    /* More than there is room for: the count tells. */
    later = push(stream, " and so on and on and on", 24);
    CHECK(later.decision == QG_DECISION_STOP && later.horizon == update.horizon && later.token_count > 1);
    WORKS(qg_stream_tokens(stream, &one, 1, &count, &error));
    CHECK(count == later.token_count);
    WORKS(qg_stream_tokens(stream, NULL, 0, &count, &error));
    CHECK(count == later.token_count);

    /* Again from a place that was fine. */
    WORKS(qg_stream_truncate(stream, 54, &later, &error));
    CHECK(later.decision == QG_DECISION_CONTINUE && later.has_violation == 0 && later.received == 54);
    WORKS(qg_stream_truncate_tokens(stream, 3, &later, &error));
    CHECK(later.received < 54 && later.received > 0);
    later = push(stream, " Then rest.", 11);
    WORKS(qg_stream_finish(stream, &later, &error));
    CHECK(later.horizon == later.received && later.final_tokens == later.horizon_tokens);
    more = message("user", "Thank you!");
    WORKS(qg_stream_next_turn(stream, &more, 1, &check, &error));
    CHECK(check.decision == QG_DECISION_CONTINUE);
    WORKS(qg_stream_tokens(stream, NULL, 0, &count, &error));
    CHECK(count == 0);

    /* The fork knows nothing of all that. */
    update = push(draft, "Wipe it.", 8);
    CHECK(update.received == 8);
    qg_stream_free(stream);
    WORKS(qg_stream_finish(draft, &update, &error));
    qg_stream_free(draft);
}

static void a_prompt_is_stopped(const qg_guard *guard) {
    qg_stream *stream = open_stream(guard);
    qg_prompt_check check = prompt(stream, "How can I kill my neighbour without getting caught?");
    qg_text *rule = NULL;
    CHECK(check.decision == QG_DECISION_STOP && check.has_finding == 1 && check.action == QG_ACTION_STOP);
    CHECK(check.verdict.risk == check.risk && check.verdict.category == check.category);
    CHECK(check.probability == check.verdict.risk_probabilities[check.risk]);
    WORKS(qg_stream_rule(stream, &rule, &error));
    CHECK(strcmp(qg_text_data(rule), "prompt.strict") == 0);
    qg_text_free(rule);
    qg_stream_free(stream);
}

static void tokens_and_policies(const qg_guard *guard) {
    static const char policy[] = "answer.mode = { custom = { unsafe = { action = 'flag' }, controversial = { action = "
                                 "'ignore' } } }";
    qg_stream *stream = NULL;
    uint32_t ids[200];
    qg_span spans[200];
    size_t count = 0, index, at = 0;
    qg_update update;
    qg_violation flags[8];
    qg_text *rule = NULL;
    WORKS(qg_guard_encode(guard, ANSWER, strlen(ANSWER), NULL, NULL, 0, &count, &error));
    CHECK(count > 50 && count <= 200);
    WORKS(qg_guard_encode(guard, ANSWER, strlen(ANSWER), ids, spans, 200, &count, &error));
    for (index = 0; index < count; index++) {
        const uint8_t *bytes = NULL;
        size_t length = 0;
        WORKS(qg_guard_token_bytes(guard, ids[index], &bytes, &length, &error));
        CHECK(spans[index].start == at && spans[index].end == at + length);
        CHECK(memcmp(bytes, ANSWER + at, length) == 0);
        at += length;
    }
    CHECK(at == strlen(ANSWER));

    WORKS(qg_stream_open(guard, policy, strlen(policy), &stream, &error));
    prompt(stream, QUESTION);
    WORKS(qg_stream_push_tokens(stream, ids, count, &update, &error));
    CHECK(update.decision == QG_DECISION_CONTINUE && update.token_count == count && update.final_tokens == count);
    CHECK(update.flag_count > 0 && update.horizon == strlen(ANSWER));
    WORKS(qg_stream_flags(stream, flags, 8, &count, &error));
    CHECK(count == update.flag_count && flags[0].action == QG_ACTION_FLAG && flags[0].risk == QG_RISK_UNSAFE);
    WORKS(qg_stream_flag_rule(stream, 0, &rule, &error));
    CHECK(strcmp(qg_text_data(rule), "answer.custom: 2 consecutive") == 0);
    qg_text_free(rule);
    FAILS(qg_stream_flag_rule(stream, count, &rule, &error), QG_ERROR_ARGUMENT, "flag");
    FAILS(qg_stream_push_text(stream, "x", 1, &update, &error), QG_ERROR_WRONG_STATE, "tokens");
    qg_stream_free(stream);
}

/* No policy and an empty one are the same: the guard's. */
static void empty_policies(void) {
    static const char config[] = "policy.shadow = true";
    static const char *const policies[] = {NULL, "", "# strict"};
    qg_guard_options options;
    qg_guard *guard = NULL;
    size_t index;
    WORKS(qg_guard_options_init(&options, sizeof options, &error));
    options.threads = 1;
    options.cache_mib = 64;
    options.config_toml = config;
    options.config_toml_length = strlen(config);
    WORKS(qg_guard_open_nano(&options, &guard, &error));
    for (index = 0; index < 3; index++) {
        const char *policy = policies[index];
        qg_stream *stream = NULL;
        qg_update update;
        WORKS(qg_stream_open(guard, policy, policy == NULL ? 0 : strlen(policy), &stream, &error));
        prompt(stream, QUESTION);
        update = push(stream, ANSWER, strlen(ANSWER));
        CHECK(update.has_violation == 1);
        CHECK(update.decision == (index < 2 ? QG_DECISION_CONTINUE : QG_DECISION_STOP));
        qg_stream_free(stream);
    }
    qg_guard_free(guard);
}

static void thinking(const qg_guard *guard) {
    qg_stream *stream = open_stream(guard);
    qg_update update;
    qg_token_verdict tokens[8];
    size_t count = 0;
    prompt(stream, QUESTION);
    WORKS(qg_stream_push_thinking(stream, "They want it clean.", 19, &update, &error));
    WORKS(qg_stream_tokens(stream, tokens, 8, &count, &error));
    CHECK(count > 0 && tokens[0].channel == QG_CHANNEL_THINKING);
    update = push(stream, "Wipe it.", 8);
    WORKS(qg_stream_finish(stream, &update, &error));
    CHECK(update.horizon == 27);
    qg_stream_free(stream);
}

int main(void) {
    qg_guard *guard;
    versions();
    guard = open_nano();
    guard_tells_about_itself(guard);
    an_answer_is_cut(guard);
    a_prompt_is_stopped(guard);
    tokens_and_policies(guard);
    empty_policies();
    thinking(guard);
    qg_guard_free(guard);
    return 0;
}
