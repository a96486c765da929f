/* Opens and closes the library, whose path is the argument, again and again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qwenguard.h>

#ifdef _WIN32
#include <windows.h>
typedef HMODULE module;
typedef FARPROC symbol;
#define OPEN(path) LoadLibraryA(path)
#define SYMBOL(library, name) GetProcAddress(library, name)
#define CLOSES(library) (FreeLibrary(library) != 0)
#define IS_OPEN(path) (GetModuleHandleA("qwenguard.dll") != NULL)
#define REASON "LoadLibrary failed"
#else
#include <dlfcn.h>
typedef void *module;
typedef void *symbol;
#define OPEN(path) dlopen(path, RTLD_NOW | RTLD_LOCAL)
#define SYMBOL(library, name) dlsym(library, name)
#define CLOSES(library) (dlclose(library) == 0)
#define IS_OPEN(path) (dlopen(path, RTLD_NOW | RTLD_NOLOAD) != NULL)
#define REASON dlerror()
#endif

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);     \
            exit(1);                                                            \
        }                                                                       \
    } while (0)

/* ISO C does not say that what was found can be called with its own type, so it is copied. */
#define FIND(type, name)                                                        \
    type name##_;                                                               \
    do {                                                                        \
        symbol found = SYMBOL(library, #name);                                  \
        CHECK(found != NULL);                                                   \
        memcpy(&name##_, &found, sizeof found);                                 \
    } while (0)

typedef uint32_t (*abi_version)(void);
typedef qg_status (*guard_open_nano)(const qg_guard_options *, qg_guard **, qg_error **);
typedef void (*guard_free)(qg_guard *);
typedef qg_status (*stream_open)(const qg_guard *, const char *, size_t, qg_stream **, qg_error **);
typedef qg_status (*stream_prompt)(qg_stream *, const qg_message *, size_t, qg_prompt_check *, qg_error **);
typedef void (*stream_free)(qg_stream *);

static module open_library(const char *path) {
    module library = OPEN(path);
    if (library == NULL)
        fprintf(stderr, "%s: %s\n", path, REASON);
    CHECK(library != NULL);
    return library;
}

int main(int count, char **arguments) {
    int round;
    CHECK(count == 2);
    for (round = 0; round < 3; round++) {
        module library = open_library(arguments[1]);
        FIND(abi_version, qg_abi_version);
        CHECK(qg_abi_version_() == QG_ABI_VERSION);
        CHECK(CLOSES(library));
    }
    for (round = 0; round < 10; round++) {
        module library = open_library(arguments[1]);
        qg_guard_options options;
        qg_guard *guard = NULL;
        qg_stream *stream = NULL;
        qg_message user = {"user", 4, "Hello", 5};
        qg_prompt_check check;
        FIND(guard_open_nano, qg_guard_open_nano);
        FIND(guard_free, qg_guard_free);
        FIND(stream_open, qg_stream_open);
        FIND(stream_prompt, qg_stream_prompt);
        FIND(stream_free, qg_stream_free);
        memset(&options, 0, sizeof options);
        options.struct_size = sizeof options;
        options.threads = 1;
        options.cache_mib = 16;
        CHECK(qg_guard_open_nano_(&options, &guard, NULL) == QG_OK);
        CHECK(qg_stream_open_(guard, NULL, 0, &stream, NULL) == QG_OK);
        CHECK(qg_stream_prompt_(stream, &user, 1, &check, NULL) == QG_OK);
        qg_guard_free_(guard);
        qg_stream_free_(stream);
        CHECK(CLOSES(library));
    }
    /* It stayed, as the header says. */
    CHECK(IS_OPEN(arguments[1]));
    return 0;
}
