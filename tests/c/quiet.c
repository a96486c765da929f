/* Uses the library for some seconds. `quiet SECONDS`; with a second argument it also does what it must not: it makes a socket
 * and a file, so that the test sees that it would see them. */
#include "check.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **arguments) {
    qg_guard *guard = open_nano();
    qg_stream *stream = open_stream(guard);
    int left = atoi(arguments[1]);
    prompt(stream, QUESTION);
    for (; left > 0; left--) {
        push(stream, " Wipe the counters.", 19);
        sleep(1);
    }
    if (count > 2) {
        CHECK(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
        CHECK(open(arguments[2], O_WRONLY | O_CREAT, 0600) >= 0);
    }
    qg_stream_free(stream);
    qg_guard_free(guard);
    return 0;
}
