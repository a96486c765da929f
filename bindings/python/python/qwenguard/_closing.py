"""What is closed at the end of a ``with`` block."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Closing:
    __slots__ = ()

    def close(self) -> None:
        raise NotImplementedError

    def _check(self) -> None:
        """Raises :class:`ClosedError` if it is closed: a block that cannot use it is not to begin."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It may wait, for the model's threads or for a call that is being computed: a thread does so, and goes on with it if this
        # task is cancelled meanwhile.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self.close))
