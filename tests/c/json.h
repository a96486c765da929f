/*
 * As much of a JSON reader as the vectors need: a value is the place where it begins, and all is read from there. It believes
 * that the document is well-formed and ends with a NUL.
 */
#ifndef JSON_H
#define JSON_H

#include "check.h"

typedef struct {
    char *data;
    size_t length;
} text;

static inline const char *past_space(const char *at) {
    return at + strspn(at, " \n\t\r");
}

static inline const char *past_text(const char *at) {
    CHECK(*at == '"');
    for (at++; *at != '"'; at++) {
        at += *at == '\\';
        CHECK(*at != '\0');
    }
    return at + 1;
}

static inline const char *past(const char *value) {
    int depth = 0;
    do {
        value = past_space(value);
        if (*value == '"') {
            value = past_text(value);
        } else if (strchr("[{", *value) != NULL) {
            CHECK(*value != '\0');
            depth++, value++;
        } else if (strchr("]}", *value) != NULL) {
            depth--, value++;
        } else {
            value += strchr(",:", *value) != NULL ? 1 : strcspn(value, ",:]} \n\t\r");
        }
    } while (depth > 0);
    return value;
}

/* The first value in a list, or NULL. */
static inline const char *first(const char *list) {
    CHECK(*list == '[');
    list = past_space(list + 1);
    return *list == ']' ? NULL : list;
}

/* The value after one in a list, or NULL. */
static inline const char *next(const char *value) {
    value = past_space(past(value));
    return *value == ',' ? past_space(value + 1) : NULL;
}

static inline size_t count(const char *list) {
    size_t values = 0;
    for (list = first(list); list != NULL; list = next(list))
        values++;
    return values;
}

/* A field of an object; NULL if it is not there or null. */
static inline const char *field(const char *object, const char *name) {
    size_t length = strlen(name);
    CHECK(*object == '{');
    for (object = past_space(object + 1); *object == '"'; object = past_space(object)) {
        const char *value = past_space(past_text(object));
        CHECK(*value == ':');
        value = past_space(value + 1);
        if (strncmp(object + 1, name, length) == 0 && object[1 + length] == '"')
            return *value == 'n' ? NULL : value;
        object = past_space(past(value));
        object += *object == ',';
    }
    return NULL;
}

static inline uint64_t whole(const char *value) {
    char *end;
    uint64_t number = strtoull(value, &end, 10);
    CHECK(end > value && *end != '.');
    return number;
}

/* A text without its escapes, which is the caller's to free. It ends with a NUL. */
static inline text text_of(const char *value) {
    const char *end = past_text(value) - 1;
    text made = {(char *)malloc((size_t)(end - value)), 0};
    for (value++; value < end; value++) {
        if (*value != '\\') {
            made.data[made.length++] = *value;
            continue;
        }
        value++;
        CHECK(*value != 'u');
        made.data[made.length++] = *value == 'n' ? '\n' : *value == 't' ? '\t' : *value == 'r' ? '\r' : *value;
    }
    made.data[made.length] = '\0';
    return made;
}

static inline int is(const char *value, const char *wanted) {
    text found = text_of(value);
    int same = found.length == strlen(wanted) && memcmp(found.data, wanted, found.length) == 0;
    free(found.data);
    return same;
}

#endif
