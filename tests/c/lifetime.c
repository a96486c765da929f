/* Handles are freed in any order, and guards do not know of each other. */
#include "check.h"

static void use(qg_stream *stream) {
    qg_update update = push(stream, "Wipe the counters.", 18);
    CHECK(update.received == 18);
}

int main(void) {
    qg_guard *first = open_nano(), *second = open_nano();
    qg_stream *stream, *fork = NULL, *other;
    qg_text *json = NULL;
    qg_error *error = NULL;
    qg_update update;

    /* The guard before its stream, the stream before its fork, the error and the text after all. */
    stream = open_stream(first);
    prompt(stream, QUESTION);
    WORKS(qg_stream_fork(stream, &fork, &error));
    WORKS(qg_guard_info(first, &json, &error));
    CHECK(qg_stream_truncate(stream, 5, &update, &error) == QG_ERROR_ARGUMENT);
    qg_guard_free(first);
    use(stream);
    qg_stream_free(stream);
    use(fork);
    qg_stream_free(fork);
    CHECK(qg_text_length(json) > 100 && strlen(qg_error_message(error)) > 5);
    qg_text_free(json);
    qg_error_free(error);

    /* The other guard goes on; its stream is freed without a prompt, one in the middle of an answer. */
    stream = open_stream(second);
    other = open_stream(second);
    prompt(stream, QUESTION);
    use(stream);
    qg_stream_free(other);
    qg_stream_free(stream);
    qg_guard_free(second);

    /* A stream is the last that is left of a guard. */
    first = open_nano();
    stream = open_stream(first);
    qg_guard_free(first);
    prompt(stream, QUESTION);
    use(stream);
    qg_stream_free(stream);
    return 0;
}
