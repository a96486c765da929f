// Pointers and lengths as Java has them: jlong, of memory outside of its heap.
#include <jni.h>
#include <qwenguard.h>
#include <stdint.h>

#define POINTER(number) ((void *)(intptr_t)(number))
#define NUMBER(pointer) ((jlong)(intptr_t)(pointer))

_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8, "Layout.java is for 64 bits");
