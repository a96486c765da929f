/* tests/vectors/annotations.json through the C functions. The second argument is the file, the third the folder of the project. */
#include "vectors.h"

enum { MOST = 32 };

static const char *the_cases[MOST];
static size_t case_count;

static void same_flag(const char *object, const char *name, int found) {
    const char *wanted = field(object, name);
    if (wanted == NULL || (*wanted == 't') != found)
        differs(name, wanted);
}

/* NULL is null. */
static void near_field(const char *object, const char *name, const float *found) {
    const char *wanted = field(object, name);
    if (wanted == NULL ? found != NULL : found == NULL)
        differs(name, wanted);
    if (found != NULL)
        near(name, wanted, *found);
}

static void same_numbers(const char *object, const char *name, const float *found, size_t length) {
    const char *wanted = field(object, name);
    size_t index = 0;
    if (wanted == NULL || count(wanted) != length)
        differs(name, wanted);
    for (wanted = first(wanted); wanted != NULL; wanted = next(wanted))
        near(name, wanted, found[index++]);
}

static const char *name_of(const qg_annotation *annotation, int32_t category) {
    const char *name = NULL;
    if (category >= 0)
        WORKS(qg_annotation_category_name(annotation, (uint32_t)category, &name, &error));
    return name;
}

static void same_judgement(const qg_annotation *annotation, const qg_judgement *found, qg_text *rule, const char *expect) {
    const char *finding = field(expect, "finding");
    same_text(expect, "decision", decision(found->decision));
    CHECK(found->has_finding == (uint32_t)(finding != NULL) && is_zero(found->reserved, sizeof found->reserved));
    if (finding == NULL) {
        CHECK(rule == NULL && found->action == 0 && found->risk == 0 && found->category == 0 && found->probability == 0);
        return;
    }
    same_text(finding, "action", action(found->action));
    same_text(finding, "risk", qg_risk_name(found->risk));
    same_text(finding, "category", name_of(annotation, found->category));
    near("probability", field(finding, "probability"), found->probability);
    same_text(finding, "rule", qg_text_data(rule));
    qg_text_free(rule);
}

static void same_categories(const qg_annotation *annotation, const qg_annotation_info *found, const char *expect) {
    const char *wanted = field(expect, "categories");
    uint32_t index = 0;
    CHECK(count(wanted) == found->category_count);
    for (wanted = first(wanted); wanted != NULL; wanted = next(wanted))
        CHECK(is(wanted, name_of(annotation, (int32_t)found->categories[index++])));
    for (; index < QG_MAX_CATEGORIES; index++)
        CHECK(found->categories[index] == 0);
    near("none_prob", field(expect, "none_prob"), found->none_probability);
    if (found->has_category_probabilities) {
        same_numbers(expect, "category_probs", found->category_probabilities, found->mode_category_count);
        index = found->mode_category_count;
    } else {
        same_text(expect, "category_probs", NULL);
        index = 0;
    }
    for (; index < QG_MAX_CATEGORIES; index++)
        CHECK(found->category_probabilities[index] == 0);
}

static void same_texts(const qg_annotation *annotation, const char *expect) {
    qg_text *read = NULL;
    WORKS(qg_annotation_answer(annotation, &read, &error));
    same_text(expect, "answer", qg_text_data(read));
    qg_text_free(read);
    WORKS(qg_annotation_json(annotation, &read, &error));
    CHECK(past(qg_text_data(read)) == qg_text_data(read) + qg_text_length(read));
    same_text(qg_text_data(read), "mode", is(field(expect, "mode"), "prompt") ? "prompt" : "response");
    qg_text_free(read);
}

static void same_annotation(const qg_annotation *annotation, const char *expect) {
    qg_annotation_info found;
    qg_judgement judged;
    qg_text *rule = NULL;
    const char *range = field(expect, "judged");
    memset(&found, 0x55, sizeof found);
    WORKS(qg_annotation_get(annotation, &found, &error));
    same_text(expect, "mode", found.mode == QG_MODE_PROMPT ? "prompt" : found.mode == QG_MODE_RESPONSE ? "response" : "?");
    same_text(expect, "risk", qg_risk_name(found.risk));
    if (found.has_risk_probabilities)
        same_numbers(expect, "risk_probs", found.risk_probabilities, 3);
    else
        CHECK(field(expect, "risk_probs") == NULL && is_zero(found.risk_probabilities, sizeof found.risk_probabilities));
    same_categories(annotation, &found, expect);
    if (found.refusal == -1)
        same_text(expect, "refusal", NULL);
    else
        same_flag(expect, "refusal", found.refusal);
    near_field(expect, "refusal_prob", found.has_refusal_probability ? &found.refusal_probability : NULL);
    same_flag(expect, "parsed", (int)found.parsed);
    same_flag(expect, "cut", (int)found.is_cut);
    CHECK(whole(first(range)) == found.judged_start && whole(next(first(range))) == found.judged_end);
    same_number(expect, "windows", found.windows);
    same_number(expect, "ids", found.id_count);
    CHECK(is_zero(found.reserved, sizeof found.reserved));
    same_texts(annotation, expect);
    WORKS(qg_annotation_judge(annotation, NULL, 0, &judged, &rule, &error));
    CHECK(memcmp(&judged, &found.judgement, sizeof judged) == 0);
    same_judgement(annotation, &judged, rule, expect);
}

static void same_judgements(const qg_annotation *annotation, const char *policies, const char *expect) {
    if (policies == NULL) {
        CHECK(count(expect) == 0);
        return;
    }
    CHECK(count(policies) == count(expect));
    expect = first(expect);
    for (policies = first(policies); policies != NULL; policies = next(policies), expect = next(expect)) {
        text policy = text_of(policies);
        qg_judgement judged;
        qg_text *rule = NULL;
        qg_error *error = NULL;
        qg_status status = qg_annotation_judge(annotation, policy.data, policy.length, &judged, &rule, &error);
        free(policy.data);
        if (worked(status, error, expect))
            same_judgement(annotation, &judged, rule, expect);
    }
}

static void same_rewards(qg_annotation *const *all, size_t index, const char *rewards, const char *expect) {
    if (rewards == NULL) {
        CHECK(count(expect) == 0);
        return;
    }
    CHECK(count(rewards) == count(expect));
    expect = first(expect);
    for (rewards = first(rewards); rewards != NULL; rewards = next(rewards), expect = next(expect)) {
        const char *rule = field(rewards, "rule"), *score = field(rewards, "helpfulness");
        const char *before = field(rewards, "thinking");
        const qg_annotation *thinking = before == NULL ? NULL : all[whole(before)];
        text read = {NULL, 0};
        double reward = 77;
        qg_error *error = NULL;
        qg_status status;
        if (rule != NULL)
            read = text_of(rule);
        status = qg_annotation_reward(all[index], thinking, read.data, read.length,
                                      score == NULL ? 0 : strtod(score, NULL), &reward, &error);
        free(read.data);
        if (worked(status, error, expect))
            CHECK(reward == strtod(field(expect, "reward"), NULL));
        else
            CHECK(reward == 77);
    }
}

/* Compares what came of all conversations of a group, and frees it. */
static void compare(const qg_annotation_result *results) {
    qg_annotation *all[MOST];
    size_t index;
    for (index = 0; index < case_count; index++)
        all[index] = results[index].annotation;
    for (index = 0; index < case_count; index++) {
        const char *expect = field(the_cases[index], "expect");
        text name = text_of(field(the_cases[index], "name"));
        snprintf(place, sizeof place, "%s", name.data);
        free(name.data);
        CHECK(results[index].reserved == 0);
        if (worked(results[index].status, results[index].error, expect)) {
            same_annotation(all[index], expect);
            same_judgements(all[index], field(the_cases[index], "policies"), field(expect, "judgements"));
            same_rewards(all, index, field(the_cases[index], "rewards"), field(expect, "rewards"));
        } else {
            CHECK(all[index] == NULL);
        }
    }
    for (index = 0; index < case_count; index++)
        qg_annotation_free(all[index]);
}

static void alone(const qg_guard *guard, const qg_conversation *conversations, const qg_annotate_options *options) {
    qg_annotation_result results[MOST];
    size_t index;
    memset(results, 0, sizeof results);
    for (index = 0; index < case_count; index++)
        results[index].status =
            qg_guard_annotate(guard, conversations[index].messages, conversations[index].message_count, options,
                              &results[index].annotation, &results[index].error);
    compare(results);
}

static void together(const qg_guard *guard, const qg_conversation *conversations, const qg_annotate_options *options) {
    qg_annotation_result results[MOST];
    memset(results, 0x55, sizeof results);
    WORKS(qg_guard_annotate_all(guard, conversations, case_count, options, results, &error));
    compare(results);
}

static void queued(const qg_guard *guard, const qg_conversation *conversations, const qg_annotate_options *options) {
    qg_annotation_result results[MOST];
    qg_queue *queue = NULL;
    qg_completion done[2];
    size_t index, length = 0;
    memset(results, 0, sizeof results);
    WORKS(qg_queue_open(&queue, &error));
    for (index = 0; index < case_count; index++) {
        /* What is known before the model is asked is not in the queue. */
        results[index].status =
            qg_queue_annotate(queue, guard, conversations[index].messages, conversations[index].message_count, options,
                              index, QG_NO_TIMEOUT, &results[index].error);
    }
    WORKS(qg_queue_length(queue, &length, &error));
    while (length > 0) {
        size_t taken = 0;
        WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, done, 2, &taken, &error));
        for (index = 0; index < taken; index++) {
            qg_annotation_result *result = &results[done[index].tag];
            CHECK(done[index].stream == NULL && done[index].reply.is_check == 0);
            CHECK(is_zero(&done[index].reply.check, sizeof done[index].reply.check));
            CHECK(is_zero(&done[index].reply.update, sizeof done[index].reply.update));
            result->status = done[index].reply.status;
            result->error = done[index].reply.error;
            result->annotation = done[index].annotation;
        }
        WORKS(qg_queue_length(queue, &length, &error));
    }
    qg_queue_free(queue);
    compare(results);
}

static uint32_t option(const char *value, const char *const *names) {
    uint32_t number = 0;
    while (!is(value, names[number]))
        CHECK(names[++number] != NULL);
    return number;
}

static void same_names(const qg_guard *guard, const char *names, uint32_t heads) {
    uint32_t found = 0, index = 0;
    const char *name = NULL;
    WORKS(qg_guard_category_count(guard, heads, &found, &error));
    CHECK(found == count(names));
    for (names = first(names); names != NULL; names = next(names)) {
        WORKS(qg_guard_category_name(guard, heads, index++, &name, &error));
        CHECK(is(names, name));
    }
}

static qg_guard *open_guard(const char *group, const char *config, const char *root) {
    text where = text_of(field(group, "guard")), toml = text_of(config);
    qg_guard_options options;
    qg_guard *guard = NULL;
    char folder[1024];
    WORKS(qg_guard_options_init(&options, sizeof options, &error));
    options.config_toml = toml.data;
    options.config_toml_length = toml.length;
    if (strcmp(where.data, "nano") == 0) {
        WORKS(qg_guard_open_nano(&options, &guard, &error));
    } else if (strcmp(where.data, "nano-gen") == 0) {
        WORKS(qg_guard_open_nano_gen(&options, &guard, &error));
    } else {
        int length = snprintf(folder, sizeof folder, "%s/%s", root, where.data);
        CHECK(length > 0 && (size_t)length < sizeof folder);
        WORKS(qg_guard_open(folder, (size_t)length, &options, &guard, &error));
    }
    same_names(guard, field(field(group, "categories"), "prompt"), QG_HEADS_PROMPT);
    same_names(guard, field(field(group, "categories"), "response"), QG_HEADS_ANSWER);
    free(where.data);
    free(toml.data);
    return guard;
}

static qg_conversation read_conversation(const char *test) {
    qg_conversation read = {NULL, 0};
    const char *repeat = field(test, "repeat");
    qg_message *messages = read_messages(field(test, "messages"));
    read.messages = messages;
    read.message_count = count(field(test, "messages"));
    if (repeat != NULL) {
        qg_message *last = &messages[read.message_count - 1];
        size_t index, times = (size_t)whole(repeat), length = last->content_length;
        char *all = (char *)malloc(length * times);
        for (index = 0; index < times; index++)
            memcpy(all + index * length, last->content, length);
        free((void *)last->content);
        last->content = all;
        last->content_length = length * times;
    }
    return read;
}

static void run(const char *group, const char *config, const char *root) {
    static const char *const decodings[] = {"constrained", "label_only", "free", NULL};
    static const char *const overflows[] = {"refuse", "head", "tail", "windows", NULL};
    qg_annotate_options options = {sizeof options, 0, 0, 0};
    qg_conversation conversations[MOST];
    qg_guard *guard = open_guard(group, config, root);
    const char *test;
    size_t index;
    case_count = 0;
    for (test = first(field(group, "cases")); test != NULL; test = next(test)) {
        CHECK(case_count < MOST);
        conversations[case_count] = read_conversation(test);
        the_cases[case_count++] = test;
    }
    options.decoding = option(field(group, "decoding"), decodings);
    options.overflow = option(field(group, "overflow"), overflows);
    alone(guard, conversations, &options);
    if (options.overflow == QG_TEXT_OVERFLOW_REFUSE) {
        together(guard, conversations, &options);
        queued(guard, conversations, &options);
    }
    if (options.decoding == QG_DECODING_CONSTRAINED && options.overflow == QG_TEXT_OVERFLOW_REFUSE)
        together(guard, conversations, NULL);
    qg_guard_free(guard);
    for (index = 0; index < case_count; index++)
        free_messages(conversations[index].messages, conversations[index].message_count);
}

int main(int argument_count, char **arguments) {
    char *document;
    const char *group;
    CHECK(argument_count == 6);
    document = read_file(arguments[2]);
    CHECK(whole(field(document, "format")) == 1);
    for (group = first(field(document, "groups")); group != NULL; group = next(group))
        run(group, field(document, "config"), arguments[3]);
    CHECK(place[0] != '\0');
    free(document);
    return 0;
}
