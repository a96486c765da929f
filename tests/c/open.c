/* Says whether a guard can be opened, or why not. */
#include "check.h"

int main(void) {
    qg_guard *guard = NULL;
    qg_error *error = NULL;
    if (qg_guard_open_nano(NULL, &guard, &error) == QG_OK)
        puts("opened");
    else
        printf("%d %s\n", (int)qg_error_status(error), qg_error_message(error));
    qg_error_free(error);
    qg_guard_free(guard);
    return 0;
}
