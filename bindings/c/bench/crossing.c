/* An empty push and a push of one token, through the C functions: see benches/crossing.py. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <qwenguard.h>

enum { CALLS = 10000, BATCHES = 20, WARM_UP = 500, PUSHES = 2000 };

static double now(void) {
    struct timespec time;
    timespec_get(&time, TIME_UTC);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void check(qg_status status) {
    if (status != QG_OK) {
        fprintf(stderr, "%s\n", qg_status_name(status));
        exit(1);
    }
}

static int ascending(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, ascending);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static double empty_pushes(qg_stream *stream) {
    qg_update update;
    double begin = now();
    for (int call = 0; call < CALLS; call++)
        check(qg_stream_push_text(stream, "", 0, &update, NULL));
    return (now() - begin) / CALLS;
}

static double token_push(qg_stream *stream, uint32_t token) {
    qg_update update;
    double begin = now();
    check(qg_stream_push_tokens(stream, &token, 1, &update, NULL));
    return now() - begin;
}

int main(void) {
    static double batches[BATCHES], pushes[WARM_UP + PUSHES];
    const qg_message user = {"user", 4, "How do I bake bread?", 20};
    qg_guard_options options;
    qg_guard *guard = NULL;
    qg_stream *stream = NULL;
    qg_prompt_check prompt;
    qg_update update;
    uint32_t token = 0;
    size_t count = 0;
    check(qg_guard_options_init(&options, sizeof options, NULL));
    options.threads = 1;
    options.cache_mib = 64;
    check(qg_guard_open_nano(&options, &guard, NULL));
    check(qg_guard_encode(guard, " bread", 6, &token, NULL, 1, &count, NULL));
    check(qg_stream_open(guard, NULL, 0, &stream, NULL));
    check(qg_stream_prompt(stream, &user, 1, &prompt, NULL));

    empty_pushes(stream);
    for (int batch = 0; batch < BATCHES; batch++)
        batches[batch] = empty_pushes(stream);
    for (int push = 0; push < WARM_UP + PUSHES; push++) {
        if (push % 64 == 0)
            check(qg_stream_truncate(stream, 0, &update, NULL));
        pushes[push] = token_push(stream, token);
    }
    printf("{\"language\":\"c\",\"empty_push_ns\":%.1f,\"token_push_us\":%.2f}\n", median(batches, BATCHES),
           median(pushes + WARM_UP, PUSHES) / 1e3);
    qg_stream_free(stream);
    qg_guard_free(guard);
    return 0;
}
