"""A server in Python that uses the C library by ctypes and forks: `fork.py LIBRARY`. Children of multiprocessing and of
os.fork get an error at once from what their parent opened, and may open a guard of their own; the parent goes on."""

import ctypes
import multiprocessing
import os
import sys
import threading

STOPPED = 15
library = ctypes.CDLL(sys.argv[1])
library.qg_error_message.restype = ctypes.c_char_p


class Message(ctypes.Structure):
    _fields_ = [("role", ctypes.c_char_p), ("role_length", ctypes.c_size_t),
                ("content", ctypes.c_char_p), ("content_length", ctypes.c_size_t)]


def call(function, *arguments, status=0):
    error = ctypes.c_void_p()
    found = getattr(library, function)(*arguments, ctypes.byref(error))
    assert found == status, (function, found, library.qg_error_message(error))
    library.qg_error_free(error)


def open_guard():
    guard = ctypes.c_void_p()
    call("qg_guard_open_nano", None, ctypes.byref(guard))
    return guard


def open_stream(guard, status=0):
    stream = ctypes.c_void_p()
    call("qg_stream_open", guard, None, ctypes.c_size_t(0), ctypes.byref(stream), status=status)
    return stream


def prompt(stream, status=0):
    text = b"How do I clean the kitchen?"
    message = Message(b"user", 4, text, len(text))
    # Larger than a qg_prompt_check.
    check = ctypes.create_string_buffer(4096)
    call("qg_stream_prompt", stream, ctypes.byref(message), ctypes.c_size_t(1), check, status=status)


def in_child(guard, stream):
    open_stream(guard, STOPPED)
    prompt(stream, STOPPED)
    library.qg_stream_free(stream)
    library.qg_guard_free(guard)
    own = open_guard()
    prompt(open_stream(own))


def main():
    guard = open_guard()
    stream, busy = open_stream(guard), open_stream(guard)
    prompt(stream)
    over = threading.Event()

    def push():
        while not over.is_set():
            prompt(busy)

    thread = threading.Thread(target=push)
    thread.start()
    fork = multiprocessing.get_context("fork")
    for _ in range(3):
        worker = fork.Process(target=in_child, args=(guard, stream))
        worker.start()
        worker.join()
        assert worker.exitcode == 0, worker.exitcode
    child = os.fork()
    if child == 0:
        in_child(guard, stream)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    over.set()
    thread.join()
    prompt(stream)
    print("ok")


main()
