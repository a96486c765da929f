/* The log: a callback from many threads, logs that keep messages, and how each ends. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif

typedef struct {
    pthread_mutex_t mutex;
    size_t lines, opened, kernels;
    uint32_t gravest, mildest;
} seen;

static int ended;

static void see(void *context, uint32_t level, const char *target, const char *message) {
    seen *self = (seen *)context;
    CHECK(!ended && level >= QG_LOG_ERROR && level <= QG_LOG_TRACE);
    CHECK(target != NULL && message != NULL);
    /* What only tells something may be called. */
    CHECK(strcmp(qg_status_name(QG_OK), "QG_OK") == 0);
    FAILS(qg_log_set(NULL, NULL, QG_LOG_OFF, &error), QG_ERROR_WRONG_STATE, "from the callback");
    CHECK(pthread_mutex_lock(&self->mutex) == 0);
    self->lines++;
    if (self->gravest == 0 || level < self->gravest)
        self->gravest = level;
    if (level > self->mildest)
        self->mildest = level;
    self->opened += strstr(message, "loaded ONNX Runtime") != NULL && strncmp(target, "qwenguard", 9) == 0;
    self->kernels += strstr(message, "kernels on the CPU isa=") != NULL;
    CHECK(pthread_mutex_unlock(&self->mutex) == 0);
}

static void *open_and_use(void *unused) {
    qg_guard *guard = open_nano();
    qg_stream *stream = open_stream(guard);
    (void)unused;
    prompt(stream, QUESTION);
    push(stream, ANSWER, 100);
    qg_stream_free(stream);
    qg_guard_free(guard);
    return NULL;
}

/* Guards are opened by threads while the function is changed, and taken away. */
static void many_threads(seen *self) {
    pthread_t threads[4];
    int index, round;
    for (index = 0; index < 4; index++)
        CHECK(pthread_create(&threads[index], NULL, open_and_use, NULL) == 0);
    for (round = 0; round < 200; round++) {
        WORKS(qg_log_set(see, self, round % 2 == 0 ? QG_LOG_TRACE : QG_LOG_WARNING, &error));
        sched_yield();
        WORKS(qg_log_set(NULL, NULL, QG_LOG_OFF, &error));
    }
    WORKS(qg_log_set(see, self, QG_LOG_TRACE, &error));
    for (index = 0; index < 4; index++)
        CHECK(pthread_join(threads[index], NULL) == 0);
}

typedef struct {
    const qg_log *log;
    size_t lines, kernels;
} reader;

static void *read_all(void *data) {
    reader *self = (reader *)data;
    for (;;) {
        uint32_t level = 77;
        uint64_t lost = 77;
        qg_text *target = NULL, *message = NULL;
        qg_status status = qg_log_wait(self->log, QG_NO_TIMEOUT, &level, &target, &message, &lost, NULL);
        if (status == QG_ERROR_WRONG_STATE)
            return NULL;
        CHECK(status == QG_OK && level >= QG_LOG_ERROR && level <= QG_LOG_INFO && lost == 0);
        CHECK(qg_text_length(target) > 0);
        self->lines++;
        self->kernels += strstr(qg_text_data(message), "kernels on the CPU") != NULL;
        qg_text_free(target);
        qg_text_free(message);
    }
}

static void a_log_is_read_by_a_thread(void) {
    qg_log *log = NULL, *other = NULL;
    reader own = {NULL, 0, 0};
    pthread_t thread;
    uint32_t level = 77;
    uint64_t lost = 77;
    qg_text *target = (qg_text *)&lost, *message = (qg_text *)&lost;
    WORKS(qg_log_open(QG_LOG_INFO, &log, &error));
    WORKS(qg_log_open(QG_LOG_OFF, &other, &error));
    own.log = log;
    CHECK(pthread_create(&thread, NULL, read_all, &own) == 0);
    open_and_use(NULL);
    WORKS(qg_log_end(log, &error));
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(own.kernels == 1);
    WORKS(qg_log_wait(other, 0, &level, &target, &message, &lost, &error));
    CHECK(level == QG_LOG_OFF && target == NULL && message == NULL && lost == 0);
    qg_log_free(other);
    open_and_use(NULL);
    FAILS(qg_log_wait(log, 0, &level, &target, &message, &lost, &error), QG_ERROR_WRONG_STATE, "after the end");
    qg_log_free(log);
}

#ifndef _WIN32
/* A child has neither the function nor the logs of its parent, and may have its own. */
static void a_forked_process(seen *self) {
    qg_log *log = NULL;
    pid_t child;
    int status;
    WORKS(qg_log_open(QG_LOG_TRACE, &log, &error));
    WORKS(qg_log_set(see, self, QG_LOG_TRACE, &error));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        seen own;
        memset(&own, 0, sizeof own);
        CHECK(pthread_mutex_init(&own.mutex, NULL) == 0);
        ended = 1;
        FAILS(qg_log_end(log, &error), QG_ERROR_ENGINE_STOPPED, "forked");
        qg_log_free(log);
        qg_guard_free(open_nano());
        ended = 0;
        WORKS(qg_log_set(see, &own, QG_LOG_INFO, &error));
        qg_guard_free(open_nano());
        CHECK(own.kernels == 1);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    WORKS(qg_log_set(NULL, NULL, QG_LOG_OFF, &error));
    qg_log_free(log);
}
#endif

static void arguments(void) {
    qg_log *log = NULL;
    uint32_t level;
    uint64_t lost;
    qg_text *text = NULL;
    FAILS(qg_log_set(see, NULL, 6, &error), QG_ERROR_ENUM, "argument level: 6");
    FAILS(qg_log_open(6, &log, &error), QG_ERROR_ENUM, "argument level");
    FAILS(qg_log_open(QG_LOG_INFO, NULL, &error), QG_ERROR_NULL, "argument log");
    FAILS(qg_log_end(NULL, &error), QG_ERROR_NULL, "argument log");
    FAILS(qg_log_wait(NULL, 0, &level, &text, &text, &lost, &error), QG_ERROR_NULL, "argument log");
    WORKS(qg_log_open(QG_LOG_INFO, &log, &error));
    FAILS(qg_log_wait(log, 0, NULL, &text, &text, &lost, &error), QG_ERROR_NULL, "argument level");
    FAILS(qg_log_wait(log, 0, &level, NULL, &text, &lost, &error), QG_ERROR_NULL, "argument target");
    FAILS(qg_log_wait(log, 0, &level, &text, NULL, &lost, &error), QG_ERROR_NULL, "argument message");
    FAILS(qg_log_wait(log, 0, &level, &text, &text, NULL, &error), QG_ERROR_NULL, "argument lost");
    qg_log_free(log);
    qg_log_free(NULL);
}

int main(void) {
    seen all;
    memset(&all, 0, sizeof all);
    CHECK(pthread_mutex_init(&all.mutex, NULL) == 0);
    WORKS(qg_log_set(NULL, NULL, QG_LOG_OFF, &error));
    WORKS(qg_log_set(see, &all, QG_LOG_INFO, &error));
    open_and_use(NULL);
    CHECK(all.opened == 1 && all.kernels == 1 && all.mildest == QG_LOG_INFO);
    many_threads(&all);
    /* ONNX Runtime's own words, and the engine's. */
    CHECK(all.mildest >= QG_LOG_DEBUG);
    WORKS(qg_log_set(see, &all, QG_LOG_OFF, &error));
    ended = 1;
    open_and_use(NULL);
    ended = 0;
    a_log_is_read_by_a_thread();
    arguments();
#ifndef _WIN32
    a_forked_process(&all);
#endif
    CHECK(pthread_mutex_destroy(&all.mutex) == 0);
    return 0;
}
