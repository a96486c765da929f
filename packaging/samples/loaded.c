/* A host that may have loaded ONNX Runtime, from the path that it is given, before it opens a guard. Says which are mapped then. */
#include <dlfcn.h>
#include <qwenguard.h>
#include <stdio.h>
#include <string.h>

int main(int count, char **arguments) {
    qg_guard *guard = NULL;
    qg_error *error = NULL;
    char line[4096], last[4096] = "";
    FILE *maps;
    if (count > 1 && !dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL)) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    if (qg_guard_open_nano(NULL, &guard, &error)) {
        fprintf(stderr, "%s\n", qg_error_message(error));
        return 1;
    }
    maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        const char *path = strchr(line, '/');
        if (path && strstr(path, "/libonnxruntime.") && strcmp(path, last)) {
            printf("mapped: %s", path);
            strcpy(last, path);
        }
    }
    qg_guard_free(guard);
    return 0;
}
