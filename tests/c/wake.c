/* Event loops: nothing waits in a function of the queue, only for its descriptor or for its callback. What is not told of is
 * waited for in vain, until the time here has passed. */
#ifdef _WIN32
#include <windows.h>
#undef FAILED
#endif
#include "check.h"
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#ifndef _WIN32
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#endif

enum { SUBMITTERS = 4, ROUNDS = 12, STREAMS = 4, PATIENCE_MS = 300000 };

static int64_t descriptor_of(const qg_queue *queue) {
    int64_t descriptor = -1, again = -2;
    WORKS(qg_queue_descriptor(queue, &descriptor, &error));
    WORKS(qg_queue_descriptor(queue, &again, &error));
    CHECK(descriptor >= 0 && descriptor == again);
    return descriptor;
}

#ifdef _WIN32
static int is_ready(int64_t descriptor, int timeout_ms) {
    DWORD seen = WaitForSingleObject((HANDLE)(intptr_t)descriptor, (DWORD)timeout_ms);
    CHECK(seen == WAIT_OBJECT_0 || seen == WAIT_TIMEOUT);
    return seen == WAIT_OBJECT_0;
}

static int is_closed(int64_t descriptor) {
    DWORD flags;
    return !GetHandleInformation((HANDLE)(intptr_t)descriptor, &flags);
}

/* An event of Windows has no edges. */
static int watch(int64_t descriptor, int edge) {
    (void)descriptor, (void)edge;
    return 0;
}

static int is_told(int watcher, int64_t descriptor) {
    (void)watcher;
    return is_ready(descriptor, PATIENCE_MS);
}

static int unwatch(int watcher) {
    return watcher;
}
#else
static int is_ready(int64_t descriptor, int timeout_ms) {
    struct pollfd poller = {0, POLLIN, 0};
    poller.fd = (int)descriptor;
    CHECK(poll(&poller, 1, timeout_ms) >= 0);
    return (poller.revents & POLLIN) != 0;
}

static int is_closed(int64_t descriptor) {
    return fcntl((int)descriptor, F_GETFD) < 0;
}

static int watch(int64_t descriptor, int edge) {
    int watcher = epoll_create1(0);
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = edge ? (uint32_t)EPOLLIN | (uint32_t)EPOLLET : (uint32_t)EPOLLIN;
    CHECK(watcher >= 0 && epoll_ctl(watcher, EPOLL_CTL_ADD, (int)descriptor, &event) == 0);
    return watcher;
}

static int is_told(int watcher, int64_t descriptor) {
    struct epoll_event event;
    (void)descriptor;
    return epoll_wait(watcher, &event, 1, PATIENCE_MS) == 1;
}

static int unwatch(int watcher) {
    return close(watcher);
}
#endif

static size_t take(const qg_queue *queue, qg_completion *completions, size_t capacity) {
    size_t count = 99;
    WORKS(qg_queue_wait(queue, 0, completions, capacity, &count, &error));
    return count;
}

static void submit(const qg_queue *queue, qg_stream *stream, uint32_t kind, const void *data, size_t length, uint64_t tag,
                   uint64_t timeout_ms) {
    qg_call call = {NULL, 0, 0, NULL, 0};
    call.stream = stream;
    call.kind = kind;
    call.data = data;
    call.length = length;
    WORKS(qg_queue_submit(queue, &call, tag, timeout_ms, &error));
}

static qg_queue *open_queue(void) {
    qg_queue *queue = NULL;
    WORKS(qg_queue_open(&queue, &error));
    return queue;
}

/* Ready from when there is something to take until it is taken. */
static void a_descriptor_is_level_triggered(const qg_guard *guard) {
    qg_queue *queue = open_queue();
    int64_t descriptor = descriptor_of(queue);
    qg_stream *streams[2];
    qg_completion done;
    size_t index;
    CHECK(!is_ready(descriptor, 0));
    CHECK(take(queue, &done, 1) == 0);
    for (index = 0; index < 2; index++) {
        streams[index] = open_stream(guard);
        /* Before its prompt: done at once, with an error. */
        submit(queue, streams[index], QG_CALL_FINISH, NULL, 0, index, QG_NO_TIMEOUT);
    }
    for (index = 0; index < 2; index++) {
        CHECK(is_ready(descriptor, 0) && is_ready(descriptor, 0));
        CHECK(take(queue, &done, 1) == 1);
        FAILED(done.reply, QG_ERROR_WRONG_STATE, "before the prompt");
    }
    CHECK(take(queue, &done, 1) == 0);
    CHECK(!is_ready(descriptor, 0));
    for (index = 0; index < 2; index++)
        qg_stream_free(streams[index]);
    qg_queue_free(queue);
    /* Closed. */
    CHECK(is_closed(descriptor));
}

/* Asked for when there is something already, and with what is cancelled and what has a deadline. */
static void what_was_there_before_is_told_of(const qg_guard *guard) {
    qg_queue *queue = open_queue();
    qg_stream *stream = open_stream(guard);
    qg_message user = message("user", QUESTION);
    qg_completion done;
    int64_t descriptor;
    int round;
    submit(queue, stream, QG_CALL_FINISH, NULL, 0, 0, QG_NO_TIMEOUT);
    descriptor = descriptor_of(queue);
    CHECK(is_ready(descriptor, 0) && take(queue, &done, 1) == 1);
    qg_error_free(done.reply.error);
    for (round = 0; round < 6; round++) {
        size_t cancelled = 0;
        submit(queue, stream, QG_CALL_PROMPT, &user, 1, 7, round < 3 ? (uint64_t)round : QG_NO_TIMEOUT);
        if (round == 4)
            WORKS(qg_queue_cancel(queue, 7, &cancelled, &error));
        do
            CHECK(is_ready(descriptor, PATIENCE_MS));
        while (take(queue, &done, 1) == 0);
        CHECK(done.reply.status == QG_OK || (round < 3 && done.reply.status == QG_ERROR_DEADLINE_EXCEEDED)
              || (round == 4 && done.reply.status == QG_ERROR_CANCELLED));
        qg_error_free(done.reply.error);
    }
    qg_stream_free(stream);
    qg_queue_free(queue);
}

/* A callback that wakes a thread, as event loops do. */
typedef struct {
    const qg_queue *queue;
    pthread_mutex_t mutex;
    pthread_cond_t rang;
    size_t calls;
    int ringing;
} bell;

static void ring(void *context) {
    bell *self = (bell *)context;
    FAILS(qg_queue_set_wake(self->queue, NULL, NULL, &error), QG_ERROR_WRONG_STATE, "from a callback");
    CHECK(pthread_mutex_lock(&self->mutex) == 0);
    self->ringing = 1;
    self->calls++;
    CHECK(pthread_cond_signal(&self->rang) == 0);
    CHECK(pthread_mutex_unlock(&self->mutex) == 0);
}

static void wait_for_ring(bell *self) {
    struct timespec until;
    CHECK(clock_gettime(CLOCK_REALTIME, &until) == 0);
    until.tv_sec += PATIENCE_MS / 1000;
    CHECK(pthread_mutex_lock(&self->mutex) == 0);
    while (!self->ringing)
        CHECK(pthread_cond_timedwait(&self->rang, &self->mutex, &until) == 0);
    self->ringing = 0;
    CHECK(pthread_mutex_unlock(&self->mutex) == 0);
}

static bell *new_bell(const qg_queue *queue) {
    bell *made = (bell *)calloc(1, sizeof *made);
    CHECK(made != NULL && pthread_mutex_init(&made->mutex, NULL) == 0 && pthread_cond_init(&made->rang, NULL) == 0);
    made->queue = queue;
    return made;
}

static void free_bell(bell *old) {
    CHECK(pthread_cond_destroy(&old->rang) == 0 && pthread_mutex_destroy(&old->mutex) == 0);
    free(old);
}

static void a_callback_is_called_when_something_comes(const qg_guard *guard) {
    qg_queue *queue = open_queue();
    bell *first = new_bell(queue), *second = new_bell(queue);
    qg_stream *stream = open_stream(guard);
    qg_completion done;
    int64_t descriptor;
    WORKS(qg_queue_set_wake(queue, NULL, NULL, &error));
    WORKS(qg_queue_set_wake(queue, ring, first, &error));
    CHECK(first->calls == 0);
    submit(queue, stream, QG_CALL_FINISH, NULL, 0, 0, QG_NO_TIMEOUT);
    CHECK(first->calls == 1);
    /* What is there is told to the next one, too. The first may be freed. */
    WORKS(qg_queue_set_wake(queue, ring, second, &error));
    CHECK(first->calls == 1 && second->calls == 1);
    free_bell(first);
    descriptor = descriptor_of(queue);
    CHECK(is_ready(descriptor, 0));
    CHECK(take(queue, &done, 1) == 1 && take(queue, &done, 1) == 0);
    qg_error_free(done.reply.error);
    CHECK(!is_ready(descriptor, 0));
    submit(queue, stream, QG_CALL_FINISH, NULL, 0, 0, QG_NO_TIMEOUT);
    CHECK(second->calls >= 2 && is_ready(descriptor, 0));
    WORKS(qg_queue_set_wake(queue, NULL, NULL, &error));
    free_bell(second);
    CHECK(take(queue, &done, 1) == 1);
    qg_error_free(done.reply.error);
    submit(queue, stream, QG_CALL_FINISH, NULL, 0, 0, QG_NO_TIMEOUT);
    qg_queue_free(queue);
    qg_stream_free(stream);
}

/* A queue that is freed in the middle of calls tells nobody afterwards. */
static void nobody_is_told_after_the_end(const qg_guard *guard) {
    int round;
    for (round = 0; round < 20; round++) {
        qg_queue *queue = open_queue();
        bell *own = new_bell(queue);
        qg_stream *stream = open_stream(guard);
        qg_message user = message("user", QUESTION);
        WORKS(qg_queue_set_wake(queue, ring, own, &error));
        if (round % 2 == 0)
            descriptor_of(queue);
        submit(queue, stream, QG_CALL_PROMPT, &user, 1, 0, round % 3 == 0 ? 1 : QG_NO_TIMEOUT);
        qg_queue_free(queue);
        free_bell(own);
        qg_stream_free(stream);
    }
}

typedef struct {
    const qg_guard *guard;
    const qg_queue *queue;
    size_t number;
    qg_stream *streams[STREAMS];
} submitter;

/* Submits to streams that the loop takes back: it goes on where a stream is still in use. */
static void *submit_many(void *data) {
    submitter *self = (submitter *)data;
    size_t round, index;
    for (round = 0; round < ROUNDS; round++) {
        for (index = 0; index < STREAMS; index++) {
            qg_call call = {NULL, QG_CALL_PUSH_TEXT, 0, ANSWER, 40};
            qg_status status;
            uint64_t timeout = (round + index) % 4 == 0 ? (uint64_t)(index % 3) : QG_NO_TIMEOUT;
            call.stream = self->streams[index];
            do
                status = qg_queue_submit(self->queue, &call, self->number, timeout, NULL);
            while (status == QG_ERROR_IN_USE && usleep(100) == 0);
            CHECK(status == QG_OK);
        }
        if (round % 3 == 1) {
            size_t cancelled;
            WORKS(qg_queue_cancel(self->queue, self->number, &cancelled, &error));
        }
    }
    return NULL;
}

static size_t drain(const qg_queue *queue, size_t capacity) {
    qg_completion done[8];
    size_t all = 0, count, index;
    do {
        count = take(queue, done, capacity);
        all += count;
        for (index = 0; index < count; index++) {
            qg_status status = done[index].reply.status;
            CHECK(status == QG_OK || status == QG_ERROR_DEADLINE_EXCEEDED || status == QG_ERROR_CANCELLED);
            qg_error_free(done[index].reply.error);
        }
    } while (count == capacity);
    return all;
}

typedef enum { POLL, EDGE, WAKE } how;

/* Many threads submit, with deadlines and cancelled calls; one thread takes what it is told of. */
static void many_threads(const qg_guard *guard, how told, size_t capacity) {
    qg_queue *queue = open_queue();
    pthread_t threads[SUBMITTERS];
    submitter submitters[SUBMITTERS];
    bell *own = new_bell(queue);
    int64_t descriptor = -1;
    int watcher = 0;
    size_t index, stream, done = 0;
    if (told == WAKE) {
        WORKS(qg_queue_set_wake(queue, ring, own, &error));
    } else {
        descriptor = descriptor_of(queue);
        watcher = watch(descriptor, told == EDGE);
    }
    for (index = 0; index < SUBMITTERS; index++) {
        submitters[index].guard = guard;
        submitters[index].queue = queue;
        submitters[index].number = index;
        for (stream = 0; stream < STREAMS; stream++) {
            submitters[index].streams[stream] = open_stream(guard);
            prompt(submitters[index].streams[stream], QUESTION);
        }
        CHECK(pthread_create(&threads[index], NULL, submit_many, &submitters[index]) == 0);
    }
    while (done < SUBMITTERS * ROUNDS * STREAMS) {
        if (told == WAKE)
            wait_for_ring(own);
        else
            CHECK(is_told(watcher, descriptor));
        /* Level-triggered: some of what is there is enough. */
        if (told == POLL) {
            qg_completion one;
            size_t count = take(queue, &one, 1);
            done += count;
            if (count > 0)
                qg_error_free(one.reply.error);
        } else {
            done += drain(queue, capacity);
        }
    }
    for (index = 0; index < SUBMITTERS; index++) {
        CHECK(pthread_join(threads[index], NULL) == 0);
        for (stream = 0; stream < STREAMS; stream++)
            qg_stream_free(submitters[index].streams[stream]);
    }
    CHECK(drain(queue, 8) == 0);
    CHECK(told == WAKE || !is_ready(descriptor, 0));
    CHECK(told == WAKE || unwatch(watcher) == 0);
    qg_queue_free(queue);
    free_bell(own);
}

static void arguments(void) {
    qg_queue *queue = open_queue();
    int64_t descriptor;
    FAILS(qg_queue_descriptor(NULL, &descriptor, &error), QG_ERROR_NULL, "argument queue");
    FAILS(qg_queue_descriptor(queue, NULL, &error), QG_ERROR_NULL, "argument descriptor");
    FAILS(qg_queue_set_wake(NULL, ring, NULL, &error), QG_ERROR_NULL, "argument queue");
    WORKS(qg_queue_set_wake(queue, NULL, NULL, &error));
    qg_queue_free(queue);
}

int main(void) {
    qg_guard *guard = open_nano();
    arguments();
    a_descriptor_is_level_triggered(guard);
    what_was_there_before_is_told_of(guard);
    a_callback_is_called_when_something_comes(guard);
    nobody_is_told_after_the_end(guard);
    many_threads(guard, POLL, 1);
    many_threads(guard, EDGE, 8);
    many_threads(guard, WAKE, 8);
    many_threads(guard, WAKE, 1);
    qg_guard_free(guard);
    return 0;
}
