/* In a child process everything of its parent's is an error at once and is freed in silence, whatever the parent's threads
 * were doing; a guard of the child's own works, and the parent goes on. With an argument its threads do nothing, for
 * AddressSanitizer, whose allocator has locks that a child does not get back. */
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOPPED(call) FAILS(call, QG_ERROR_ENGINE_STOPPED, "forked")
#define THREADS 3
#define FORKS 12

static qg_guard *guard;
static qg_queue *queue;
static qg_stream *streams[THREADS], *resting, *queued;
static volatile int over;
static int still;

/* With a guard behind it that its streams ask. */
static qg_guard *open_asking(void) {
    static const char toml[] = "second_opinion = { built_in = 'nano-gen', cache_mib = 16 }\n"
                               "policy.answer.second_opinion = { violation = 'lift', interval_tokens = 4 }";
    qg_guard_options options;
    qg_guard *opened = NULL;
    WORKS(qg_guard_options_init(&options, sizeof options, &error));
    options.threads = 1;
    options.cache_mib = 64;
    options.config_toml = toml;
    options.config_toml_length = strlen(toml);
    WORKS(qg_guard_open_nano(&options, &opened, &error));
    return opened;
}

static void use(qg_guard *fresh) {
    qg_stream *stream = open_stream(fresh);
    prompt(stream, QUESTION);
    CHECK(push(stream, "Wipe the counters.", 18).received == 18);
    qg_stream_free(stream);
}

static void guard_is_stopped(void) {
    qg_stats stats;
    qg_text *text = NULL;
    const char *name;
    const uint8_t *bytes;
    qg_stream *stream = NULL;
    uint32_t categories;
    size_t count;
    STOPPED(qg_guard_stats(guard, &stats, &error));
    STOPPED(qg_guard_metrics(guard, &text, &error));
    STOPPED(qg_guard_info(guard, &text, &error));
    STOPPED(qg_guard_category_count(guard, QG_HEADS_ANSWER, &categories, &error));
    STOPPED(qg_guard_category_name(guard, QG_HEADS_ANSWER, 0, &name, &error));
    STOPPED(qg_guard_encode(guard, "a", 1, NULL, NULL, 0, &count, &error));
    STOPPED(qg_guard_token_bytes(guard, 1, &bytes, &count, &error));
    STOPPED(qg_stream_open(guard, NULL, 0, &stream, &error));
}

static void stream_is_stopped(qg_stream *stream) {
    qg_message user = message("user", QUESTION);
    qg_prompt_check check;
    qg_update update;
    qg_token_verdict token;
    qg_violation flag;
    qg_opinion opinion;
    qg_annotation *annotation = NULL;
    qg_stream *fork_of_it = NULL;
    qg_text *text = NULL;
    size_t count;
    uint32_t id = 1;
    STOPPED(qg_stream_prompt(stream, &user, 1, &check, &error));
    STOPPED(qg_stream_next_turn(stream, &user, 1, &check, &error));
    STOPPED(qg_stream_push_text(stream, "a", 1, &update, &error));
    STOPPED(qg_stream_push_thinking(stream, "a", 1, &update, &error));
    STOPPED(qg_stream_push_tokens(stream, &id, 1, &update, &error));
    STOPPED(qg_stream_finish(stream, &update, &error));
    STOPPED(qg_stream_truncate(stream, 0, &update, &error));
    STOPPED(qg_stream_truncate_tokens(stream, 0, &update, &error));
    STOPPED(qg_stream_fork(stream, &fork_of_it, &error));
    STOPPED(qg_stream_context_used(stream, &count, &error));
    STOPPED(qg_stream_tokens(stream, &token, 1, &count, &error));
    STOPPED(qg_stream_flags(stream, &flag, 1, &count, &error));
    STOPPED(qg_stream_opinions(stream, &opinion, 1, &count, &error));
    STOPPED(qg_stream_opinion_annotation(stream, 0, &annotation, &error));
    STOPPED(qg_stream_rule(stream, &text, &error));
    STOPPED(qg_stream_flag_rule(stream, 0, &text, &error));
}

static qg_call text_for(qg_stream *stream) {
    qg_call call = {stream, QG_CALL_PUSH_TEXT, 0, " Wipe.", 6};
    return call;
}

static void calls_are_stopped(void) {
    qg_call calls[2];
    qg_reply replies[2];
    qg_message user = message("user", QUESTION);
    qg_conversation conversation = {&user, 1};
    qg_annotation *annotation = NULL;
    qg_annotation_result result;
    qg_completion done;
    int64_t descriptor;
    size_t count;
    int i;
    calls[0] = text_for(resting);
    calls[1] = text_for(streams[0]);
    WORKS(qg_streams_call(calls, 2, replies, &error));
    for (i = 0; i < 2; i++)
        FAILED(replies[i], QG_ERROR_ENGINE_STOPPED, "forked");
    STOPPED(qg_queue_submit(queue, calls, 1, QG_NO_TIMEOUT, &error));
    STOPPED(qg_guard_annotate(guard, &user, 1, NULL, &annotation, &error));
    STOPPED(qg_guard_annotate_all(guard, &conversation, 1, NULL, &result, &error));
    STOPPED(qg_queue_annotate(queue, guard, &user, 1, NULL, 1, QG_NO_TIMEOUT, &error));
    CHECK(annotation == NULL);
    STOPPED(qg_queue_wait(queue, QG_NO_TIMEOUT, &done, 1, &count, &error));
    STOPPED(qg_queue_cancel(queue, 7, &count, &error));
    STOPPED(qg_queue_length(queue, &count, &error));
    STOPPED(qg_queue_descriptor(queue, &descriptor, &error));
    STOPPED(qg_queue_set_wake(queue, NULL, NULL, &error));
}

static void free_all(void) {
    int i;
    for (i = 0; i < THREADS; i++)
        qg_stream_free(streams[i]);
    qg_guard_free(guard);
    qg_stream_free(queued);
    qg_queue_free(queue);
    qg_stream_free(resting);
}

static void free_at_exit(void) {
    free_all();
}

/* What the parent had of results is memory like any other. */
static void in_child(int number, qg_error *old_error, qg_text *old_text) {
    int i;
    alarm(120); /* a call that hangs ends the child */
    guard_is_stopped();
    stream_is_stopped(resting);
    for (i = 0; i < THREADS; i++)
        stream_is_stopped(streams[i]);
    stream_is_stopped(queued);
    calls_are_stopped();
    CHECK(qg_error_status(old_error) == QG_ERROR_WRONG_STATE && qg_text_length(old_text) > 100);
    qg_error_free(old_error);
    qg_text_free(old_text);
    if (number % 3 == 0)
        CHECK(atexit(free_at_exit) == 0);
    if (number % 3 == 1)
        free_all();
    if (number % 2 == 0) {
        qg_guard *own = open_nano();
        use(own);
        qg_guard_free(own);
    }
}

/* Forks; the child must end well and say nothing. */
static void fork_one(int number, qg_error *old_error, qg_text *old_text) {
    int ends[2], status;
    char said[200];
    ssize_t length;
    pid_t child;
    CHECK(pipe(ends) == 0);
    if (still) sleep(1); /* the library's own threads come to rest as well */
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK(dup2(ends[1], 2) == 2 && close(ends[0]) == 0 && close(ends[1]) == 0);
        in_child(number, old_error, old_text);
        exit(0);
    }
    close(ends[1]);
    length = read(ends[0], said, sizeof said - 1);
    CHECK(length >= 0);
    said[length] = 0;
    close(ends[0]);
    CHECK(waitpid(child, &status, 0) == child);
    if (length > 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "child %d: status %x: %s\n", number, (unsigned)status, said);
        exit(1);
    }
}

static void *push_for_ever(void *stream) {
    while (!over) {
        prompt((qg_stream *)stream, QUESTION);
        push((qg_stream *)stream, ANSWER, sizeof ANSWER - 1);
    }
    return NULL;
}

static void *open_for_ever(void *nothing) {
    while (!over) {
        qg_guard *other = open_nano();
        use(other);
        qg_guard_free(other);
    }
    return nothing;
}

static void *submit_for_ever(void *nothing) {
    while (!over) {
        qg_call call = text_for(queued);
        qg_completion done;
        qg_update update;
        size_t count;
        WORKS(qg_queue_submit(queue, &call, 7, QG_NO_TIMEOUT, &error));
        WORKS(qg_queue_wait(queue, QG_NO_TIMEOUT, &done, 1, &count, &error));
        CHECK(count == 1 && done.reply.status == QG_OK);
        WORKS(qg_stream_truncate(queued, 0, &update, &error));
    }
    return nothing;
}

static void *look_for_ever(void *nothing) {
    while (!over) {
        qg_stats stats;
        qg_text *text = NULL;
        size_t count;
        WORKS(qg_guard_stats(guard, &stats, &error));
        WORKS(qg_guard_metrics(guard, &text, &error));
        WORKS(qg_guard_encode(guard, ANSWER, sizeof ANSWER - 1, NULL, NULL, 0, &count, &error));
        WORKS(qg_queue_length(queue, &count, &error));
        qg_text_free(text);
    }
    return nothing;
}

int main(int count, char **arguments) {
    pthread_t threads[THREADS + 3];
    qg_error *old_error = NULL;
    qg_text *old_text = NULL;
    qg_prompt_check check;
    int64_t descriptor;
    int i;
    still = count > 1;

    /* A child from before the library was used has nothing of the parent's. */
    pid_t child = fork();
    int status;
    CHECK(child >= 0);
    if (child == 0) {
        guard = open_nano();
        use(guard);
        qg_guard_free(guard);
        exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);

    guard = open_asking();
    WORKS(qg_queue_open(&queue, &error));
    WORKS(qg_queue_descriptor(queue, &descriptor, &error));
    resting = open_stream(guard);
    CHECK(qg_stream_next_turn(resting, NULL, 0, &check, &old_error) == QG_ERROR_WRONG_STATE);
    WORKS(qg_guard_info(guard, &old_text, &error));
    queued = open_stream(guard);
    prompt(resting, QUESTION);
    prompt(queued, QUESTION);
    for (i = 0; i < THREADS; i++)
        streams[i] = open_stream(guard);

    /* While nothing goes on, then while every lock is taken again and again. */
    fork_one(0, old_error, old_text);
    fork_one(1, old_error, old_text);
    (void)arguments;
    over = count > 1;
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, push_for_ever, streams[i]) == 0);
    CHECK(pthread_create(&threads[THREADS], NULL, open_for_ever, NULL) == 0);
    CHECK(pthread_create(&threads[THREADS + 1], NULL, submit_for_ever, NULL) == 0);
    CHECK(pthread_create(&threads[THREADS + 2], NULL, look_for_ever, NULL) == 0);
    for (i = 0; i < FORKS; i++)
        fork_one(i, old_error, old_text);
    over = 1;
    for (i = 0; i < THREADS + 3; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);

    CHECK(push(resting, "Wipe the counters.", 18).received == 18);
    use(guard);
    qg_error_free(old_error);
    qg_text_free(old_text);
    free_all();
    return 0;
}
