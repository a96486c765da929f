"""Streams: conversations that are moderated while they are written."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Union, cast

from . import _native
from ._async import run
from ._closing import Closing
from ._errors import GuardError
from ._messages import Conversation, pairs
from ._results import Decision, PromptCheck, TextToken, Update

if TYPE_CHECKING:
    from typing_extensions import Self

Text = Union[str, bytes]
"""Text, or its UTF-8, which may be cut anywhere."""


class Stopped(Exception):
    """An answer was stopped: what came before the violation was given out."""

    def __init__(self, update: Update) -> None:
        found = update.violation
        super().__init__(f"stopped at byte {update.horizon}: {found.risk}, {found.category}" if found else "stopped")
        self.update = update

    def __reduce__(self) -> tuple[Any, ...]:
        return Stopped, (self.update,)


class Stream(Closing):
    """One conversation. For one thread at a time; another one's call fails with :class:`InUseError` and does nothing.

    First the prompt, then the answer as it is produced, then :meth:`finish`; after it :meth:`next_turn`. A call that fails
    leaves the stream as it was. Each call has a sister for asyncio, of its name with ``_async``: no thread waits then, and
    cancelling the task cancels the call, unless it is done already.

    >>> from qwenguard import Guard
    >>> with Guard.nano() as guard, guard.stream() as stream:
    ...     prompt = stream.prompt("How do I clean the kitchen?")
    ...     for update in stream.updates(["Start with the coun", "ters. Then take the explosives, build a bomb", " and"]):
    ...         print(update.horizon, update.decision.value)
    14 continue
    38 stop
    """

    __slots__ = ("_handle", "__weakref__")
    _handle: _native.Stream

    def __init__(self) -> None:
        raise TypeError("streams are opened: Guard.stream")

    @classmethod
    def _of(cls, native: _native.Stream) -> Self:
        stream = object.__new__(cls)
        stream._handle = native
        return stream

    def close(self) -> None:
        """Frees the stream, or does so when the call that goes on is done."""
        self._handle.close()

    def _check(self) -> None:
        self._handle.check()

    def prompt(self, conversation: Conversation, *, timeout: float | None = None) -> PromptCheck:
        """Gives the conversation and judges its last message of the user. A text is a prompt of the user. A last message of the
        assistant is the beginning of the answer.

        :param timeout: in seconds, and not negative; as with all calls.
        :raises ConversationError: if there is nothing to judge, or the template refuses or leaves out a message.
        :raises ContextFullError: if it is longer than the model's context.
        :raises DeadlineExceededError: if it is not done within the timeout. Nothing was added.
        """
        return cast(PromptCheck, self._handle.call("prompt", pairs(conversation), timeout))

    def next_turn(self, conversation: Conversation, *, timeout: float | None = None) -> PromptCheck:
        """Goes on with the conversation after the end of an answer: the messages so far, the answer, and these.

        :raises WrongStateError: before the end of the answer.
        """
        return cast(PromptCheck, self._handle.call("next_turn", pairs(conversation), timeout))

    def push_text(self, text: Text, *, timeout: float | None = None) -> Update:
        """Gives the next piece of the answer, which may begin and end anywhere, and judges its tokens.

        :raises ArgumentError: if bytes are not UTF-8, or there are more than 1 MiB.
        :raises WrongStateError: before the prompt, after tokens or after the end of the answer.
        :raises ContextFullError: if it does not fit the model's context.
        """
        return cast(Update, self._handle.call("push_text", text, timeout))

    def push_thinking(self, text: Text, *, timeout: float | None = None) -> Update:
        """As :meth:`push_text`, for a piece of thinking from a host that knows it as such."""
        return cast(Update, self._handle.call("push_thinking", text, timeout))

    def push_tokens(self, tokens: Iterable[int | TextToken], *, timeout: float | None = None) -> Update:
        """Gives the next tokens of the answer, by the guard's own tokenizer (:meth:`Guard.encode`).

        :raises ArgumentError: if one is no token, as no negative number is.
        :raises WrongStateError: before the prompt, after text or after the end of the answer.
        """
        return cast(Update, self._handle.call("push_tokens", _ids(tokens), timeout))

    def finish(self, *, timeout: float | None = None) -> Update:
        """Says that the answer is complete: what was provisional becomes final."""
        return cast(Update, self._handle.call("finish", None, timeout))

    def truncate(self, bytes: int, *, timeout: float | None = None) -> Update:
        """Cuts the answer back to so many bytes, as if nothing after them had ever come.

        :raises ArgumentError: if that is negative, the answer is shorter, or that is inside a character or a token.
        """
        return cast(Update, self._handle.call("truncate", bytes, timeout))

    def truncate_tokens(self, tokens: int, *, timeout: float | None = None) -> Update:
        """As :meth:`truncate`, to so many tokens, as :attr:`TokenVerdict.index` counts them."""
        return cast(Update, self._handle.call("truncate_tokens", tokens, timeout))

    async def prompt_async(self, conversation: Conversation, *, timeout: float | None = None) -> PromptCheck:
        """:meth:`prompt` for asyncio."""
        return cast(PromptCheck, await self._run("prompt", pairs(conversation), timeout))

    async def next_turn_async(self, conversation: Conversation, *, timeout: float | None = None) -> PromptCheck:
        """:meth:`next_turn` for asyncio."""
        return cast(PromptCheck, await self._run("next_turn", pairs(conversation), timeout))

    async def push_text_async(self, text: Text, *, timeout: float | None = None) -> Update:
        """:meth:`push_text` for asyncio."""
        return cast(Update, await self._run("push_text", text, timeout))

    async def push_thinking_async(self, text: Text, *, timeout: float | None = None) -> Update:
        """:meth:`push_thinking` for asyncio."""
        return cast(Update, await self._run("push_thinking", text, timeout))

    async def push_tokens_async(self, tokens: Iterable[int | TextToken], *, timeout: float | None = None) -> Update:
        """:meth:`push_tokens` for asyncio."""
        return cast(Update, await self._run("push_tokens", _ids(tokens), timeout))

    async def finish_async(self, *, timeout: float | None = None) -> Update:
        """:meth:`finish` for asyncio."""
        return cast(Update, await self._run("finish", None, timeout))

    async def truncate_async(self, bytes: int, *, timeout: float | None = None) -> Update:
        """:meth:`truncate` for asyncio."""
        return cast(Update, await self._run("truncate", bytes, timeout))

    async def truncate_tokens_async(self, tokens: int, *, timeout: float | None = None) -> Update:
        """:meth:`truncate_tokens` for asyncio."""
        return cast(Update, await self._run("truncate_tokens", tokens, timeout))

    async def _run(self, kind: str, value: Any, timeout: float | None) -> Any:
        return await run(lambda queue: queue.submit(self._handle, kind, value, timeout))

    def fork(self) -> Self:
        """Another stream with the same conversation so far, which goes its own way from here and shares the cache.

        :raises BusyError: if as many streams are open as the configuration allows.
        """
        return self._of(self._handle.fork())

    @property
    def context_used(self) -> int:
        """How many tokens of the model's context the conversation uses, those of the template included."""
        return self._handle.context_used()

    def updates(self, pieces: Iterable[Text]) -> Iterator[Update]:
        """Pushes the pieces of an answer and gives the update of each, then that of :meth:`finish`. Ends after a stop."""
        for piece in pieces:
            update = self.push_text(piece)
            yield update
            if update.decision is Decision.STOP:
                return
        yield self.finish()

    async def updates_async(self, pieces: AsyncIterable[Text]) -> AsyncIterator[Update]:
        """:meth:`updates` for asyncio: ``async for update in stream.updates_async(pieces)``."""
        async for piece in pieces:
            update = await self.push_text_async(piece)
            yield update
            if update.decision is Decision.STOP:
                return
        yield await self.finish_async()

    def cleared(self, pieces: Iterable[Text]) -> Iterator[str]:
        """What of an answer may be shown, as soon as it may.

        :raises Stopped: where the answer has to be cut. What came before was given out.
        """
        shown = _Shown()
        for piece in pieces:
            yield from shown.next(piece, self.push_text(piece))
        yield from shown.next(b"", self.finish())

    async def cleared_async(self, pieces: AsyncIterable[Text]) -> AsyncIterator[str]:
        """:meth:`cleared` for asyncio."""
        shown = _Shown()
        async for piece in pieces:
            for text in shown.next(piece, await self.push_text_async(piece)):
                yield text
        for text in shown.next(b"", await self.finish_async()):
            yield text


def _ids(tokens: Iterable[int | TextToken]) -> list[int]:
    if not isinstance(tokens, Iterable):
        raise TypeError(f"tokens must be an iterable of ids, not {type(tokens).__name__}")
    return [token.id if isinstance(token, TextToken) else token for token in tokens]


class _Shown:
    """Keeps what is not cleared."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._shown = 0

    def next(self, piece: Text, update: Update) -> Iterator[str]:
        self._kept += piece.encode() if isinstance(piece, str) else piece
        count = update.horizon - self._shown
        if count > 0:
            text = self._kept[:count].decode()
            del self._kept[:count]
            self._shown = update.horizon
            yield text
        if update.decision is Decision.STOP:
            raise Stopped(update)


class Call(NamedTuple):
    """A call of a stream as a value, for :func:`call_all` and queues."""

    stream: Stream
    kind: str
    """The name of the method."""
    value: Any

    @classmethod
    def prompt(cls, stream: Stream, conversation: Conversation) -> Call:
        """:meth:`Stream.prompt`"""
        return cls(stream, "prompt", pairs(conversation))

    @classmethod
    def next_turn(cls, stream: Stream, conversation: Conversation) -> Call:
        """:meth:`Stream.next_turn`"""
        return cls(stream, "next_turn", pairs(conversation))

    @classmethod
    def push_text(cls, stream: Stream, text: Text) -> Call:
        """:meth:`Stream.push_text`"""
        return cls(stream, "push_text", text)

    @classmethod
    def push_thinking(cls, stream: Stream, text: Text) -> Call:
        """:meth:`Stream.push_thinking`"""
        return cls(stream, "push_thinking", text)

    @classmethod
    def push_tokens(cls, stream: Stream, tokens: Iterable[int | TextToken]) -> Call:
        """:meth:`Stream.push_tokens`"""
        return cls(stream, "push_tokens", _ids(tokens))

    @classmethod
    def finish(cls, stream: Stream) -> Call:
        """:meth:`Stream.finish`"""
        return cls(stream, "finish", None)

    @classmethod
    def truncate(cls, stream: Stream, bytes: int) -> Call:
        """:meth:`Stream.truncate`"""
        return cls(stream, "truncate", bytes)

    @classmethod
    def truncate_tokens(cls, stream: Stream, tokens: int) -> Call:
        """:meth:`Stream.truncate_tokens`"""
        return cls(stream, "truncate_tokens", tokens)


def call_all(calls: Sequence[Call]) -> list[PromptCheck | Update | GuardError]:
    """Makes calls of many streams at once, which are computed together, and waits for all of them. What each answers, or its
    error, in the order of the calls; one that fails leaves the others alone.

    >>> from qwenguard import Guard
    >>> with Guard.nano() as guard, guard.stream() as first, guard.stream() as second:
    ...     checks = call_all([Call.prompt(first, "Hello"), Call.finish(second)])
    >>> [type(check).__name__ for check in checks]
    ['PromptCheck', 'WrongStateError']
    """
    return _native.call_all([(call.stream._handle, call.kind, call.value) for call in calls])
