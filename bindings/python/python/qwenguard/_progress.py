"""A bar of tqdm where somebody sees it."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol


class Bar(Protocol):
    """What is needed of a bar."""

    def update(self, count: int) -> object: ...

    def __enter__(self) -> Bar: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object: ...


class _NoBar:
    def update(self, count: int) -> None:
        pass

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


# Fewer are done before a bar would be read.
MANY = 512


def progress_bar(total: int, wanted: bool | None) -> Bar:
    """A bar for so many conversations. By default where standard error is a terminal and there are many."""
    if wanted is None:
        wanted = total >= MANY and sys.stderr is not None and sys.stderr.isatty()
    if not wanted:
        return _NoBar()
    try:
        from tqdm import tqdm
    except ImportError:
        return _NoBar()
    bar: Bar = tqdm(total=total, unit="conversation")
    return bar
