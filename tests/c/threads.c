/* Eight threads on one guard, two threads on one stream, and threads that wait for the calls of others. */
#include "check.h"
#include <pthread.h>
#include <sched.h>

enum { THREADS = 8, ROUNDS = 3 };

static const qg_guard *shared_guard;

static qg_update cut(const qg_guard *guard) {
    qg_stream *stream = open_stream(guard);
    qg_update update;
    size_t at, length = strlen(ANSWER);
    memset(&update, 0, sizeof update);
    prompt(stream, QUESTION);
    for (at = 0; at < length && update.decision == QG_DECISION_CONTINUE; at += 20)
        update = push(stream, ANSWER + at, length - at < 20 ? length - at : 20);
    qg_stream_free(stream);
    return update;
}

static void *moderate(void *result) {
    int round;
    for (round = 0; round < ROUNDS; round++) {
        qg_text *json = NULL;
        WORKS(qg_guard_info(shared_guard, &json, &error));
        qg_text_free(json);
        *(qg_update *)result = cut(shared_guard);
    }
    return NULL;
}

static void *push_for_long(void *stream) {
    char text[4000];
    qg_update update;
    size_t index;
    for (index = 0; index < sizeof text; index++)
        text[index] = "word "[index % 5];
    for (index = 0; index < 40; index++) {
        qg_status status = qg_stream_push_text((qg_stream *)stream, text, 100, &update, NULL);
        CHECK(status == QG_OK || status == QG_ERROR_IN_USE);
    }
    return NULL;
}

/* Misuse is an error: each call has the stream for itself or does nothing. */
static void one_stream_for_two(const qg_guard *guard) {
    qg_stream *stream = open_stream(guard);
    pthread_t threads[2];
    qg_update update;
    int index;
    prompt(stream, QUESTION);
    for (index = 0; index < 2; index++)
        CHECK(pthread_create(&threads[index], NULL, push_for_long, stream) == 0);
    for (index = 0; index < 2; index++)
        CHECK(pthread_join(threads[index], NULL) == 0);
    update = push(stream, "end", 3);
    CHECK(update.received % 100 == 3);
    qg_stream_free(stream);
}

enum { WAITING = 2, SUBMITTED = 24 };

/* Takes calls until it gets the last, and counts the others by their status. */
typedef struct {
    const qg_queue *queue;
    size_t done, cancelled;
} waiting;

static void *wait_for_calls(void *data) {
    waiting *self = (waiting *)data;
    for (;;) {
        qg_completion completion;
        size_t count = 0;
        WORKS(qg_queue_wait(self->queue, QG_NO_TIMEOUT, &completion, 1, &count, &error));
        CHECK(count == 1);
        if (completion.tag == SUBMITTED) {
            CHECK(completion.reply.status == QG_ERROR_WRONG_STATE);
            qg_error_free(completion.reply.error);
            return NULL;
        }
        CHECK(completion.reply.status == QG_OK || completion.reply.status == QG_ERROR_CANCELLED);
        qg_error_free(completion.reply.error);
        if (completion.reply.status == QG_OK)
            self->done++;
        else
            self->cancelled++;
    }
}

/* Two threads wait before there is anything. A third part of the calls is cancelled, and of the rest one half loses its
   stream: those calls come back at most once. */
static void submit_to_waiting_threads(const qg_guard *guard) {
    qg_queue *queue = NULL;
    pthread_t threads[WAITING];
    waiting waits[WAITING];
    qg_stream *streams[SUBMITTED], *last[WAITING];
    size_t index, count = 0, cancelled = 0, done = 0, came = 0, freed = 0;
    WORKS(qg_queue_open(&queue, &error));
    for (index = 0; index < WAITING; index++) {
        waiting wait = {queue, 0, 0};
        waits[index] = wait;
        CHECK(pthread_create(&threads[index], NULL, wait_for_calls, &waits[index]) == 0);
    }
    for (index = 0; index < SUBMITTED; index++) {
        qg_call call = {NULL, QG_CALL_PUSH_TEXT, 0, ANSWER, sizeof ANSWER - 1};
        streams[index] = open_stream(guard);
        prompt(streams[index], QUESTION);
        call.stream = streams[index];
        WORKS(qg_queue_submit(queue, &call, index, QG_NO_TIMEOUT, &error));
        if (index % 3 == 0) {
            WORKS(qg_queue_cancel(queue, index, &count, &error));
            CHECK(count <= 1);
            cancelled += count;
        } else if (index % 3 == 1) {
            qg_stream_free(streams[index]);
            freed++;
        }
    }
    do {
        sched_yield();
        WORKS(qg_queue_length(queue, &count, &error));
    } while (count > 0);
    for (index = 0; index < WAITING; index++) {
        qg_call call = {NULL, QG_CALL_FINISH, 0, NULL, 0};
        last[index] = open_stream(guard);
        call.stream = last[index];
        WORKS(qg_queue_submit(queue, &call, SUBMITTED, QG_NO_TIMEOUT, &error));
    }
    for (index = 0; index < WAITING; index++) {
        CHECK(pthread_join(threads[index], NULL) == 0);
        done += waits[index].done;
        came += waits[index].cancelled;
        qg_stream_free(last[index]);
    }
    CHECK(came >= cancelled && came <= cancelled + freed);
    CHECK(done + came >= SUBMITTED - freed && done + came <= SUBMITTED);
    for (index = 0; index < SUBMITTED; index++)
        if (index % 3 != 1)
            qg_stream_free(streams[index]);
    qg_queue_free(queue);
}

int main(void) {
    qg_guard *guard = open_nano();
    pthread_t threads[THREADS];
    qg_update alone, results[THREADS];
    int index;
    shared_guard = guard;
    alone = cut(guard);
    CHECK(alone.decision == QG_DECISION_STOP);
    for (index = 0; index < THREADS; index++)
        CHECK(pthread_create(&threads[index], NULL, moderate, &results[index]) == 0);
    for (index = 0; index < THREADS; index++) {
        CHECK(pthread_join(threads[index], NULL) == 0);
        CHECK(results[index].horizon == alone.horizon && results[index].violation.byte_end == alone.violation.byte_end);
        CHECK(results[index].violation.category == alone.violation.category);
    }
    one_stream_for_two(guard);
    submit_to_waiting_threads(guard);
    qg_guard_free(guard);
    return 0;
}
