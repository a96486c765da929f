"""Reading files that may be anything, and creating files that are ours."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .errors import ExportError, naming
from .limits import FILE_NAME_BYTES


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Opens a regular file, unbuffered. A FIFO would wait for its writer, and a device might never end."""
    with naming("read", path):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ExportError(f"{path}: not a regular file")
        yield file


def require_file(path: Path) -> Path:
    try:
        mode = path.stat().st_mode
    except OSError:
        raise ExportError(f"{path}: missing") from None
    if not stat.S_ISREG(mode):
        raise ExportError(f"{path}: not a regular file")
    return path


def read_bytes(path: Path, limit: int) -> bytes:
    """A whole file, if it has at most `limit` bytes."""
    with open_regular(path) as file, naming("read", path):
        # The size is looked at first, so that the memory is that of the file and not that of the limit.
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > limit else read_up_to(file, limit + 1)
    if max(size, len(data)) > limit:
        raise ExportError(f"{path}: {max(size, len(data))} bytes, at most {limit} are supported")
    return data


def read_up_to(file: BinaryIO, count: int) -> bytes:
    """The next `count` bytes, or fewer at the file's end: one read of an unbuffered file may give less."""
    pieces = []
    while count and (piece := file.read(min(count, 1 << 20))):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def parse_json(data: bytes, path: Path) -> Any:
    """A JSON text. A key that comes twice is refused: readers differ in which of the two they take."""
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ExportError(f"{path}: not valid JSON: nested too deeply") from error
    except ValueError as error:
        raise ExportError(f"{path}: not valid JSON: {shown(error)}") from error


def shown(value: object) -> str:
    """A value from a file, fit for a message: not longer than a line."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, Exception) else _repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def is_plain_name(name: str) -> bool:
    """Whether a name stays in its folder, on every system."""
    return (
        name not in ("", ".", "..")
        and name.isprintable()
        and not set(name) & set("/\\:")
        and len(name.encode("utf-8", "surrogatepass")) <= FILE_NAME_BYTES
    )


def printable(name: str) -> str:
    """A file's name for a text: names may be no UTF-8, or hold control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def is_text(value: str) -> bool:
    """False for lone surrogates, which JSON can spell and UTF-8 cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


# Files that this process has created, and a descriptor of each: as long as it is open no other file gets that inode,
# and so what another process puts in a file's place is told from ours.
_created: dict[Path, int] = {}


def create(path: Path) -> BinaryIO:
    """Creates a file for writing, and remembers that it is ours. Fails if there is one."""
    with naming("write", path):
        file = open(path, "xb")
        _created[path] = os.dup(file.fileno())
    return file


def created_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Device and inode of the files that were created in a folder, by name."""
    return {path.name: identity(os.fstat(kept)) for path, kept in list(_created.items()) if path.parent == folder}


def forget_created(folder: Path) -> None:
    for name in created_in(folder):
        os.close(_created.pop(folder / name))


def identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file is written to, or another takes its place."""
    with naming("read", path):
        status = path.stat()
    return (*identity(status), status.st_size, status.st_mtime_ns)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # more digits than Python prints, nested too deeply
        return f"a value of type {type(value).__name__}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {shown(key)} comes twice")
            seen.add(key)
    return table


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")
