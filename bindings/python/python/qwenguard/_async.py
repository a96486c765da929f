"""Calls under asyncio. No thread waits: the engine wakes the event loop through a socket, and the loop takes what is done."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from typing import Any

from . import _native
from ._errors import GuardError


class _Calls:
    """Calls of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._queue = _native.Queue()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._socket = self._queue.wake_socket()
        weakref.finalize(self, os.close, self._socket)
        loop.add_reader(self._socket, self._woken)

    def _woken(self) -> None:
        drain(self._socket)
        self._take()

    def _take(self) -> None:
        while (done := self._queue.wait(0)) is not None:
            ticket, answer = done
            future = self._waiting.pop(ticket, None)
            if future is None or future.done():
                continue
            if isinstance(answer, GuardError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    async def run(self, submit: Callable[[_native.Queue], int]) -> Any:
        ticket = submit(self._queue)
        future = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        try:
            return await future
        except asyncio.CancelledError:
            self._waiting.pop(ticket, None)
            self._queue.cancel(ticket)
            # So that the stream is free at once.
            self._take()
            raise


def drain(socket: int) -> None:
    """Reads what wakes are in a socket."""
    try:
        while len(os.read(socket, 4096)) == 4096:
            pass
    except BlockingIOError:
        pass


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Calls] = weakref.WeakKeyDictionary()


async def run(submit: Callable[[_native.Queue], int]) -> Any:
    """Waits for the call that ``submit`` begins and gives the ticket of."""
    loop = asyncio.get_running_loop()
    calls = _loops.get(loop)
    if calls is None:
        calls = _loops[loop] = _Calls(loop)
    return await calls.run(submit)


os.register_at_fork(after_in_child=_loops.clear)
