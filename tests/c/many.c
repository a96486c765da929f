/* Many streams in one call, and calls that do not wait. */
#include "check.h"

enum { STREAMS = 6 };

static qg_call text_call(qg_stream *stream, const char *text, size_t length) {
    qg_call call = {stream, QG_CALL_PUSH_TEXT, 0, text, length};
    return call;
}

/* Every stream has another answer: the sample's from another place on. */
static const char *answer(size_t stream) {
    return ANSWER + 3 * stream;
}

static void pushed_alone(const qg_guard *guard, qg_update *updates) {
    size_t index;
    for (index = 0; index < STREAMS; index++) {
        qg_stream *stream = open_stream(guard);
        prompt(stream, QUESTION);
        updates[index] = push(stream, answer(index), strlen(answer(index)));
        qg_stream_free(stream);
    }
}

/* One call for all gives what one call each gives, and one that fails leaves the others alone. */
static void together(const qg_guard *guard, const qg_update *alone) {
    qg_message user = message("user", QUESTION);
    qg_stream *streams[STREAMS];
    qg_call calls[STREAMS + 1];
    qg_reply replies[STREAMS + 1];
    size_t index;
    for (index = 0; index < STREAMS; index++) {
        qg_call made = {NULL, QG_CALL_PROMPT, 0, NULL, 1};
        streams[index] = open_stream(guard);
        made.stream = streams[index];
        made.data = &user;
        calls[index] = made;
    }
    WORKS(qg_streams_call(calls, STREAMS, replies, &error));
    for (index = 0; index < STREAMS; index++) {
        CHECK(replies[index].status == QG_OK && replies[index].error == NULL && replies[index].is_check == 1);
        CHECK(replies[index].check.decision == QG_DECISION_CONTINUE && replies[index].check.verdict.category_count == 9);
        CHECK(replies[index].update.received == 0);
        calls[index] = text_call(streams[index], answer(index), strlen(answer(index)));
    }
    calls[STREAMS] = text_call(streams[0], "x", 1);
    WORKS(qg_streams_call(calls, STREAMS + 1, replies, &error));
    for (index = 0; index < STREAMS; index++) {
        qg_token_verdict tokens[4];
        size_t count = 0;
        CHECK(replies[index].status == QG_OK && replies[index].is_check == 0);
        CHECK(memcmp(&replies[index].update, &alone[index], sizeof alone[index]) == 0);
        WORKS(qg_stream_tokens(streams[index], tokens, 4, &count, &error));
        CHECK(count == alone[index].token_count && tokens[3].index == 3);
    }
    FAILED(replies[STREAMS], QG_ERROR_IN_USE, "in use");
    for (index = 0; index < STREAMS; index++)
        qg_stream_free(streams[index]);
}

static void queued(const qg_guard *guard, const qg_update *alone) {
    qg_queue *queue = NULL;
    qg_stream *streams[STREAMS];
    qg_completion done[4];
    size_t index, count = 0, seen = 0;
    WORKS(qg_queue_open(&queue, &error));
    for (index = 0; index < STREAMS; index++) {
        qg_call call;
        streams[index] = open_stream(guard);
        prompt(streams[index], QUESTION);
        call = text_call(streams[index], answer(index), strlen(answer(index)));
        WORKS(qg_queue_submit(queue, &call, index, QG_NO_TIMEOUT, &error));
        FAILS(qg_queue_submit(queue, &call, index, QG_NO_TIMEOUT, &error), QG_ERROR_IN_USE, "in use");
    }
    while (seen < STREAMS) {
        WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, done, 4, &count, &error));
        CHECK(count >= 1 && count <= 4);
        for (index = 0; index < count; index++, seen++) {
            CHECK(done[index].tag < STREAMS && done[index].stream == streams[done[index].tag]);
            CHECK(done[index].reply.status == QG_OK && done[index].reply.error == NULL);
            CHECK(memcmp(&done[index].reply.update, &alone[done[index].tag], sizeof *alone) == 0);
        }
    }
    WORKS(qg_queue_wait(queue, 1, done, 4, &count, &error));
    CHECK(count == 0);
    for (index = 0; index < STREAMS; index++)
        qg_stream_free(streams[index]);
    qg_queue_free(queue);
}

/* What is given up changes nothing; a call that fails comes back too. */
static void given_up(const qg_guard *guard) {
    qg_queue *queue = NULL;
    qg_stream *stream = open_stream(guard);
    qg_call call = text_call(stream, "Too early.", 10);
    qg_completion done;
    qg_update update;
    size_t count = 0, used = 0, again = 0, round, cancelled = 0;
    char words[2000];
    WORKS(qg_queue_open(&queue, &error));
    WORKS(qg_queue_submit(queue, &call, 1, QG_NO_TIMEOUT, &error));
    WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, &done, 1, &count, &error));
    FAILED(done.reply, QG_ERROR_WRONG_STATE, "before the prompt");
    prompt(stream, QUESTION);
    WORKS(qg_stream_context_used(stream, &used, &error));
    for (count = 0; count < sizeof words; count++)
        words[count] = "word "[count % 5];
    for (round = 0; round < 20; round++) {
        call = text_call(stream, words, sizeof words);
        WORKS(qg_queue_submit(queue, &call, round, round % 2 == 0 ? 0 : QG_NO_TIMEOUT, &error));
        if (round % 2 == 1) {
            WORKS(qg_queue_cancel(queue, round, &count, &error));
            CHECK(count <= 1);
            cancelled += count;
        }
        WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, &done, 1, &count, &error));
        CHECK(count == 1 && done.tag == round && done.stream == stream);
        if (done.reply.status == QG_OK) {
            WORKS(qg_stream_truncate(stream, 0, &update, &error));
        } else if (round % 2 == 1) {
            FAILED(done.reply, QG_ERROR_CANCELLED, "cancelled");
        } else {
            FAILED(done.reply, QG_ERROR_DEADLINE_EXCEEDED, "deadline");
        }
        WORKS(qg_stream_context_used(stream, &again, &error));
        CHECK(again == used);
    }
    CHECK(cancelled > 0);
    update = push(stream, "All is well.", 12);
    CHECK(update.received == 12);
    qg_stream_free(stream);
    qg_queue_free(queue);
}

/* What is in a queue is nobody else's, although its call may be done. */
static void in_use(const qg_guard *guard) {
    qg_message user = message("user", QUESTION);
    qg_queue *queue = NULL, *other = NULL;
    qg_stream *stream = open_stream(guard), *fork = NULL;
    /* Data that a call has no use for is not looked at. */
    qg_call finish = {stream, QG_CALL_FINISH, 0, NULL, SIZE_MAX}, call = text_call(stream, "x", 1);
    qg_completion done;
    qg_reply reply;
    qg_prompt_check check;
    qg_update update, before;
    qg_text *rule = NULL;
    uint32_t id = 1;
    size_t count = 77;
    memset(&update, 0x55, sizeof update);
    before = update;
    prompt(stream, QUESTION);
    WORKS(qg_queue_open(&queue, &error));
    WORKS(qg_queue_open(&other, &error));
    WORKS(qg_queue_submit(queue, &finish, 1, QG_NO_TIMEOUT, &error));
    FAILS(qg_stream_prompt(stream, &user, 1, &check, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_next_turn(stream, &user, 1, &check, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_push_text(stream, "x", 1, &update, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_push_thinking(stream, "x", 1, &update, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_push_tokens(stream, &id, 1, &update, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_finish(stream, &update, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_truncate(stream, 0, &update, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_truncate_tokens(stream, 0, &update, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_fork(stream, &fork, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_context_used(stream, &count, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_tokens(stream, NULL, 0, &count, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_flags(stream, NULL, 0, &count, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_rule(stream, &rule, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_stream_flag_rule(stream, 0, &rule, &error), QG_ERROR_IN_USE, "in use");
    FAILS(qg_queue_submit(other, &call, 2, QG_NO_TIMEOUT, &error), QG_ERROR_IN_USE, "in use");
    WORKS(qg_streams_call(&call, 1, &reply, &error));
    FAILED(reply, QG_ERROR_IN_USE, "in use");
    CHECK(memcmp(&update, &before, sizeof update) == 0 && fork == NULL && rule == NULL && count == 77);
    WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, &done, 1, &count, &error));
    CHECK(count == 1 && done.stream == stream && done.reply.status == QG_OK);
    WORKS(qg_queue_length(other, &count, &error));
    CHECK(count == 0);
    qg_queue_free(other);
    qg_queue_free(queue);
    qg_stream_free(stream);
}

/* One queue serves streams of two guards, and a tag may name many calls. */
static void two_guards(const qg_guard *first) {
    qg_guard *second = open_nano();
    qg_queue *queue = NULL;
    qg_stream *streams[STREAMS];
    qg_completion done[STREAMS];
    size_t index, count = 0, cancelled = 0, came = 0;
    qg_update update;
    WORKS(qg_queue_open(&queue, &error));
    for (index = 0; index < STREAMS; index++) {
        streams[index] = open_stream(index % 2 == 0 ? first : second);
        prompt(streams[index], QUESTION);
    }
    for (index = 0; index < STREAMS; index++) {
        qg_call call = text_call(streams[index], ANSWER, strlen(ANSWER));
        WORKS(qg_queue_submit(queue, &call, index % 2, QG_NO_TIMEOUT, &error));
    }
    WORKS(qg_queue_cancel(queue, 2, &cancelled, &error));
    CHECK(cancelled == 0);
    WORKS(qg_queue_cancel(queue, 1, &cancelled, &error));
    CHECK(cancelled <= STREAMS / 2);
    /* The second guard lives on in its streams. */
    qg_guard_free(second);
    for (index = 0; index < STREAMS; index++) {
        WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, &done[index], 1, &count, &error));
        CHECK(count == 1);
        if (done[index].reply.status != QG_OK) {
            FAILED(done[index].reply, QG_ERROR_CANCELLED, "cancelled");
            CHECK(done[index].tag == 1);
            came++;
            update = push(done[index].stream, ANSWER, strlen(ANSWER));
            CHECK(update.decision == QG_DECISION_STOP);
        }
    }
    CHECK(came == cancelled);
    qg_queue_free(queue);
    for (index = 0; index < STREAMS; index++)
        qg_stream_free(streams[index]);
}

/* Streams and queues are freed in any order, also with calls under way. */
static void freed_in_any_order(const qg_guard *guard) {
    qg_queue *queue = NULL;
    qg_stream *streams[STREAMS];
    qg_call call;
    qg_stats stats;
    size_t index, count = 0;
    uint64_t before;
    WORKS(qg_guard_stats(guard, &stats, &error));
    before = stats.open_streams;
    WORKS(qg_queue_open(&queue, &error));
    for (index = 0; index < STREAMS; index++) {
        streams[index] = open_stream(guard);
        prompt(streams[index], QUESTION);
        call = text_call(streams[index], ANSWER, strlen(ANSWER));
        WORKS(qg_queue_submit(queue, &call, index, QG_NO_TIMEOUT, &error));
        if (index % 2 == 0)
            qg_stream_free(streams[index]);
    }
    WORKS(qg_queue_length(queue, &count, &error));
    CHECK(count == STREAMS / 2);
    qg_queue_free(queue);
    WORKS(qg_guard_stats(guard, &stats, &error));
    CHECK(stats.open_streams == before + STREAMS / 2 && stats.steps > 0 && stats.tokens > 0 && stats.step_seconds > 0);
    CHECK(stats.cache_bytes > 0 && stats.cache_bytes <= 64u << 20 && stats.failed_steps == 0);
    for (index = 1; index < STREAMS; index += 2) {
        qg_update update = push(streams[index], "Hello", 5);
        CHECK(update.received == 5);
        qg_stream_free(streams[index]);
    }
}

int main(void) {
    qg_guard *guard = open_nano();
    qg_update alone[STREAMS];
    qg_text *metrics = NULL;
    pushed_alone(guard, alone);
    CHECK(alone[0].decision == QG_DECISION_STOP);
    together(guard, alone);
    queued(guard, alone);
    given_up(guard);
    in_use(guard);
    two_guards(guard);
    freed_in_any_order(guard);
    WORKS(qg_guard_metrics(guard, &metrics, &error));
    CHECK(strstr(qg_text_data(metrics), "\nqwenguard_open_streams 0\n") != NULL);
    qg_text_free(metrics);
    qg_guard_free(guard);
    return 0;
}
