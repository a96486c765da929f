/* tests/vectors/vectors.json through the C functions. The first argument is the file. */
#include "vectors.h"

enum { MOST = 8 };

static qg_guard *guard;
static qg_stream *streams[MOST];
static size_t stream_count;
static const char *channel(int32_t value) {
    return value == QG_CHANNEL_THINKING ? "thinking" : value == QG_CHANNEL_ANSWER ? "answer" : "?";
}

static const char *category(uint32_t heads, int32_t index) {
    const char *name = NULL;
    if (index >= 0)
        WORKS(qg_guard_category_name(guard, heads, (uint32_t)index, &name, &error));
    return name;
}

static void same_rule(const char *object, qg_text *rule) {
    same_text(object, "rule", qg_text_data(rule));
    qg_text_free(rule);
}

static void same_verdict(const qg_verdict *found, const char *expect, uint32_t heads) {
    const char *wanted;
    size_t index = 0;
    same_text(expect, "risk", qg_risk_name(found->risk));
    same_text(expect, "category", category(heads, found->category));
    for (wanted = first(field(expect, "risk_probs")); wanted != NULL; wanted = next(wanted))
        near("risk_probs", wanted, found->risk_probabilities[index++]);
    CHECK(index == 3 && count(field(expect, "category_probs")) == found->category_count);
    index = 0;
    for (wanted = first(field(expect, "category_probs")); wanted != NULL; wanted = next(wanted))
        near("category_probs", wanted, found->category_probabilities[index++]);
    for (; index < QG_MAX_CATEGORIES; index++)
        CHECK(found->category_probabilities[index] == 0);
    CHECK(found->reserved[0] == 0 && found->reserved[1] == 0);
}

static void same_check(const qg_stream *stream, const qg_prompt_check *found, const char *expect) {
    const char *finding = field(expect, "finding");
    qg_text *rule = NULL;
    same_text(expect, "decision", decision(found->decision));
    same_verdict(&found->verdict, field(expect, "verdict"), QG_HEADS_PROMPT);
    CHECK(found->has_finding == (finding != NULL) && found->reserved[0] == 0 && found->reserved[1] == 0);
    if (finding == NULL) {
        CHECK(found->action == 0 && found->risk == 0 && found->category == 0 && found->probability == 0);
        FAILS(qg_stream_rule(stream, &rule, &error), QG_ERROR_WRONG_STATE, "rule");
        return;
    }
    same_text(finding, "action", action(found->action));
    same_text(finding, "risk", qg_risk_name(found->risk));
    same_text(finding, "category", category(QG_HEADS_PROMPT, found->category));
    near("probability", field(finding, "probability"), found->probability);
    WORKS(qg_stream_rule(stream, &rule, &error));
    same_rule(finding, rule);
}

static void same_violation(const qg_violation *found, const char *expect, qg_text *rule) {
    same_text(expect, "action", action(found->action));
    same_text(expect, "channel", channel(found->channel));
    same_number(expect, "byte_start", found->byte_start);
    same_number(expect, "byte_end", found->byte_end);
    same_number(expect, "first_token", found->first_token);
    same_number(expect, "confirming_token", found->confirming_token);
    same_text(expect, "risk", qg_risk_name(found->risk));
    same_text(expect, "category", category(QG_HEADS_ANSWER, found->category));
    near("probability", field(expect, "probability"), found->probability);
    CHECK(found->reserved[0] == 0 && found->reserved[1] == 0 && found->reserved[2] == 0);
    same_rule(expect, rule);
}

static void same_tokens(const qg_stream *stream, size_t tokens, const char *list) {
    qg_token_verdict *found = (qg_token_verdict *)calloc(tokens + 1, sizeof *found), *token = found;
    const char *expect;
    size_t copied = 0;
    WORKS(qg_stream_tokens(stream, found, tokens, &copied, &error));
    CHECK(copied == tokens && count(list) == tokens);
    for (expect = first(list); expect != NULL; expect = next(expect), token++) {
        same_number(expect, "index", token->index);
        same_number(expect, "id", token->token_id);
        same_number(expect, "byte_start", token->byte_start);
        same_number(expect, "byte_end", token->byte_end);
        same_text(expect, "channel", channel(token->channel));
        CHECK(token->is_final == (*field(expect, "final") == 't') && token->reserved == 0);
        same_verdict(&token->verdict, field(expect, "verdict"), QG_HEADS_ANSWER);
    }
    free(found);
}

static void same_flags(const qg_stream *stream, size_t flags, const char *list) {
    qg_violation found[MOST];
    const char *expect;
    size_t copied = 0, index = 0;
    WORKS(qg_stream_flags(stream, found, MOST, &copied, &error));
    CHECK(copied == flags && flags <= MOST && count(list) == flags);
    for (expect = first(list); expect != NULL; expect = next(expect), index++) {
        qg_text *rule = NULL;
        WORKS(qg_stream_flag_rule(stream, index, &rule, &error));
        same_violation(&found[index], expect, rule);
    }
}

static const char *trigger(int32_t value) {
    return value == QG_TRIGGER_VIOLATION ? "violation" : value == QG_TRIGGER_UNCERTAIN ? "uncertain" : "?";
}

static const char *outcome(int32_t value) {
    static const char *const names[] = {"confirmed", "lifted", "cleared", "reported", "failed"};
    return value >= QG_OPINION_CONFIRMED && value <= QG_OPINION_FAILED ? names[value] : "?";
}

static void same_annotation(const qg_stream *stream, size_t index, const qg_opinion *found, const char *expect) {
    qg_annotation *annotation = NULL;
    qg_annotation_info info;
    qg_error *why = NULL;
    qg_status status = qg_stream_opinion_annotation(stream, index, &annotation, &why);
    CHECK(found->is_annotated == (uint32_t)(status == QG_OK));
    if (!worked(status, why, expect)) {
        CHECK(annotation == NULL && found->risk == 0 && found->outcome == QG_OPINION_FAILED);
        return;
    }
    WORKS(qg_annotation_get(annotation, &info, &error));
    CHECK(info.mode == QG_MODE_RESPONSE && info.risk == found->risk && info.has_risk_probabilities == 1);
    CHECK(memcmp(info.risk_probabilities, found->risk_probabilities, sizeof info.risk_probabilities) == 0);
    same_text(expect, "risk", qg_risk_name(found->risk));
    qg_annotation_free(annotation);
}

static void same_opinions(const qg_stream *stream, size_t opinions, const char *list) {
    qg_opinion found[MOST];
    const char *expect, *level;
    qg_annotation *annotation = NULL;
    size_t copied = 0, index = 0, risk;
    WORKS(qg_stream_opinions(stream, found, MOST, &copied, &error));
    CHECK(copied == opinions && opinions <= MOST);
    FAILS(qg_stream_opinion_annotation(stream, opinions, &annotation, &error), QG_ERROR_ARGUMENT, "opinion");
    if (list == NULL) {
        CHECK(opinions == 0);
        return;
    }
    CHECK(count(list) == opinions);
    for (expect = first(list); expect != NULL; expect = next(expect), index++) {
        same_text(expect, "trigger", trigger(found[index].trigger));
        same_text(expect, "outcome", outcome(found[index].outcome));
        same_text(expect, "channel", channel(found[index].channel));
        same_number(expect, "byte_start", found[index].byte_start);
        same_number(expect, "byte_end", found[index].byte_end);
        same_number(expect, "first_token", found[index].first_token);
        same_number(expect, "confirming_token", found[index].confirming_token);
        CHECK(is_zero(found[index].reserved, sizeof found[index].reserved));
        same_annotation(stream, index, &found[index], expect);
        level = found[index].is_annotated ? first(field(expect, "risk_probs")) : NULL;
        for (risk = 0; level != NULL; level = next(level))
            near("risk_probs", level, found[index].risk_probabilities[risk++]);
    }
}

static void same_update(const qg_stream *stream, const qg_update *found, const char *expect) {
    const char *violation = field(expect, "violation");
    qg_text *rule = NULL;
    same_text(expect, "decision", decision(found->decision));
    same_number(expect, "horizon", found->horizon);
    same_number(expect, "horizon_tokens", found->horizon_tokens);
    same_number(expect, "received", found->received);
    same_number(expect, "excess", found->excess);
    same_number(expect, "final_tokens", found->final_tokens);
    same_number(expect, "void_from", found->void_from);
    CHECK(is_zero(found->reserved, sizeof found->reserved));
    CHECK(found->has_violation == (violation != NULL));
    if (violation == NULL) {
        CHECK(is_zero(&found->violation, sizeof found->violation));
        FAILS(qg_stream_rule(stream, &rule, &error), QG_ERROR_WRONG_STATE, "rule");
    } else {
        WORKS(qg_stream_rule(stream, &rule, &error));
        same_violation(&found->violation, violation, rule);
    }
    same_flags(stream, (size_t)found->flag_count, field(expect, "flags"));
    same_opinions(stream, (size_t)found->opinion_count, field(expect, "opinions"));
    same_tokens(stream, (size_t)found->token_count, field(expect, "tokens"));
}

/* The text of a step, repeated if it says so. */
static text read_text(const char *step) {
    const char *hex = field(step, "hex"), *repeat = field(step, "repeat");
    text piece = text_of(hex != NULL ? hex : field(step, "text")), all;
    size_t index, times = repeat == NULL ? 1 : (size_t)whole(repeat);
    if (hex != NULL) {
        piece.length /= 2;
        for (index = 0; index < piece.length; index++) {
            char digits[3] = {piece.data[2 * index], piece.data[2 * index + 1], '\0'};
            piece.data[index] = (char)strtoul(digits, NULL, 16);
        }
    }
    all.length = piece.length * times;
    all.data = (char *)malloc(all.length + 1);
    for (index = 0; index < times; index++)
        memcpy(all.data + index * piece.length, piece.data, piece.length);
    free(piece.data);
    return all;
}

static uint32_t *read_ids(const char *list) {
    uint32_t *ids = (uint32_t *)calloc(count(list) + 1, sizeof *ids), *id = ids;
    for (list = first(list); list != NULL; list = next(list))
        *id++ = (uint32_t)whole(list);
    return ids;
}

static qg_stream *stream_of(const char *step) {
    const char *number = field(step, "stream");
    size_t index = number == NULL ? 0 : (size_t)whole(number);
    CHECK(index < stream_count);
    return streams[index];
}

/* A step as a call, which is to be released. */
static qg_call read_call(const char *step) {
    static const char *const names[] = {"prompt", "next_turn", "push_text", "push_thinking", "push_tokens", "finish",
                                        "truncate", "truncate_tokens"};
    qg_call call = {NULL, 0, 0, NULL, 0};
    call.stream = stream_of(step);
    while (!is(field(step, "call"), names[call.kind])) {
        call.kind++;
        CHECK(call.kind <= QG_CALL_TRUNCATE_TOKENS);
    }
    if (call.kind == QG_CALL_PUSH_TEXT || call.kind == QG_CALL_PUSH_THINKING) {
        text read = read_text(step);
        call.data = read.data;
        call.length = read.length;
    } else if (call.kind == QG_CALL_PUSH_TOKENS) {
        call.data = read_ids(field(step, "ids"));
        call.length = count(field(step, "ids"));
    } else if (call.kind == QG_CALL_TRUNCATE) {
        call.length = (size_t)whole(field(step, "bytes"));
    } else if (call.kind == QG_CALL_TRUNCATE_TOKENS) {
        call.length = (size_t)whole(field(step, "tokens"));
    } else if (call.kind != QG_CALL_FINISH) {
        call.data = read_messages(field(step, "messages"));
        call.length = count(field(step, "messages"));
    }
    return call;
}

static void release(const qg_call *call) {
    if (call->kind == QG_CALL_PROMPT || call->kind == QG_CALL_NEXT_TURN)
        free_messages((const qg_message *)call->data, call->length);
    else
        free((void *)call->data);
}

static void run_prompt(const qg_call *call, const char *expect) {
    qg_prompt_check check, before;
    qg_error *error = NULL;
    qg_status status;
    memset(&check, 0x55, sizeof check);
    before = check;
    status = (call->kind == QG_CALL_PROMPT ? qg_stream_prompt : qg_stream_next_turn)(
        call->stream, (const qg_message *)call->data, call->length, &check, &error);
    if (worked(status, error, expect))
        same_check(call->stream, &check, expect);
    else
        CHECK(memcmp(&check, &before, sizeof check) == 0);
}

static void run_change(const char *step, const char *expect) {
    qg_call call = read_call(step);
    qg_stream *stream = call.stream;
    qg_update update, before;
    qg_error *error = NULL;
    qg_status status;
    memset(&update, 0x55, sizeof update);
    before = update;
    if (call.kind == QG_CALL_PUSH_TEXT)
        status = qg_stream_push_text(stream, (const char *)call.data, call.length, &update, &error);
    else if (call.kind == QG_CALL_PUSH_THINKING)
        status = qg_stream_push_thinking(stream, (const char *)call.data, call.length, &update, &error);
    else if (call.kind == QG_CALL_PUSH_TOKENS)
        status = qg_stream_push_tokens(stream, (const uint32_t *)call.data, call.length, &update, &error);
    else if (call.kind == QG_CALL_TRUNCATE)
        status = qg_stream_truncate(stream, call.length, &update, &error);
    else if (call.kind == QG_CALL_TRUNCATE_TOKENS)
        status = qg_stream_truncate_tokens(stream, call.length, &update, &error);
    else
        status = qg_stream_finish(stream, &update, &error);
    if (worked(status, error, expect))
        same_update(stream, &update, expect);
    else
        CHECK(memcmp(&update, &before, sizeof update) == 0);
    release(&call);
}

/* Gives the replies in the order of the calls, which are released as soon as the queue has them. */
static void through_a_queue(const qg_call *calls, size_t call_count, qg_reply *replies) {
    qg_queue *queue = NULL;
    qg_completion done[2];
    size_t index, length = 0;
    WORKS(qg_queue_open(&queue, &error));
    for (index = 0; index < call_count; index++) {
        WORKS(qg_queue_submit(queue, &calls[index], index, QG_NO_TIMEOUT, &error));
        release(&calls[index]);
    }
    WORKS(qg_queue_length(queue, &length, &error));
    CHECK(length == call_count);
    while (length > 0) {
        size_t taken = 0;
        WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, done, 2, &taken, &error));
        for (index = 0; index < taken; index++) {
            CHECK(done[index].stream == calls[done[index].tag].stream);
            replies[done[index].tag] = done[index].reply;
        }
        WORKS(qg_queue_length(queue, &length, &error));
    }
    qg_queue_free(queue);
}

static void run_many(const char *steps, const char *expect, int queued) {
    qg_call calls[MOST];
    qg_reply replies[MOST];
    size_t index = 0, call_count = count(steps);
    const char *wanted;
    CHECK(call_count <= MOST && count(expect) == call_count);
    for (wanted = first(steps); wanted != NULL; wanted = next(wanted))
        calls[index++] = read_call(wanted);
    if (queued) {
        through_a_queue(calls, call_count, replies);
    } else {
        WORKS(qg_streams_call(calls, call_count, replies, &error));
        for (index = 0; index < call_count; index++)
            release(&calls[index]);
    }
    wanted = first(expect);
    for (index = 0; index < call_count; index++, wanted = next(wanted)) {
        const qg_reply *reply = &replies[index];
        int is_check = worked(reply->status, reply->error, wanted) && calls[index].kind <= QG_CALL_NEXT_TURN;
        int is_update = reply->status == QG_OK && !is_check;
        CHECK(reply->is_check == (uint32_t)is_check);
        if (is_check)
            same_check(calls[index].stream, &reply->check, wanted);
        else
            CHECK(is_zero(&reply->check, sizeof reply->check));
        if (is_update)
            same_update(calls[index].stream, &reply->update, wanted);
        else
            CHECK(is_zero(&reply->update, sizeof reply->update));
    }
}

static void run_open(const char *step, const char *expect) {
    const char *policy = field(step, "policy");
    text toml = {NULL, 0};
    qg_stream *stream = NULL;
    qg_error *error = NULL;
    qg_status status;
    if (policy != NULL)
        toml = text_of(policy);
    status = qg_stream_open(guard, toml.data, toml.length, &stream, &error);
    free(toml.data);
    if (worked(status, error, expect)) {
        CHECK(stream_count < MOST);
        streams[stream_count++] = stream;
    } else {
        CHECK(stream == NULL);
    }
}

static void run_encode(const char *step, const char *expect) {
    text read = text_of(field(step, "text"));
    uint32_t ids[500];
    qg_span spans[500];
    size_t tokens = 0, index = 0;
    const char *id, *span;
    WORKS(qg_guard_encode(guard, read.data, read.length, ids, spans, 500, &tokens, &error));
    CHECK(tokens <= 500 && count(field(expect, "ids")) == tokens && count(field(expect, "spans")) == tokens);
    span = first(field(expect, "spans"));
    for (id = first(field(expect, "ids")); id != NULL; id = next(id), span = next(span), index++) {
        CHECK(whole(id) == ids[index]);
        CHECK(whole(first(span)) == spans[index].start && whole(next(first(span))) == spans[index].end);
    }
    free(read.data);
}

static void run(const char *step) {
    const char *name = field(step, "call"), *expect = field(step, "expect");
    if (is(name, "open")) {
        run_open(step, expect);
    } else if (is(name, "fork")) {
        CHECK(stream_count < MOST);
        WORKS(qg_stream_fork(stream_of(step), &streams[stream_count], &error));
        stream_count++;
    } else if (is(name, "encode")) {
        run_encode(step, expect);
    } else if (is(name, "context_used")) {
        size_t tokens = 0;
        WORKS(qg_stream_context_used(stream_of(step), &tokens, &error));
        same_number(expect, "tokens", tokens);
    } else if (is(name, "call_all") || is(name, "queue")) {
        run_many(field(step, "calls"), field(expect, "replies"), is(name, "queue"));
    } else if (is(name, "prompt") || is(name, "next_turn")) {
        qg_call call = read_call(step);
        run_prompt(&call, expect);
        release(&call);
    } else {
        run_change(step, expect);
    }
}

static void run_case(const char *test) {
    const char *step = first(field(test, "steps"));
    text name = text_of(field(test, "name"));
    size_t index;
    for (index = 0; step != NULL; step = next(step), index++) {
        snprintf(place, sizeof place, "%s, step %u", name.data, (unsigned)index);
        run(step);
    }
    for (index = 0; index < stream_count; index++)
        qg_stream_free(streams[index]);
    stream_count = 0;
    free(name.data);
}

static void same_categories(const char *names, uint32_t heads) {
    uint32_t found = 0;
    int32_t index = 0;
    WORKS(qg_guard_category_count(guard, heads, &found, &error));
    CHECK(found == count(names));
    for (names = first(names); names != NULL; names = next(names))
        CHECK(is(names, category(heads, index++)));
}

/* The configuration of a file, with the guard behind if it names one by its place in the folder of the project. */
static text read_config(const char *vectors, const char *project) {
    const char *second = field(vectors, "second_opinion");
    text config = text_of(field(vectors, "config")), bundle;
    if (provider() != NULL) {
        config.data = (char *)realloc(config.data, config.length + strlen(provider()) + 100);
        config.length += (size_t)sprintf(config.data + config.length, "\nruntime.provider = '%s'\n", provider());
    }
    if (second == NULL)
        return config;
    bundle = text_of(second);
    config.data = (char *)realloc(config.data, config.length + strlen(project) + bundle.length + 100);
    config.length += (size_t)sprintf(config.data + config.length,
                                     "\n[second_opinion]\nbundle = '%s/%.*s'\ncache_mib = 64\n", project,
                                     (int)bundle.length, bundle.data);
    free(bundle.data);
    return config;
}

static void open_guard(const qg_guard_options *options, const char *project) {
    char folder[1024];
    int length = snprintf(folder, sizeof folder, "%s/target/golden-gpu/nano", project);
    CHECK(length > 0 && (size_t)length < sizeof folder);
    if (provider() != NULL)
        WORKS(qg_guard_open(folder, (size_t)length, options, &guard, &error));
    else
        WORKS(qg_guard_open_nano(options, &guard, &error));
}

static void run_file(const char *file, const char *project) {
    qg_guard_options options;
    char *vectors = read_file(file);
    const char *test;
    text config;
    CHECK(whole(field(vectors, "format")) == 1);
    config = read_config(vectors, project);
    WORKS(qg_guard_options_init(&options, sizeof options, &error));
    options.config_toml = config.data;
    options.config_toml_length = config.length;
    open_guard(&options, project);
    free(config.data);
    same_categories(field(field(vectors, "categories"), "prompt"), QG_HEADS_PROMPT);
    same_categories(field(field(vectors, "categories"), "answer"), QG_HEADS_ANSWER);
    place[0] = '\0';
    for (test = first(field(vectors, "cases")); test != NULL; test = next(test))
        run_case(test);
    CHECK(place[0] != '\0');
    qg_guard_free(guard);
    free(vectors);
}

int main(int argument_count, char **arguments) {
    CHECK(argument_count == 6);
    run_file(arguments[1], arguments[3]);
    if (provider() != NULL)
        return 0;
    run_file(arguments[4], arguments[3]);
    run_file(arguments[5], arguments[3]);
    return 0;
}
