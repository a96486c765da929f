/* A plugin that is none for this ONNX Runtime: it asks for a version of the interface that is not there, and says so as plugins do.
 * tests/plugins.rs builds it. */
#include <stddef.h>
#include <stdint.h>

/* What is read of the structs of onnxruntime_c_api.h: their first fields, which never change. */
typedef struct {
    void *(*create_status)(int code, const char *message);
} api;

typedef struct {
    const api *(*get_api)(uint32_t version);
} api_base;

enum { FAIL = 1 };

void *CreateEpFactories(const char *name, const api_base *base, const void *logger, void **factories, size_t most, size_t *count) {
    (void)name, (void)logger, (void)factories, (void)most;
    *count = 0;
    if (base->get_api(9999) == NULL)
        return base->get_api(1)->create_status(FAIL, "this plugin needs version 9999 of the interface");
    return NULL;
}

void *ReleaseEpFactory(void *factory) {
    (void)factory;
    return NULL;
}
