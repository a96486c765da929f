"""Messages of the library, and of ONNX Runtime as it uses it, in ``logging``."""

from __future__ import annotations

import atexit
import logging
import os
import threading

from . import _native
from ._closing import Closing
from ._errors import ClosedError

_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG, 5: 5}


class Log(Closing):
    """Hands messages to ``logging`` until it is closed; :func:`log_to_logging` makes it. A process has one at a time."""

    def __init__(self, level: int) -> None:
        _native.log_open(next((number for number in (1, 2, 3, 4) if _LEVELS[number] <= level), 5))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="qwenguard-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._hand_on(0.5)
        self._hand_on(0)

    def _hand_on(self, seconds: float) -> None:
        messages, lost = _native.log_wait(seconds)
        for level, target, text in messages:
            name = target.replace("::", ".")
            logger = logging.getLogger(name if name.split(".")[0] == "qwenguard" else f"qwenguard.{name}")
            logger.log(_LEVELS[level], "%s", text)
        if lost:
            logging.getLogger("qwenguard").warning("%d messages were lost", lost)

    def _check(self) -> None:
        if self._ended.is_set():
            raise ClosedError("the log is closed")

    def close(self) -> None:
        """Ends it, when the messages so far are handed on."""
        global _open
        if self._ended.is_set():
            return
        self._ended.set()
        _native.log_close()
        self._thread.join()
        atexit.unregister(self.close)
        if _open is self:
            _open = None


_open: Log | None = None


def log_to_logging(level: int = logging.INFO) -> Log:
    """Has messages of this level and graver ones handed to loggers below ``qwenguard``, by a thread: the library never waits for
    them. Nothing is set up before the first call.

    >>> import logging
    >>> with log_to_logging(logging.WARNING):
    ...     pass

    :raises RuntimeError: in a process whose subscriber of Rust's ``tracing`` gets the messages.
    """
    global _open
    if _open is not None:
        _open.close()
    _open = Log(level)
    return _open


def _forget() -> None:
    # Its thread is not in a forked process.
    global _open
    if _open is not None:
        _open._ended.set()
        _open = None


os.register_at_fork(after_in_child=_forget)
