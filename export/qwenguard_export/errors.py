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


@contextmanager
def naming(action: str, path: str | PathLike[str]) -> Iterator[None]:
    """Turns an OSError into a message that names the file: write() itself does not know it."""
    try:
        yield
    except OSError as error:
        raise ExportError(f"cannot {action} {path}: {error.strerror or error}") from error
