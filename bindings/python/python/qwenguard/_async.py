"""Calls under asyncio. No thread waits: the engine wakes the event loop through a socket, and the loop takes what is done."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class Waiters:
    """Tasks of any event loops that wait for one queue. Whatever happens to it wakes all of them: one that finds nothing waits
    again, and none is needed for another one to be woken."""

    def __init__(self, queue: _native.Queue) -> None:
        self._socket = queue.wake_socket()
        weakref.finalize(self, os.close, self._socket)
        # A task that the collector ends may take the lock while its thread has it.
        self._lock = threading.RLock()
        self._waiting: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}

    @contextmanager
    def waiter(self) -> Iterator[asyncio.Future[None]]:
        """What is done when the queue has changed since this began. So look at the queue before waiting for it."""
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        with self._lock:
            ours = self._waiting.get(loop)
            if ours is None:
                loop.add_reader(self._socket, self._readable)
                ours = self._waiting[loop] = []
            ours.append(woken)
        try:
            yield woken
        finally:
            with self._lock:
                ours.remove(woken)
                if not ours:
                    self._waiting.pop(loop, None)
                    # A loop that was closed meanwhile has no readers any more.
                    if not loop.is_closed():
                        loop.remove_reader(self._socket)

    def _readable(self) -> None:
        # Other loops may not have seen it before it is read here.
        drain(self._socket)
        self.wake()

    def wake(self) -> None:
        """Wakes all that wait now, from any thread."""
        with self._lock:
            loops = list(self._waiting.items())
        for loop, waiting in loops:
            try:
                loop.call_soon_threadsafe(_wake, waiting)
            except RuntimeError:
                # It was closed with a task that waits. Nobody wakes that any more.
                with self._lock:
                    self._waiting.pop(loop, None)


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for woken in waiting:
        if not woken.done():
            woken.set_result(None)


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Calls] = weakref.WeakKeyDictionary()


async def run(submit: Callable[[_native.Queue], int]) -> Any:
    """Waits for the call that ``submit`` begins and gives the ticket of."""
    loop = asyncio.get_running_loop()
    calls = _loops.get(loop)
    if calls is None:
        calls = _loops[loop] = _Calls(loop)
    return await calls.run(submit)


os.register_at_fork(after_in_child=_loops.clear)
