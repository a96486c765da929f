/* Every call of a stream that has expired says so, and nothing else. */
#include "check.h"
#include <time.h>

static const char EXPIRED[] = "the stream expired";

static qg_guard *open_idle(void) {
    static const char config[] = "engine.idle_seconds = 1";
    qg_guard_options options;
    qg_guard *guard = NULL;
    WORKS(qg_guard_options_init(&options, sizeof options, &error));
    options.threads = 1;
    options.cache_mib = 64;
    options.config_toml = config;
    options.config_toml_length = strlen(config);
    WORKS(qg_guard_open_nano(&options, &guard, &error));
    return guard;
}

/* Looking at a stream does not keep it alive. */
static void wait_for_expiry(const qg_guard *guard, const qg_stream *stream) {
    const struct timespec moment = {0, 10 * 1000 * 1000};
    qg_stats stats;
    size_t used, count;
    do {
        WORKS(qg_stream_context_used(stream, &used, &error));
        WORKS(qg_stream_tokens(stream, NULL, 0, &count, &error));
        nanosleep(&moment, NULL);
        WORKS(qg_guard_stats(guard, &stats, &error));
    } while (stats.expired_streams == 0);
}

static void calls(qg_stream *stream) {
    qg_message user = message("user", "Hello"), wrong = message("nobody", "Hello");
    uint32_t id = 5, unknown = UINT32_MAX;
    qg_prompt_check check;
    qg_update update;
    qg_stream *fork = NULL;
    FAILS(qg_stream_prompt(stream, &user, 1, &check, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_prompt(stream, &wrong, 1, &check, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_prompt(stream, NULL, 0, &check, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_next_turn(stream, &user, 1, &check, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_push_text(stream, "x", 1, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_push_text(stream, NULL, 0, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_push_text(stream, "\xFF", 1, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_push_thinking(stream, "x", 1, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_push_tokens(stream, &id, 1, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_push_tokens(stream, &unknown, 1, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_push_tokens(stream, NULL, 0, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_finish(stream, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_truncate(stream, 0, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_truncate(stream, 999, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_truncate_tokens(stream, 0, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_truncate_tokens(stream, 999, &update, &error), QG_ERROR_EXPIRED, EXPIRED);
    FAILS(qg_stream_fork(stream, &fork, &error), QG_ERROR_EXPIRED, EXPIRED);
    CHECK(fork == NULL);
}

/* The same out of a queue and of a call for many. */
static void calls_elsewhere(qg_stream *stream) {
    qg_call call;
    qg_reply reply;
    qg_queue *queue = NULL;
    qg_completion done;
    size_t count = 0;
    memset(&call, 0, sizeof call);
    call.stream = stream;
    call.kind = QG_CALL_FINISH;
    WORKS(qg_streams_call(&call, 1, &reply, &error));
    FAILED(reply, QG_ERROR_EXPIRED, EXPIRED);
    WORKS(qg_queue_open(&queue, &error));
    WORKS(qg_queue_submit(queue, &call, 1, QG_NO_TIMEOUT, &error));
    WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, &done, 1, &count, &error));
    CHECK(count == 1);
    FAILED(done.reply, QG_ERROR_EXPIRED, EXPIRED);
    qg_queue_free(queue);
}

int main(void) {
    qg_guard *guard = open_idle();
    qg_stream *stream = open_stream(guard);
    size_t before = 0, after = 0;
    prompt(stream, QUESTION);
    push(stream, "Wipe the counters.", 18);
    WORKS(qg_stream_context_used(stream, &before, &error));
    wait_for_expiry(guard, stream);
    calls(stream);
    calls_elsewhere(stream);
    WORKS(qg_stream_context_used(stream, &after, &error));
    CHECK(before == after);
    qg_stream_free(stream);
    /* A new one takes its place. */
    stream = open_stream(guard);
    prompt(stream, QUESTION);
    qg_stream_free(stream);
    qg_guard_free(guard);
    return 0;
}
