/* Vulkan's loader with faults: it passes all calls on to the real one, which QWENGUARD_TEST_VULKAN names. While there is a file
 * `lost` in the folder QWENGUARD_TEST_FAULTS, the device is lost whenever work is given to it; while there is a file `memory`, it has
 * no memory left for what is larger than the bytes that the file says. tests/faults.rs builds this as libvulkan.so.1 and uses it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ERROR_OUT_OF_DEVICE_MEMORY = -2, ERROR_DEVICE_LOST = -4 };

typedef void (*function)(void);
typedef function (*lookup)(void *, const char *);
typedef int32_t (*queue_submit)(void *, uint32_t, const void *, uint64_t);
typedef int32_t (*allocate_memory)(void *, const void *, const void *, uint64_t *);

/* What of VkMemoryAllocateInfo is read. */
typedef struct {
    int32_t type;
    const void *next;
    uint64_t size;
} allocate_info;

static lookup device_lookup;
static queue_submit real_submit;
static allocate_memory real_allocate;

/* The number in a file of the folder of faults, 0 if it has none; -1 without such a file. */
static double fault(const char *name) {
    const char *folder = getenv("QWENGUARD_TEST_FAULTS");
    char path[4096];
    double number = 0;
    FILE *file;
    if (folder == NULL || snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return -1;
    file = fopen(path, "r");
    if (file == NULL)
        return -1;
    if (fscanf(file, "%lf", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

static int32_t faulty_submit(void *queue, uint32_t count, const void *submits, uint64_t fence) {
    return fault("lost") >= 0 ? ERROR_DEVICE_LOST : real_submit(queue, count, submits, fence);
}

static int32_t faulty_allocate(void *device, const void *info, const void *allocator, uint64_t *memory) {
    double most = fault("memory");
    if (most >= 0 && (double)((const allocate_info *)info)->size > most)
        return ERROR_OUT_OF_DEVICE_MEMORY;
    return real_allocate(device, info, allocator, memory);
}

/* The function of this name, with a fault if it can have one. */
static function faulty(const char *name, function real) {
    if (real != NULL && strcmp(name, "vkQueueSubmit") == 0) {
        real_submit = (queue_submit)real;
        return (function)faulty_submit;
    }
    if (real != NULL && strcmp(name, "vkAllocateMemory") == 0) {
        real_allocate = (allocate_memory)real;
        return (function)faulty_allocate;
    }
    return real;
}

static function faulty_device_lookup(void *device, const char *name) {
    return faulty(name, device_lookup(device, name));
}

function vkGetInstanceProcAddr(void *instance, const char *name) {
    static lookup real;
    function found;
    if (real == NULL) {
        const char *path = getenv("QWENGUARD_TEST_VULKAN");
        void *library = path == NULL ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            fprintf(stderr, "QWENGUARD_TEST_VULKAN is no library: %s\n", path == NULL ? "not set" : dlerror());
            abort();
        }
        *(void **)&real = dlsym(library, "vkGetInstanceProcAddr");
    }
    found = real(instance, name);
    if (found != NULL && strcmp(name, "vkGetDeviceProcAddr") == 0) {
        device_lookup = (lookup)found;
        return (function)faulty_device_lookup;
    }
    return faulty(name, found);
}
