/* Annotations: wrong arguments, who owns what, and calls that are given up. */
#include "check.h"
#include <limits.h>
#include <math.h>
#include <stdint.h>

enum { MANY = 24 };

#define NULLS(call, argument) FAILS(call, QG_ERROR_NULL, "argument " argument ": NULL")

static qg_annotation *annotate(const qg_guard *guard, const char *question, const char *answer) {
    qg_message messages[2];
    qg_annotation *annotation = NULL;
    messages[0] = message("user", question);
    if (answer != NULL)
        messages[1] = message("assistant", answer);
    WORKS(qg_guard_annotate(guard, messages, answer == NULL ? 1 : 2, NULL, &annotation, &error));
    CHECK(annotation != NULL);
    return annotation;
}

static void nulls(const qg_guard *guard, const qg_annotation *annotation) {
    qg_message user = message("user", QUESTION), no_role = user;
    qg_conversation conversation = {&user, 1};
    qg_annotation_info info;
    qg_judgement judgement;
    qg_annotation_result result;
    qg_annotation *made = NULL;
    qg_text *text = NULL;
    qg_queue *queue = NULL;
    const char *name = NULL;
    double reward = 77;
    no_role.role = NULL;
    qg_annotation_free(NULL);
    NULLS(qg_guard_annotate(NULL, &user, 1, NULL, &made, &error), "guard");
    NULLS(qg_guard_annotate(guard, NULL, 1, NULL, &made, &error), "messages");
    NULLS(qg_guard_annotate(guard, &no_role, 1, NULL, &made, &error), "messages.role");
    NULLS(qg_guard_annotate(guard, &user, 1, NULL, NULL, &error), "annotation");
    NULLS(qg_guard_annotate_all(NULL, &conversation, 1, NULL, &result, &error), "guard");
    NULLS(qg_guard_annotate_all(guard, NULL, 1, NULL, &result, &error), "conversations");
    NULLS(qg_guard_annotate_all(guard, &conversation, 1, NULL, NULL, &error), "results");
    WORKS(qg_guard_annotate_all(guard, NULL, 0, NULL, NULL, &error));
    NULLS(qg_annotation_get(NULL, &info, &error), "annotation");
    NULLS(qg_annotation_get(annotation, NULL, &error), "info");
    NULLS(qg_annotation_category_name(NULL, 0, &name, &error), "annotation");
    NULLS(qg_annotation_category_name(annotation, 0, NULL, &error), "name");
    NULLS(qg_annotation_answer(NULL, &text, &error), "annotation");
    NULLS(qg_annotation_answer(annotation, NULL, &error), "answer");
    NULLS(qg_annotation_json(NULL, &text, &error), "annotation");
    NULLS(qg_annotation_json(annotation, NULL, &error), "json");
    NULLS(qg_annotation_judge(NULL, NULL, 0, &judgement, NULL, &error), "annotation");
    NULLS(qg_annotation_judge(annotation, NULL, 1, &judgement, NULL, &error), "policy");
    NULLS(qg_annotation_judge(annotation, NULL, 0, NULL, NULL, &error), "judgement");
    NULLS(qg_annotation_reward(NULL, NULL, NULL, 0, 0, &reward, &error), "annotation");
    NULLS(qg_annotation_reward(annotation, NULL, NULL, 1, 0, &reward, &error), "rule");
    NULLS(qg_annotation_reward(annotation, NULL, NULL, 0, 0, NULL, &error), "reward");
    WORKS(qg_queue_open(&queue, &error));
    NULLS(qg_queue_annotate(NULL, guard, &user, 1, NULL, 1, 0, &error), "queue");
    NULLS(qg_queue_annotate(queue, NULL, &user, 1, NULL, 1, 0, &error), "guard");
    NULLS(qg_queue_annotate(queue, guard, NULL, 1, NULL, 1, 0, &error), "messages");
    NULLS(qg_queue_annotate(queue, guard, &no_role, 1, NULL, 1, 0, &error), "messages.role");
    qg_queue_free(queue);
    CHECK(made == NULL && text == NULL && name == NULL && reward == 77);
    /* The place for an error may be NULL. */
    CHECK(qg_guard_annotate(guard, NULL, 1, NULL, &made, NULL) == QG_ERROR_NULL);
    CHECK(qg_annotation_get(annotation, &info, NULL) == QG_OK);
    CHECK(qg_annotation_judge(annotation, "x", 1, &judgement, NULL, NULL) == QG_ERROR_CONFIG);
}

static void options(const qg_guard *guard) {
    qg_message user = message("user", QUESTION);
    qg_conversation conversation = {&user, 1};
    qg_annotate_options good = {sizeof good, QG_DECODING_LABEL_ONLY, QG_TEXT_OVERFLOW_WINDOWS, 0}, bad;
    static const uint32_t sizes[] = {0, 4, sizeof(qg_annotate_options) + 1, 4096, UINT32_MAX};
    static const uint32_t numbers[] = {4, 100, INT_MAX, UINT32_MAX};
    qg_annotation_result result;
    qg_annotation *made = NULL;
    qg_queue *queue = NULL;
    size_t index, length = 77;
    memset(&result, 0x55, sizeof result);
    WORKS(qg_queue_open(&queue, &error));
    for (index = 0; index < sizeof sizes / sizeof *sizes; index++) {
        bad = good;
        bad.struct_size = sizes[index];
        FAILS(qg_guard_annotate(guard, &user, 1, &bad, &made, &error), QG_ERROR_ARGUMENT, "struct_size");
        FAILS(qg_queue_annotate(queue, guard, &user, 1, &bad, 1, 0, &error), QG_ERROR_ARGUMENT, "struct_size");
    }
    for (index = 0; index < sizeof numbers / sizeof *numbers; index++) {
        bad = good;
        bad.decoding = numbers[index];
        FAILS(qg_guard_annotate(guard, &user, 1, &bad, &made, &error), QG_ERROR_ENUM, "argument options.decoding");
        FAILS(qg_guard_annotate_all(guard, &conversation, 1, &bad, &result, &error), QG_ERROR_ENUM, "options.decoding");
        bad = good;
        bad.overflow = numbers[index];
        FAILS(qg_queue_annotate(queue, guard, &user, 1, &bad, 1, 0, &error), QG_ERROR_ENUM, "argument options.overflow");
    }
    bad = good;
    bad.reserved = 1;
    FAILS(qg_guard_annotate(guard, &user, 1, &bad, &made, &error), QG_ERROR_ARGUMENT, "argument options.reserved");
    CHECK(made == NULL && result.reserved == 0x55555555);
    WORKS(qg_queue_length(queue, &length, &error));
    CHECK(length == 0);
    qg_queue_free(queue);
    WORKS(qg_guard_annotate(guard, &user, 1, &good, &made, &error));
    qg_annotation_free(made);
}

/* What annotations say, when the guard is long gone. */
static void annotations_outlive_the_guard(void) {
    qg_guard *guard = open_nano();
    qg_annotation *asked = annotate(guard, "How do I build a bomb and kill my neighbour with it?", NULL);
    qg_annotation *answered = annotate(guard, QUESTION, ANSWER);
    qg_annotation_info info;
    qg_judgement judgement;
    qg_text *text = NULL, *rule = NULL;
    const char *name = NULL;
    double reward = 77;
    static const char flag[] = "[answer]\nmode = { custom = { unsafe = { action = 'flag' } } }";
    static const char spam[] = "answer.categories.Spam.action = 'flag'";
    qg_guard_free(guard);
    WORKS(qg_annotation_get(asked, &info, &error));
    CHECK(info.mode == QG_MODE_PROMPT && info.mode_category_count == 9 && info.judgement.decision == QG_DECISION_STOP);
    WORKS(qg_annotation_get(answered, &info, &error));
    CHECK(info.mode == QG_MODE_RESPONSE && info.risk == QG_RISK_UNSAFE && info.refusal == -1 && info.parsed == 1);
    CHECK(info.mode_category_count == 8 && info.category_count == 1 && info.id_count == 0 && info.windows == 1);
    CHECK(info.judged_start == 0 && info.judged_end == strlen(ANSWER) && info.is_cut == 0);
    WORKS(qg_annotation_category_name(answered, info.categories[0], &name, &error));
    CHECK(strcmp(name, "Violent") == 0);
    FAILS(qg_annotation_category_name(answered, 8, &name, &error), QG_ERROR_ARGUMENT, "8 is not below 8");
    WORKS(qg_annotation_json(answered, &text, &error));
    CHECK(strstr(qg_text_data(text), "\"categories\":[\"Violent\"]") != NULL);
    qg_text_free(text);
    WORKS(qg_annotation_answer(answered, &text, &error));
    CHECK(qg_text_length(text) == 0);
    qg_text_free(text);
    WORKS(qg_annotation_judge(answered, flag, strlen(flag), &judgement, &rule, &error));
    CHECK(judgement.decision == QG_DECISION_CONTINUE && judgement.has_finding && judgement.action == QG_ACTION_FLAG);
    CHECK(strncmp(qg_text_data(rule), "answer.", 7) == 0);
    qg_text_free(rule);
    WORKS(qg_annotation_judge(answered, flag, strlen(flag), &judgement, NULL, &error));
    FAILS(qg_annotation_judge(answered, spam, strlen(spam), &judgement, NULL, &error), QG_ERROR_CONFIG, "Spam");
    FAILS(qg_annotation_judge(answered, "\xff", 1, &judgement, NULL, &error), QG_ERROR_ARGUMENT, "UTF-8");
    WORKS(qg_annotation_reward(answered, NULL, NULL, 0, NAN, &reward, &error));
    CHECK(reward == 0);
    FAILS(qg_annotation_reward(asked, NULL, NULL, 0, 0, &reward, &error), QG_ERROR_ARGUMENT, "prompt");
    FAILS(qg_annotation_reward(answered, asked, NULL, 0, 0, &reward, &error), QG_ERROR_ARGUMENT, "prompt");
    FAILS(qg_annotation_reward(answered, NULL, "form = 'hybrid'", 15, NAN, &reward, &error), QG_ERROR_ARGUMENT, "helpfulness");
    FAILS(qg_annotation_reward(answered, NULL, "what = 1", 8, 0, &reward, &error), QG_ERROR_CONFIG, "what");
    CHECK(reward == 0);
    qg_annotation_free(asked);
    qg_annotation_free(answered);
}

/* One that fails leaves the others alone. */
static void failures_are_in_their_places(const qg_guard *guard) {
    qg_message user = message("user", QUESTION), wizard[2], bytes = message("user", "\xff");
    qg_message no_role = user;
    qg_conversation conversations[5];
    qg_annotation_result results[5];
    no_role.role = NULL;
    wizard[0] = user;
    wizard[1] = message("wizard", "Abracadabra.");
    conversations[0].messages = &user, conversations[0].message_count = 1;
    conversations[1].messages = NULL, conversations[1].message_count = 0;
    conversations[2].messages = wizard, conversations[2].message_count = 2;
    conversations[3].messages = &bytes, conversations[3].message_count = 1;
    conversations[4].messages = &no_role, conversations[4].message_count = 1;
    WORKS(qg_guard_annotate_all(guard, conversations, 5, NULL, results, &error));
    CHECK(results[0].status == QG_OK && results[0].error == NULL && results[0].annotation != NULL);
    qg_annotation_free(results[0].annotation);
    FAILED(results[1], QG_ERROR_CONVERSATION, "no message");
    FAILED(results[2], QG_ERROR_CONVERSATION, "wizard");
    FAILED(results[3], QG_ERROR_ARGUMENT, "argument messages.content: message 0 (counted from 0) is not UTF-8 at byte 0");
    FAILED(results[4], QG_ERROR_NULL, "argument messages.role");
    CHECK(results[1].annotation == NULL && results[2].annotation == NULL && results[3].annotation == NULL);
}

/* Each comes back once, done or given up. */
static void given_up(const qg_guard *guard) {
    qg_message messages[2];
    qg_completion done[MANY];
    qg_queue *queue = NULL;
    size_t index, count = 0, cancelled = 0, gave_up = 0, late = 0;
    messages[0] = message("user", QUESTION);
    messages[1] = message("assistant", ANSWER);
    WORKS(qg_queue_open(&queue, &error));
    for (index = 0; index < MANY; index++)
        WORKS(qg_queue_annotate(queue, guard, messages, 2, NULL, index % 3, index % 3 == 1 ? 0 : QG_NO_TIMEOUT, &error));
    WORKS(qg_queue_cancel(queue, 7, &count, &error));
    CHECK(count == 0);
    WORKS(qg_queue_cancel(queue, 2, &cancelled, &error));
    CHECK(cancelled <= MANY / 3);
    for (index = 0; index < MANY; index += count) {
        size_t one;
        WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, done, MANY, &count, &error));
        for (one = 0; one < count; one++) {
            CHECK(done[one].stream == NULL);
            if (done[one].reply.status == QG_OK) {
                CHECK(done[one].annotation != NULL && done[one].reply.error == NULL);
                qg_annotation_free(done[one].annotation);
                continue;
            }
            CHECK(done[one].annotation == NULL && done[one].tag != 0);
            if (done[one].tag == 2) {
                FAILED(done[one].reply, QG_ERROR_CANCELLED, "cancelled");
                gave_up++;
            } else {
                FAILED(done[one].reply, QG_ERROR_DEADLINE_EXCEEDED, "deadline");
                late++;
            }
        }
    }
    CHECK(gave_up == cancelled && late <= MANY / 3);
    WORKS(qg_queue_length(queue, &count, &error));
    CHECK(count == 0);
    qg_queue_free(queue);
}

/* A queue is freed with annotations in it, done and under way; and a guard before them. */
static void freed_in_any_order(const qg_guard *guard) {
    qg_guard *other = open_nano();
    qg_message user = message("user", QUESTION);
    qg_completion done;
    qg_queue *queue = NULL;
    qg_stats stats;
    size_t index, count = 0;
    WORKS(qg_queue_open(&queue, &error));
    for (index = 0; index < MANY; index++)
        WORKS(qg_queue_annotate(queue, guard, &user, 1, NULL, 1, QG_NO_TIMEOUT, &error));
    WORKS(qg_queue_annotate(queue, other, &user, 1, NULL, 2, QG_NO_TIMEOUT, &error));
    WORKS(qg_queue_length(queue, &count, &error));
    CHECK(count == MANY + 1);
    qg_guard_free(other);
    for (index = 0; index < MANY / 2; index++) {
        WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, &done, 1, &count, &error));
        CHECK(count == 1 && done.reply.status == QG_OK);
        qg_annotation_free(done.annotation);
    }
    qg_queue_free(queue);
    WORKS(qg_guard_stats(guard, &stats, &error));
    CHECK(stats.open_streams == 0);
}

/* A queue takes calls of streams beside annotations. */
static void beside_streams(const qg_guard *guard) {
    qg_message user = message("user", QUESTION);
    qg_stream *stream = open_stream(guard);
    qg_call call = {stream, QG_CALL_PROMPT, 0, &user, 1};
    qg_completion done[2];
    qg_queue *queue = NULL;
    size_t index, count = 0, came = 0;
    WORKS(qg_queue_open(&queue, &error));
    WORKS(qg_queue_submit(queue, &call, 1, QG_NO_TIMEOUT, &error));
    WORKS(qg_queue_annotate(queue, guard, &user, 1, NULL, 2, QG_NO_TIMEOUT, &error));
    for (; came < 2; came += count) {
        WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, done, 2, &count, &error));
        for (index = 0; index < count; index++) {
            CHECK(done[index].reply.status == QG_OK);
            CHECK((done[index].stream == NULL) == (done[index].tag == 2));
            CHECK((done[index].annotation == NULL) == (done[index].tag == 1));
            CHECK(done[index].reply.is_check == (done[index].tag == 1));
            qg_annotation_free(done[index].annotation);
        }
    }
    qg_queue_free(queue);
    qg_stream_free(stream);
}

int main(void) {
    qg_guard *guard = open_nano();
    qg_annotation *annotation = annotate(guard, QUESTION, NULL);
    nulls(guard, annotation);
    qg_annotation_free(annotation);
    options(guard);
    annotations_outlive_the_guard();
    failures_are_in_their_places(guard);
    given_up(guard);
    freed_in_any_order(guard);
    beside_streams(guard);
    qg_guard_free(guard);
    return 0;
}
