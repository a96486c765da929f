"""Calls of many streams without waiting for each."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from . import _native
from ._async import Waiters
from ._closing import Closing
from ._errors import ClosedError, GuardError
from ._guard import Guard
from ._messages import Conversation, pairs
from ._results import Annotation, Decoding, PromptCheck, TextOverflow, Update
from ._stream import Call, Stream


@dataclass(frozen=True, slots=True)
class Completion:
    """A call that is done."""

    tag: Any
    """What it was submitted with."""
    stream: Stream | None
    """Of a call of a stream, which is free for its next one."""
    reply: PromptCheck | Update | Annotation | None
    """What it answers, unless it failed."""
    error: GuardError | None

    def result(self) -> PromptCheck | Update | Annotation:
        """What it answers, or raises its error."""
        if self.error is not None:
            raise self.error
        assert self.reply is not None
        return self.reply


class CompletionQueue(Closing):
    """Takes calls of streams, and conversations to annotate, and gives back those that are done. For all threads.

    Under asyncio ``async for completion in queue`` gives all that are in it; no thread waits. As with ``for``, several tasks may
    take from one queue, also of event loops in several threads: each call comes back to one of them.

    >>> with Guard.nano() as guard, guard.stream() as stream, CompletionQueue() as queue:
    ...     queue.submit(Call.prompt(stream, "Hello"), tag="hello")
    ...     for completion in queue:
    ...         print(completion.tag, completion.result().decision.value)
    hello continue
    """

    def __init__(self) -> None:
        self._handle = _native.Queue()
        self._lock = threading.Lock()
        self._calls: dict[int, tuple[Any, Stream | None]] = {}
        self._waiters: Waiters | None = None
        self._closed = False

    def submit(self, call: Call, *, tag: Any = None, timeout: float | None = None) -> None:
        """Begins a call. Until the queue gives it back, all calls of its stream fail with :class:`InUseError`.

        :param tag: yours, to know the call by. :param timeout: in seconds; what is not done by then is cancelled.
        :raises InUseError: if the stream is in another call. Everything else is the error of the call.
        """
        with self._lock:
            self._check()
            ticket = self._handle.submit(call.stream._handle, call.kind, call.value, timeout)
            self._calls[ticket] = tag, call.stream

    def annotate(
        self,
        guard: Guard,
        conversation: Conversation,
        *,
        decoding: Decoding | str = Decoding.CONSTRAINED,
        overflow: TextOverflow | str = TextOverflow.REFUSE,
        tag: Any = None,
        timeout: float | None = None,
    ) -> None:
        """Begins to annotate a conversation, as :meth:`Guard.annotate` does. It comes back without a stream."""
        messages = pairs(conversation)
        options = str(Decoding(decoding)), str(TextOverflow(overflow))
        with self._lock:
            self._check()
            ticket = self._handle.annotate(guard._handle, messages, *options, timeout)
            self._calls[ticket] = tag, None

    def wait(self, timeout: float | None = None) -> Completion | None:
        """Waits for a call that is done, for so many seconds at most; even while the queue is empty, for what others submit.

        :raises ClosedError: if the queue is closed, before or meanwhile.
        """
        return self._take(self._handle.wait(timeout))

    def _take(self, done: tuple[int, PromptCheck | Update | Annotation | GuardError] | None) -> Completion | None:
        if done is None:
            return None
        ticket, answer = done
        with self._lock:
            tag, stream = self._calls.pop(ticket)
            waiters = self._waiters
        if waiters is not None and not len(self._handle):
            # There is nothing to wait for any more.
            waiters.wake()
        if isinstance(answer, GuardError):
            return Completion(tag, stream, None, answer)
        return Completion(tag, stream, answer, None)

    def poll(self) -> Completion | None:
        """A call that is done, if there is one. Raises :class:`ClosedError` if the queue is closed."""
        return self.wait(0)

    def cancel(self, tag: Any) -> int:
        """Cancels the calls with this tag that are not done. They come back with :class:`CancelledError`, and the streams as they
        were. Returns how many there were."""
        with self._lock:
            tickets = [ticket for ticket, (other, _) in self._calls.items() if other == tag]
        return sum(self._handle.cancel(ticket) for ticket in tickets)

    def __len__(self) -> int:
        """How many calls are not given back yet."""
        return len(self._handle)

    def __iter__(self) -> Iterator[Completion]:
        """All calls, as they are done, until there are none or the queue is closed."""
        while len(self):
            try:
                completion = self.wait(1)
            except ClosedError:
                return
            if completion is not None:
                yield completion

    async def __aiter__(self) -> AsyncIterator[Completion]:
        with self._lock:
            if self._waiters is None:
                self._waiters = Waiters(self._handle)
            waiters = self._waiters
        while len(self):
            try:
                completion = self.poll()
                if completion is None:
                    with waiters.waiter() as woken:
                        # What came before is not told of.
                        completion = self.poll()
                        if completion is None and len(self):
                            await woken
            except ClosedError:
                return
            if completion is not None:
                yield completion

    def close(self) -> None:
        """Gives up the calls in the queue; their streams can be used again. Whoever waits for one gets :class:`ClosedError`."""
        with self._lock:
            self._closed = True
            tickets = list(self._calls)
        self._handle.close()
        for ticket in tickets:
            self._handle.cancel(ticket)
        while len(self):
            self._take(self._handle.wait(0.1, draining=True))

    def _check(self) -> None:
        if self._closed:
            raise ClosedError("the queue is closed")
