"""The failures a user of the exporter can meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike


class ExportError(Exception):
    """A failure with a message fit for the user: one line that names the file, tensor or key."""


class Interrupted(BaseException):
    """The process was asked to stop by a signal.

    Derived from BaseException so that no `except Exception` on the way swallows it.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


_signals: list[int] = []


def interrupt(signal_number: int) -> None:
    """Raises Interrupted, now and at every later `check_interrupted`.

    Where a signal strikes inside a destructor or a callback, Python reports the exception and goes on.
    """
    _signals.append(signal_number)
    raise Interrupted(signal_number)


def check_interrupted() -> None:
    """Raises Interrupted if a signal has asked the process to stop."""
    if _signals:
        raise Interrupted(_signals[0])


def forget_interrupts() -> None:
    """Starts anew, for a second run in the same process."""
    _signals.clear()


@contextmanager
def naming(action: str, path: str | PathLike[str]) -> Iterator[None]:
    """Turns an OSError into a message that names the file: write() itself does not know it."""
    try:
        yield
    except OSError as error:
        raise ExportError(f"cannot {action} {path}: {error.strerror or error}") from error
