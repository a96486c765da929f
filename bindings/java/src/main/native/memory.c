// What JniNative.java does with memory. No function of the library holds a Java object while it waits; only these are given one.
#include "jni_numbers.h"
#include <string.h>

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_io_github_libqwenguard_JniNative_##name

NATIVE(jlong, address)(JNIEnv *env, jobject self, jobject buffer) {
    return NUMBER((*env)->GetDirectBufferAddress(env, buffer));
}

NATIVE(void, read)(JNIEnv *env, jobject self, jlong address, jbyteArray into) {
    (*env)->SetByteArrayRegion(env, into, 0, (*env)->GetArrayLength(env, into), POINTER(address));
}

NATIVE(jlong, length)(JNIEnv *env, jobject self, jlong text) {
    return (jlong)strlen(POINTER(text));
}
