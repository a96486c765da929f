/* A library that says it is ONNX Runtime of the version VERSION. */
#ifdef VERSION
static const void *interfaces[1];

static const void *get_api(unsigned version) {
    return version ? interfaces : 0;
}

static const char *get_version(void) {
    return VERSION;
}

/* As a build that reports names it. */
const char *const fake_names = MARK;

static const struct {
    const void *(*get_api)(unsigned);
    const char *(*get_version)(void);
} base = {get_api, get_version};

const void *OrtGetApiBase(void) {
    return &base;
}
#elif defined(MISSING)
int not_there(void);

int OrtGetApiBase(void) {
    return not_there();
}
#else
int not_there(void) {
    return 1;
}
#endif
