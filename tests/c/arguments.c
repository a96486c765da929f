/* Arguments that are wrong, calls at the wrong moment, and what the errors say. */
#include "check.h"
#include <limits.h>
#include <stdint.h>

#define NULLS(call, argument) FAILS(call, QG_ERROR_NULL, "argument " argument ": NULL")

/* Every pointer of every function. `error` is NULL in every call of `without_errors`. */
static void nulls(const qg_guard *guard, qg_stream *stream) {
    qg_guard_options options;
    qg_guard *new_guard = NULL;
    qg_stream *new_stream = NULL;
    qg_text *text = NULL;
    qg_message user = message("user", "Hello"), no_role = user, no_content = user;
    qg_prompt_check check;
    qg_update update;
    qg_token_verdict tokens[1];
    qg_violation flags[1];
    const char *name = NULL;
    const uint8_t *bytes = NULL;
    uint32_t count32 = 0;
    uint32_t ids[1] = {0};
    size_t count = 0;
    no_role.role = NULL;
    no_content.content = NULL;

    CHECK(qg_error_status(NULL) == QG_OK && strcmp(qg_error_message(NULL), "") == 0);
    CHECK(strcmp(qg_text_data(NULL), "") == 0 && qg_text_length(NULL) == 0);
    qg_error_free(NULL);
    qg_text_free(NULL);
    qg_guard_free(NULL);
    qg_stream_free(NULL);

    NULLS(qg_guard_options_init(NULL, sizeof options, &error), "options");
    WORKS(qg_guard_options_init(&options, sizeof options, &error));
    NULLS(qg_guard_open(NULL, 0, &options, &new_guard, &error), "bundle");
    NULLS(qg_guard_open(NULL, 4, &options, &new_guard, &error), "bundle");
    NULLS(qg_guard_open("x", 1, &options, NULL, &error), "guard");
    NULLS(qg_guard_open_nano(&options, NULL, &error), "guard");
    NULLS(qg_guard_open_nano_gen(&options, NULL, &error), "guard");
    options.config_toml_length = 3;
    NULLS(qg_guard_open_nano(&options, &new_guard, &error), "options.config_toml");
    options.config_toml_length = 0;
    options.runtime_library_length = 3;
    NULLS(qg_guard_open_nano(&options, &new_guard, &error), "options.runtime_library");
    CHECK(new_guard == NULL);

    options.runtime_library_length = 0;
    NULLS(qg_providers(NULL, NULL, &error), "json");
    options.config_toml_length = 3;
    NULLS(qg_providers(&options, &text, &error), "options.config_toml");
    options.config_toml_length = 0;
    WORKS(qg_providers(&options, &text, &error));
    CHECK(strstr(qg_text_data(text), "{\"provider\":\"cpu\",\"available\":true,\"devices\":[{\"index\":0,"));
    CHECK(strstr(qg_text_data(text), "{\"provider\":\"coreml\",\"available\":"));
    qg_text_free(text);
    text = NULL;
    NULLS(qg_guard_info(NULL, &text, &error), "guard");
    NULLS(qg_guard_info(guard, NULL, &error), "json");
    NULLS(qg_guard_category_count(NULL, QG_HEADS_PROMPT, &count32, &error), "guard");
    NULLS(qg_guard_category_count(guard, QG_HEADS_PROMPT, NULL, &error), "count");
    NULLS(qg_guard_category_name(NULL, QG_HEADS_PROMPT, 0, &name, &error), "guard");
    NULLS(qg_guard_category_name(guard, QG_HEADS_PROMPT, 0, NULL, &error), "name");
    NULLS(qg_guard_encode(NULL, "x", 1, NULL, NULL, 0, &count, &error), "guard");
    NULLS(qg_guard_encode(guard, NULL, 1, NULL, NULL, 0, &count, &error), "text");
    NULLS(qg_guard_encode(guard, "x", 1, NULL, NULL, 0, NULL, &error), "count");
    WORKS(qg_guard_encode(guard, NULL, 0, NULL, NULL, 9, &count, &error));
    CHECK(count == 0);
    NULLS(qg_guard_token_bytes(NULL, 1, &bytes, &count, &error), "guard");
    NULLS(qg_guard_token_bytes(guard, 1, NULL, &count, &error), "bytes");
    NULLS(qg_guard_token_bytes(guard, 1, &bytes, NULL, &error), "length");

    NULLS(qg_stream_open(NULL, NULL, 0, &new_stream, &error), "guard");
    NULLS(qg_stream_open(guard, NULL, 1, &new_stream, &error), "policy");
    NULLS(qg_stream_open(guard, NULL, 0, NULL, &error), "stream");
    NULLS(qg_stream_prompt(NULL, &user, 1, &check, &error), "stream");
    NULLS(qg_stream_prompt(stream, NULL, 1, &check, &error), "messages");
    NULLS(qg_stream_prompt(stream, &no_role, 1, &check, &error), "messages.role");
    NULLS(qg_stream_prompt(stream, &no_content, 1, &check, &error), "messages.content");
    NULLS(qg_stream_prompt(stream, &user, 1, NULL, &error), "check");
    FAILS(qg_stream_prompt(stream, NULL, 0, &check, &error), QG_ERROR_CONVERSATION, "user");
    NULLS(qg_stream_next_turn(NULL, &user, 1, &check, &error), "stream");
    NULLS(qg_stream_next_turn(stream, NULL, 1, &check, &error), "messages");
    NULLS(qg_stream_next_turn(stream, &user, 1, NULL, &error), "check");
    prompt(stream, "Hello");
    NULLS(qg_stream_push_text(NULL, "x", 1, &update, &error), "stream");
    NULLS(qg_stream_push_text(stream, NULL, 1, &update, &error), "text");
    NULLS(qg_stream_push_text(stream, "x", 1, NULL, &error), "update");
    WORKS(qg_stream_push_text(stream, NULL, 0, &update, &error));
    CHECK(update.received == 0);
    NULLS(qg_stream_push_thinking(NULL, "x", 1, &update, &error), "stream");
    NULLS(qg_stream_push_thinking(stream, NULL, 1, &update, &error), "text");
    NULLS(qg_stream_push_thinking(stream, "x", 1, NULL, &error), "update");
    NULLS(qg_stream_push_tokens(NULL, ids, 1, &update, &error), "stream");
    NULLS(qg_stream_push_tokens(stream, NULL, 1, &update, &error), "ids");
    NULLS(qg_stream_push_tokens(stream, ids, 1, NULL, &error), "update");
    NULLS(qg_stream_finish(NULL, &update, &error), "stream");
    NULLS(qg_stream_finish(stream, NULL, &error), "update");
    NULLS(qg_stream_truncate(NULL, 0, &update, &error), "stream");
    NULLS(qg_stream_truncate(stream, 0, NULL, &error), "update");
    NULLS(qg_stream_truncate_tokens(NULL, 0, &update, &error), "stream");
    NULLS(qg_stream_truncate_tokens(stream, 0, NULL, &error), "update");
    NULLS(qg_stream_fork(NULL, &new_stream, &error), "stream");
    NULLS(qg_stream_fork(stream, NULL, &error), "fork");
    NULLS(qg_stream_context_used(NULL, &count, &error), "stream");
    NULLS(qg_stream_context_used(stream, NULL, &error), "tokens");
    NULLS(qg_stream_tokens(NULL, tokens, 1, &count, &error), "stream");
    NULLS(qg_stream_tokens(stream, NULL, 1, &count, &error), "tokens");
    NULLS(qg_stream_tokens(stream, tokens, 1, NULL, &error), "count");
    NULLS(qg_stream_flags(NULL, flags, 1, &count, &error), "stream");
    NULLS(qg_stream_flags(stream, NULL, 1, &count, &error), "flags");
    NULLS(qg_stream_flags(stream, flags, 1, NULL, &error), "count");
    NULLS(qg_stream_rule(NULL, &text, &error), "stream");
    NULLS(qg_stream_rule(stream, NULL, &error), "rule");
    NULLS(qg_stream_flag_rule(NULL, 0, &text, &error), "stream");
    NULLS(qg_stream_flag_rule(stream, 0, NULL, &error), "rule");
    CHECK(new_stream == NULL && text == NULL);
}

/* The same of what takes many streams. */
static void nulls_of_many(const qg_guard *guard, qg_stream *stream) {
    qg_message no_role = message("user", "Hello");
    qg_call call = {NULL, QG_CALL_PUSH_TEXT, 0, "x", 1};
    qg_reply reply;
    qg_queue *queue = NULL;
    qg_completion completion;
    qg_stats stats;
    qg_text *text = NULL;
    size_t count = 0;
    no_role.role = NULL;
    qg_queue_free(NULL);
    NULLS(qg_guard_stats(NULL, &stats, &error), "guard");
    NULLS(qg_guard_stats(guard, NULL, &error), "stats");
    NULLS(qg_guard_metrics(NULL, &text, &error), "guard");
    NULLS(qg_guard_metrics(guard, NULL, &error), "metrics");
    NULLS(qg_streams_call(NULL, 1, &reply, &error), "calls");
    NULLS(qg_streams_call(&call, 1, NULL, &error), "replies");
    WORKS(qg_streams_call(NULL, 0, NULL, &error));
    NULLS(qg_queue_open(NULL, &error), "queue");
    WORKS(qg_queue_open(&queue, &error));
    NULLS(qg_queue_submit(NULL, &call, 1, 0, &error), "queue");
    NULLS(qg_queue_submit(queue, NULL, 1, 0, &error), "call");
    NULLS(qg_queue_submit(queue, &call, 1, 0, &error), "call.stream");
    NULLS(qg_queue_wait(NULL, 0, &completion, 1, &count, &error), "queue");
    NULLS(qg_queue_wait(queue, 0, NULL, 1, &count, &error), "completions");
    NULLS(qg_queue_wait(queue, 0, &completion, 1, NULL, &error), "count");
    NULLS(qg_queue_cancel(NULL, 1, &count, &error), "queue");
    NULLS(qg_queue_cancel(queue, 1, NULL, &error), "count");
    NULLS(qg_queue_length(NULL, &count, &error), "queue");
    NULLS(qg_queue_length(queue, NULL, &error), "calls");
    WORKS(qg_streams_call(&call, 1, &reply, &error));
    FAILED(reply, QG_ERROR_NULL, "argument call.stream: NULL");
    call.stream = stream;
    for (call.kind = QG_CALL_PROMPT; call.kind < QG_CALL_FINISH; call.kind++) {
        const char *argument = call.kind <= QG_CALL_NEXT_TURN ? "argument messages: NULL" : "argument call.data: NULL";
        call.data = NULL;
        WORKS(qg_streams_call(&call, 1, &reply, &error));
        FAILED(reply, QG_ERROR_NULL, argument);
        FAILS(qg_queue_submit(queue, &call, 1, 0, &error), QG_ERROR_NULL, argument);
    }
    for (call.kind = QG_CALL_PROMPT; call.kind <= QG_CALL_NEXT_TURN; call.kind++) {
        call.data = &no_role;
        WORKS(qg_streams_call(&call, 1, &reply, &error));
        FAILED(reply, QG_ERROR_NULL, "argument messages.role: NULL");
    }
    for (count = 0; count < 3; count++) {
        static const uint32_t kinds[] = {QG_CALL_TRUNCATE_TOKENS + 1, INT32_MAX, UINT32_MAX};
        call.kind = kinds[count];
        WORKS(qg_streams_call(&call, 1, &reply, &error));
        FAILED(reply, QG_ERROR_ENUM, "argument call.kind");
        FAILS(qg_queue_submit(queue, &call, 1, 0, &error), QG_ERROR_ENUM, "argument call.kind");
    }
    /* How much of the answer stays is a number: there is no data. */
    for (call.kind = QG_CALL_TRUNCATE; call.kind <= QG_CALL_TRUNCATE_TOKENS; call.kind++) {
        const char *argument = call.kind == QG_CALL_TRUNCATE ? "argument bytes" : "argument tokens";
        call.data = NULL;
        call.length = SIZE_MAX;
        WORKS(qg_streams_call(&call, 1, &reply, &error));
        FAILED(reply, QG_ERROR_ARGUMENT, argument);
        WORKS(qg_queue_submit(queue, &call, 1, QG_NO_TIMEOUT, &error));
        WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, &completion, 1, &count, &error));
        CHECK(count == 1 && completion.tag == 1 && completion.stream == stream);
        FAILED(completion.reply, QG_ERROR_ARGUMENT, argument);
    }
    call.kind = QG_CALL_FINISH;
    call.reserved = 1;
    WORKS(qg_streams_call(&call, 1, &reply, &error));
    FAILED(reply, QG_ERROR_ARGUMENT, "argument call.reserved");
    FAILS(qg_queue_submit(queue, &call, 1, 0, &error), QG_ERROR_ARGUMENT, "argument call.reserved");
    count = 77;
    FAILS(qg_queue_wait(queue, 0, NULL, 0, &count, &error), QG_ERROR_ARGUMENT, "argument capacity");
    CHECK(count == 77);
    WORKS(qg_queue_length(queue, &count, &error));
    CHECK(count == 0);
    qg_queue_free(queue);
}

/* The place for an error may be NULL, for failures and successes. */
static void without_errors(const qg_guard *guard, qg_stream *stream) {
    qg_guard_options options;
    qg_guard *new_guard = NULL;
    qg_stream *fork = NULL;
    qg_text *text = NULL;
    qg_prompt_check check;
    qg_update update;
    qg_message user = message("user", "Hello");
    const char *name = NULL;
    const uint8_t *bytes = NULL;
    uint32_t count32 = 0;
    size_t count = 0;
    CHECK(qg_guard_options_init(&options, sizeof options, NULL) == QG_OK);
    CHECK(qg_guard_options_init(NULL, sizeof options, NULL) == QG_ERROR_NULL);
    CHECK(qg_guard_open("/nowhere", 8, NULL, &new_guard, NULL) == QG_ERROR_BUNDLE_FILE);
    CHECK(qg_guard_open_nano(NULL, NULL, NULL) == QG_ERROR_NULL);
    CHECK(qg_guard_open_nano_gen(NULL, NULL, NULL) == QG_ERROR_NULL);
    CHECK(qg_guard_info(guard, &text, NULL) == QG_OK);
    qg_text_free(text);
    CHECK(qg_providers(NULL, NULL, NULL) == QG_ERROR_NULL);
    CHECK(qg_guard_category_count(guard, 7, &count32, NULL) == QG_ERROR_ENUM);
    CHECK(qg_guard_category_name(guard, 7, 0, &name, NULL) == QG_ERROR_ENUM);
    CHECK(qg_guard_encode(guard, "x", 1, NULL, NULL, 0, &count, NULL) == QG_OK);
    CHECK(qg_guard_token_bytes(guard, UINT32_MAX, &bytes, &count, NULL) == QG_ERROR_ARGUMENT);
    CHECK(qg_stream_open(guard, "x", 1, &fork, NULL) == QG_ERROR_CONFIG);
    CHECK(qg_stream_prompt(stream, &user, 1, &check, NULL) == QG_OK);
    CHECK(qg_stream_next_turn(stream, &user, 1, &check, NULL) == QG_ERROR_WRONG_STATE);
    CHECK(qg_stream_push_text(stream, "x", 1, &update, NULL) == QG_OK);
    CHECK(qg_stream_push_thinking(stream, "x", 1, &update, NULL) == QG_ERROR_WRONG_STATE);
    CHECK(qg_stream_push_tokens(stream, NULL, 0, &update, NULL) == QG_ERROR_WRONG_STATE);
    CHECK(qg_stream_truncate(stream, 9, &update, NULL) == QG_ERROR_ARGUMENT);
    CHECK(qg_stream_truncate_tokens(stream, 9, &update, NULL) == QG_ERROR_ARGUMENT);
    CHECK(qg_stream_finish(stream, &update, NULL) == QG_OK);
    CHECK(qg_stream_finish(stream, &update, NULL) == QG_ERROR_WRONG_STATE);
    CHECK(qg_stream_fork(stream, &fork, NULL) == QG_OK);
    qg_stream_free(fork);
    CHECK(qg_stream_context_used(stream, &count, NULL) == QG_OK);
    CHECK(qg_stream_tokens(stream, NULL, 0, &count, NULL) == QG_OK);
    CHECK(qg_stream_flags(stream, NULL, 0, &count, NULL) == QG_OK);
    CHECK(qg_stream_rule(stream, &text, NULL) == QG_ERROR_WRONG_STATE);
    CHECK(qg_stream_flag_rule(stream, 0, &text, NULL) == QG_ERROR_ARGUMENT);
}

static void numbers(const qg_guard *guard) {
    static const int32_t out_of_range[] = {-1, 3, 19, 99, 104, INT_MAX, INT_MIN};
    static const int32_t statuses[] = {QG_OK, QG_ERROR_RUNTIME_NOT_FOUND, QG_ERROR_RUNTIME_UNUSABLE, QG_ERROR_PROVIDER,
        QG_ERROR_CONFIG, QG_ERROR_BUNDLE_FILE, QG_ERROR_BUNDLE_FIELD, QG_ERROR_BUNDLE_FORMAT, QG_ERROR_CONVERSATION,
        QG_ERROR_ARGUMENT, QG_ERROR_WRONG_STATE, QG_ERROR_CONTEXT_FULL, QG_ERROR_BUSY, QG_ERROR_OUT_OF_MEMORY,
        QG_ERROR_INFERENCE, QG_ERROR_ENGINE_STOPPED, QG_ERROR_DEADLINE_EXCEEDED, QG_ERROR_EXPIRED, QG_ERROR_CANCELLED, QG_ERROR_NULL,
        QG_ERROR_ENUM, QG_ERROR_IN_USE, QG_ERROR_PANIC};
    const char *name = NULL;
    uint32_t count = 77;
    size_t index;
    for (index = 0; index < sizeof out_of_range / sizeof *out_of_range; index++) {
        int32_t value = out_of_range[index];
        CHECK(qg_risk_name(value) == NULL);
        CHECK(value == 3 || qg_status_name(value) == NULL);
        FAILS(qg_guard_category_count(guard, (uint32_t)value, &count, &error), QG_ERROR_ENUM, "argument heads");
        FAILS(qg_guard_category_name(guard, (uint32_t)value, 0, &name, &error), QG_ERROR_ENUM, "argument heads");
    }
    CHECK(count == 77 && name == NULL);
    for (index = 0; index < sizeof statuses / sizeof *statuses; index++)
        CHECK(strncmp(qg_status_name(statuses[index]), index == 0 ? "QG_OK" : "QG_ERROR_", 5) == 0);
    FAILS(qg_guard_category_name(guard, QG_HEADS_ANSWER, 8, &name, &error), QG_ERROR_ARGUMENT, "8 is not below 8");
    WORKS(qg_guard_category_name(guard, QG_HEADS_PROMPT, 8, &name, &error));
}

/* A size that is more than the library's own is refused, and nothing behind the options is read or written. */
static void options_of_other_sizes(void) {
    static const uint32_t wrong[] = {0, 4, sizeof(qg_guard_options) + 1, 4096, 1u << 20, UINT32_MAX};
    qg_guard_options *options = (qg_guard_options *)malloc(sizeof *options);
    qg_guard *guard = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        FAILS(qg_guard_options_init(options, wrong[i], &error), QG_ERROR_ARGUMENT, "struct_size");
        memset(options, 0, sizeof *options);
        options->struct_size = wrong[i];
        FAILS(qg_guard_open_nano(options, &guard, &error), QG_ERROR_ARGUMENT, "struct_size");
        FAILS(qg_guard_open_nano_gen(options, &guard, &error), QG_ERROR_ARGUMENT, "struct_size");
    }
    memset(options, 0xaa, sizeof *options);
    WORKS(qg_guard_options_init(options, sizeof *options, &error));
    CHECK(options->struct_size == sizeof *options && options->config_toml == NULL);
    free(options);
}

static void errors_of_guards(const qg_guard *opened) {
    static const char toml[] = "engine.max_streams = 2", wrong[] = "engine.threads = 2", half[] = "\xe6\x97";
    static const char category[] = "answer.categories.Spam.at = 0.5", level[] = "answer.mode = 'hard'";
    qg_guard_options options;
    qg_guard *guard = NULL;
    qg_stream *streams[3] = {NULL, NULL, NULL};
    size_t count = 0;
    WORKS(qg_guard_options_init(&options, sizeof options, &error));
    FAILS(qg_guard_open("/nowhere", 8, &options, &guard, &error), QG_ERROR_BUNDLE_FILE, "/nowhere");
    FAILS(qg_guard_open("", 0, &options, &guard, &error), QG_ERROR_ARGUMENT, "argument bundle: it is empty");
    FAILS(qg_guard_open(half, 2, &options, &guard, &error), QG_ERROR_ARGUMENT, "bundle: not UTF-8 at byte 0");
    options.runtime_library = "/nowhere";
    options.runtime_library_length = 8;
    FAILS(qg_guard_open_nano(&options, &guard, &error), QG_ERROR_RUNTIME_NOT_FOUND, "/nowhere");
    options.runtime_library_length = 0;
    options.cache_mib = UINT64_MAX;
    FAILS(qg_guard_open_nano(&options, &guard, &error), QG_ERROR_ARGUMENT, "cache_mib");
    options.cache_mib = UINT32_MAX;
    FAILS(qg_guard_open_nano(&options, &guard, &error), QG_ERROR_CONFIG, "cache.mib");
    options.cache_mib = 64;
    options.threads = UINT32_MAX;
    FAILS(qg_guard_open_nano(&options, &guard, &error), QG_ERROR_CONFIG, "runtime.threads");
    options.threads = 1;
    options.config_toml = wrong;
    options.config_toml_length = strlen(wrong);
    FAILS(qg_guard_open_nano(&options, &guard, &error), QG_ERROR_CONFIG, "threads");
    CHECK(guard == NULL);
    options.config_toml = toml;
    options.config_toml_length = strlen(toml);
    WORKS(qg_guard_open_nano(&options, &guard, &error));
    WORKS(qg_stream_open(guard, NULL, 0, &streams[0], &error));
    WORKS(qg_stream_open(guard, NULL, 0, &streams[1], &error));
    FAILS(qg_stream_open(guard, NULL, 0, &streams[2], &error), QG_ERROR_BUSY, "2");
    FAILS(qg_stream_fork(streams[0], &streams[2], &error), QG_ERROR_BUSY, "2");
    qg_stream_free(streams[0]);
    WORKS(qg_stream_open(guard, NULL, 0, &streams[2], &error));
    qg_stream_free(streams[1]);
    qg_stream_free(streams[2]);
    FAILS(qg_stream_open(guard, category, strlen(category), &streams[0], &error), QG_ERROR_CONFIG, "Spam");
    FAILS(qg_stream_open(guard, level, strlen(level), &streams[0], &error), QG_ERROR_CONFIG, "hard");
    FAILS(qg_stream_open(guard, half, 2, &streams[0], &error), QG_ERROR_ARGUMENT, "policy: not UTF-8");
    qg_guard_free(guard);
    FAILS(qg_guard_encode(opened, half, 2, NULL, NULL, 0, &count, &error), QG_ERROR_ARGUMENT, "text: not UTF-8");
}

/* Calls at the wrong moment. What failed has changed nothing, and wrote nothing. */
static void errors_of_streams(const qg_guard *guard) {
    qg_stream *stream = open_stream(guard);
    qg_message user = message("user", "Hello"), bad = message("user", "\xff"), long_user;
    qg_prompt_check check;
    qg_update update, again;
    uint32_t id = UINT32_MAX;
    char *words = (char *)malloc((1 << 20) + 1);
    memset(words, 'a', (1 << 20) + 1);
    memset(&update, 0x55, sizeof update);
    again = update;
    FAILS(qg_stream_push_text(stream, "x", 1, &update, &error), QG_ERROR_WRONG_STATE, "before the prompt");
    FAILS(qg_stream_push_tokens(stream, &id, 1, &update, &error), QG_ERROR_WRONG_STATE, "before the prompt");
    FAILS(qg_stream_finish(stream, &update, &error), QG_ERROR_WRONG_STATE, "before the prompt");
    FAILS(qg_stream_truncate(stream, 0, &update, &error), QG_ERROR_WRONG_STATE, "before the prompt");
    FAILS(qg_stream_truncate_tokens(stream, 0, &update, &error), QG_ERROR_WRONG_STATE, "before the prompt");
    CHECK(memcmp(&update, &again, sizeof update) == 0);
    FAILS(qg_stream_prompt(stream, &bad, 1, &check, &error), QG_ERROR_ARGUMENT, "messages.content: message 0 (counted from 0) is not UTF-8 at byte 0");
    long_user = user;
    long_user.content = words;
    long_user.content_length = 200000;
    FAILS(qg_stream_prompt(stream, &long_user, 1, &check, &error), QG_ERROR_CONTEXT_FULL, "context full");
    WORKS(qg_stream_prompt(stream, &user, 1, &check, &error));
    FAILS(qg_stream_next_turn(stream, &user, 1, &check, &error), QG_ERROR_WRONG_STATE, "before the end");
    FAILS(qg_stream_push_tokens(stream, &id, 1, &update, &error), QG_ERROR_ARGUMENT, "4294967295");
    update = push(stream, "Gr\xc3", 3);
    CHECK(update.received == 3 && update.horizon < 3);
    FAILS(qg_stream_push_text(stream, "x", 1, &again, &error), QG_ERROR_ARGUMENT, "2");
    FAILS(qg_stream_finish(stream, &again, &error), QG_ERROR_ARGUMENT, "2");
    update = push(stream, "\xbc\xc3\x9f dich", 8);
    CHECK(update.received == 11);
    FAILS(qg_stream_push_text(stream, words, 200000, &again, &error), QG_ERROR_CONTEXT_FULL, "context full");
    FAILS(qg_stream_push_text(stream, words, (1 << 20) + 1, &again, &error), QG_ERROR_ARGUMENT, "1048577");
    FAILS(qg_stream_truncate(stream, 3, &again, &error), QG_ERROR_ARGUMENT, "3");
    FAILS(qg_stream_truncate(stream, 12, &again, &error), QG_ERROR_ARGUMENT, "12");
    WORKS(qg_stream_finish(stream, &update, &error));
    CHECK(update.horizon == 11);
    FAILS(qg_stream_push_text(stream, "x", 1, &again, &error), QG_ERROR_WRONG_STATE, "after the end");
    FAILS(qg_stream_push_thinking(stream, "x", 1, &again, &error), QG_ERROR_WRONG_STATE, "after the end");
    FAILS(qg_stream_push_tokens(stream, &id, 1, &again, &error), QG_ERROR_WRONG_STATE, "after the end");
    FAILS(qg_stream_finish(stream, &again, &error), QG_ERROR_WRONG_STATE, "after the end");
    WORKS(qg_stream_next_turn(stream, &user, 1, &check, &error));
    free(words);
    qg_stream_free(stream);
}

/* What is too long is refused before it is read, through a queue too; the stream goes on. */
static void sizes(const qg_guard *guard) {
    static uint32_t ids[100000];
    static qg_message many[100000];
    const size_t length = 5u << 20;
    qg_stream *stream = open_stream(guard);
    qg_message long_one = message("user", "");
    qg_call call = {stream, QG_CALL_PROMPT, 0, &long_one, 1};
    qg_queue *queue = NULL;
    qg_completion done;
    qg_prompt_check check;
    qg_update update;
    size_t count = 0;
    char *text = (char *)malloc(length);
    CHECK(text != NULL);
    memset(text, 'a', length);
    long_one.content = text;
    long_one.content_length = length;
    FAILS(qg_stream_prompt(stream, &long_one, 1, &check, &error), QG_ERROR_CONTEXT_FULL, "the limit is 2048");
    WORKS(qg_queue_open(&queue, &error));
    WORKS(qg_queue_submit(queue, &call, 1, QG_NO_TIMEOUT, &error));
    WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, &done, 1, &count, &error));
    CHECK(count == 1 && done.stream == stream);
    FAILED(done.reply, QG_ERROR_CONTEXT_FULL, "the limit is 2048");
    /* Not even looked at. */
    long_one.content_length = SIZE_MAX / 4;
    FAILS(qg_stream_prompt(stream, &long_one, 1, &check, &error), QG_ERROR_CONTEXT_FULL, "the limit is 2048");
    FAILS(qg_queue_submit(queue, &call, 1, QG_NO_TIMEOUT, &error), QG_ERROR_CONTEXT_FULL, "the limit is 2048");
    FAILS(qg_stream_prompt(stream, many, 100000, &check, &error), QG_ERROR_CONTEXT_FULL, "100000");
    prompt(stream, "Hello");
    FAILS(qg_stream_push_tokens(stream, ids, 100000, &update, &error), QG_ERROR_CONTEXT_FULL, "100000");
    FAILS(qg_stream_push_text(stream, text, length, &update, &error), QG_ERROR_ARGUMENT, "1048576");
    FAILS(qg_stream_push_text(stream, text, 1u << 20, &update, &error), QG_ERROR_CONTEXT_FULL, "the limit is 2048");
    push(stream, "Hello", 5);
    free(text);
    qg_queue_free(queue);
    qg_stream_free(stream);
}

int main(void) {
    qg_guard *guard = open_nano();
    qg_stream *stream = open_stream(guard);
    nulls(guard, stream);
    nulls_of_many(guard, stream);
    without_errors(guard, stream);
    qg_stream_free(stream);
    numbers(guard);
    options_of_other_sizes();
    errors_of_guards(guard);
    errors_of_streams(guard);
    sizes(guard);
    qg_guard_free(guard);
    return 0;
}
