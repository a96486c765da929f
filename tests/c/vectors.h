/* What the programs that run tests/vectors share. */
#ifndef VECTORS_H
#define VECTORS_H

#include "json.h"

/* Where in the file we are. */
static char place[200];

static inline void differs(const char *what, const char *wanted) {
    fprintf(stderr, "%s: %s is not ", place, what);
    if (wanted != NULL)
        fwrite(wanted, 1, (size_t)(past(wanted) - wanted), stderr);
    fprintf(stderr, "%s\n", wanted == NULL ? "null" : "");
    exit(1);
}

static inline void same_number(const char *object, const char *name, uint64_t found) {
    const char *wanted = field(object, name);
    if (wanted == NULL || whole(wanted) != found)
        differs(name, wanted);
}

/* NULL is null. */
static inline void same_text(const char *object, const char *name, const char *found) {
    const char *wanted = field(object, name);
    if (wanted == NULL ? found != NULL : found == NULL || !is(wanted, found))
        differs(name, wanted);
}

/* The provider to run on instead of the CPU, or NULL: see tests/vectors/README.md. */
static inline const char *provider(void) {
    const char *name = getenv("QWENGUARD_TEST_PROVIDER");
    return name != NULL && *name != '\0' ? name : NULL;
}

static inline void near(const char *what, const char *wanted, float found) {
    double difference = strtod(wanted, NULL) - found, tolerance = provider() != NULL ? 2e-2 : 1e-3;
    if (!(difference < tolerance && difference > -tolerance))
        differs(what, wanted);
}

/* Whether a call worked, as it should; its error is freed. */
static inline int worked(qg_status status, qg_error *error, const char *expect) {
    const char *wanted = field(expect, "error");
    CHECK(qg_error_status(error) == status);
    if (status == QG_OK) {
        if (wanted != NULL)
            differs("success", wanted);
        return 1;
    }
    if (wanted == NULL)
        differs(qg_error_message(error), expect);
    same_text(wanted, "status", qg_status_name(status));
    same_text(wanted, "message", qg_error_message(error));
    qg_error_free(error);
    return 0;
}

static inline int is_zero(const void *data, size_t size) {
    const char *byte = (const char *)data, *end = byte + size;
    while (byte < end && *byte == 0)
        byte++;
    return byte == end;
}

static inline const char *decision(int32_t value) {
    return value == QG_DECISION_STOP ? "stop" : value == QG_DECISION_CONTINUE ? "continue" : "?";
}

static inline const char *action(int32_t value) {
    return value == QG_ACTION_STOP ? "stop" : value == QG_ACTION_FLAG ? "flag" : "?";
}

static inline qg_message *read_messages(const char *list) {
    qg_message *messages = (qg_message *)calloc(count(list) + 1, sizeof *messages), *message = messages;
    for (list = first(list); list != NULL; list = next(list), message++) {
        text role = text_of(field(list, "role")), content = text_of(field(list, "content"));
        message->role = role.data;
        message->role_length = role.length;
        message->content = content.data;
        message->content_length = content.length;
    }
    return messages;
}

static inline void free_messages(const qg_message *messages, size_t length) {
    size_t index;
    for (index = 0; index < length; index++) {
        free((void *)messages[index].role);
        free((void *)messages[index].content);
    }
    free((void *)messages);
}

static inline char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    char *document;
    long size;
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
    size = ftell(file);
    CHECK(size > 0);
    rewind(file);
    document = (char *)malloc((size_t)size + 1);
    CHECK(fread(document, 1, (size_t)size, file) == (size_t)size);
    document[size] = '\0';
    fclose(file);
    return document;
}

#endif
