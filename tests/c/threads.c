/* Eight threads on one guard, and two threads on one stream. */
#include "check.h"
#include <pthread.h>

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
    qg_guard_free(guard);
    return 0;
}
