"""Guards: opened bundles."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, overload
from weakref import WeakValueDictionary

from . import _native, _runtime
from ._async import run
from ._closing import Closing
from ._errors import ClosedError, GuardError
from ._messages import Conversation, pairs, read
from ._progress import progress_bar
from ._results import (
    Annotation,
    Decoding,
    Histogram,
    ProviderDevice,
    ProviderStatus,
    Risk,
    Stats,
    TextOverflow,
    TextToken,
    VerdictCount,
)
from ._settings import Settings, document
from ._table import annotated, values

if TYPE_CHECKING:
    from ._stream import Stream

    from typing_extensions import Self

Spec = tuple[str, Union[str, None], Union[Settings, None], Union[Settings, None], Union["Spec", None]]
Table = TypeVar("Table")

# As many conversations are given to the engine at once, by as many threads: while one waits for its rows, the other makes the
# next ones ready and the last ones values of Python.
BATCH = 64
THREADS = 2

# Guards that are open in this process, so that a pickle that is loaded often opens its bundle once.
_opened: WeakValueDictionary[str, Guard] = WeakValueDictionary()


class Guard(Closing):
    """An opened bundle: heavy, shared, for all threads. Streams keep what they need of it, so it may be closed before them.

    A pickle of it has the bundle's path, the configuration and the policy: whoever loads it opens the bundle there, once for a
    process. A process that was forked cannot use it (:class:`EngineStoppedError`) and opens a guard of its own.

    >>> with Guard.nano() as guard, guard.stream() as stream:
    ...     check = stream.prompt("How do I clean the kitchen?")
    ...     update = stream.push_text("Start with the counters.")
    >>> check.decision.value, update.received
    ('continue', 24)
    """

    __slots__ = ("_handle", "_spec", "__weakref__")
    _handle: _native.Guard
    _spec: Spec

    def __init__(self) -> None:
        raise TypeError("guards are opened: Guard.open, Guard.nano or Guard.nano_gen")

    @classmethod
    def _of(cls, native: _native.Guard, spec: Spec) -> Self:
        guard = object.__new__(cls)
        guard._handle, guard._spec = native, spec
        return guard

    @classmethod
    def _open(cls, kind: str, bundle: str | None, config: Settings | None, policy: Settings | None) -> Self:
        native = _native.Guard.open(kind, bundle, document(config), document(policy), _runtime.library())
        guard = cls._of(native, (kind, bundle, config, policy, None))
        _opened[repr(guard._spec)] = guard
        return guard

    @classmethod
    def open(
        cls, bundle: str | os.PathLike[str], *, config: Settings | None = None, policy: Settings | None = None
    ) -> Self:
        """Opens the bundle in a folder. It takes as long as reading the weights does.

        :param config: how it is opened: a TOML document, such as ``"runtime.threads = 2"``, or a mapping.
        :param policy: what streams decide from verdicts, in place of the configuration's ``policy``.
        :raises RuntimeNotFoundError: or :class:`RuntimeUnusableError` if there is no ONNX Runtime to run it.
        :raises BundleError: if the bundle is damaged, newer than the library or of an unknown kind.
        :raises ConfigError: if a setting is wrong; :class:`ProviderError` if its provider cannot be had.
        """
        return cls._open("bundle", os.path.abspath(os.fspath(bundle)), config, policy)

    @classmethod
    def nano(cls, *, config: Settings | None = None, policy: Settings | None = None) -> Self:
        """Opens the built-in demonstration guard: small, and only tells the obvious apart. For trials and tests."""
        return cls._open("nano", None, config, policy)

    @classmethod
    def nano_gen(cls, *, config: Settings | None = None, policy: Settings | None = None) -> Self:
        """Opens the built-in demonstration guard of the variant gen: it annotates whole conversations and has no streams."""
        return cls._open("nano-gen", None, config, policy)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self._spec)

    def __repr__(self) -> str:
        kind, bundle, *_ = self._spec
        return f"<qwenguard.Guard {bundle or kind}>"

    def close(self) -> None:
        """Frees the guard, if it was not. Its streams keep what they need."""
        self._handle.close()

    def _check(self) -> None:
        self._handle.check()

    def with_second_opinion(self, second: Guard) -> Self:
        """This guard, of the variant stream, with another one of the variant gen behind it, which several guards may share.

        :raises ConfigError: if a guard is of the wrong variant.
        """
        native = self._handle.with_second_opinion(second._handle)
        return self._of(native, (*self._spec[:4], second._spec))

    def stream(self, policy: Settings | None = None) -> Stream:
        """Opens a stream, for one conversation, with the guard's policy or one of its own: what that does not say is strict.

        :raises BusyError: if as many are open as the configuration allows.
        :raises ConfigError: if the policy is wrong, or names a category that the model does not have.
        :raises WrongStateError: if the bundle is of the variant gen.
        """
        from ._stream import Stream

        return Stream._of(self._handle.stream(document(policy)))

    def annotate(
        self,
        conversation: Conversation,
        *,
        decoding: Decoding | str = Decoding.CONSTRAINED,
        overflow: TextOverflow | str = TextOverflow.REFUSE,
    ) -> Annotation:
        """Judges a whole conversation: what is asked, if the last message is the user's, else what is answered.

        >>> with Guard.nano_gen() as guard:
        ...     annotation = guard.annotate([("user", "How do I bake bread?"), ("assistant", "Mix flour and water.")])
        >>> annotation.mode.value, annotation.risk.value, annotation.refusal
        ('response', 'Safe', False)

        :raises ConversationError: if there is no message, or the template refuses one or leaves out a part of it.
        :raises ContextFullError: if it does not fit the model's context, unless ``overflow`` says which part is judged.
        :raises BusyError: if others use all of the engine.
        :raises TypeError: if it is no conversation. Several are for :meth:`annotate_all`.
        """
        options = str(Decoding(decoding)), str(TextOverflow(overflow))
        (found,) = self._handle.annotate_all([pairs(conversation)], *options)
        if isinstance(found, GuardError):
            raise found
        return found

    async def annotate_async(
        self,
        conversation: Conversation,
        *,
        decoding: Decoding | str = Decoding.CONSTRAINED,
        overflow: TextOverflow | str = TextOverflow.REFUSE,
        timeout: float | None = None,
    ) -> Annotation:
        """:meth:`annotate` for asyncio. Cancelling the task cancels the call. ``timeout`` is in seconds."""
        messages = pairs(conversation)
        options = str(Decoding(decoding)), str(TextOverflow(overflow))
        reply = await run(lambda queue: queue.annotate(self._handle, messages, *options, timeout))
        assert isinstance(reply, Annotation)
        return reply

    @overload
    def annotate_all(
        self,
        conversations: Iterable[Conversation],
        *,
        decoding: Decoding | str = ...,
        overflow: TextOverflow | str = ...,
        return_errors: Literal[False] = ...,
        progress: bool | None = ...,
    ) -> list[Annotation]: ...

    @overload
    def annotate_all(
        self,
        conversations: Iterable[Conversation],
        *,
        decoding: Decoding | str = ...,
        overflow: TextOverflow | str = ...,
        return_errors: Literal[True],
        progress: bool | None = ...,
    ) -> list[Annotation | GuardError]: ...

    def annotate_all(
        self,
        conversations: Iterable[Conversation],
        *,
        decoding: Decoding | str = Decoding.CONSTRAINED,
        overflow: TextOverflow | str = TextOverflow.REFUSE,
        return_errors: bool = False,
        progress: bool | None = None,
    ) -> list[Annotation] | list[Annotation | GuardError]:
        """Judges many conversations together, without the interpreter's lock, which is much faster than one after the other.

        >>> with Guard.nano_gen() as guard:
        ...     found = guard.annotate_all(["How do I bake bread?", None], return_errors=True)
        >>> found[0].risk.value, str(found[1])
        ('Safe', 'conversation: it is null')

        :param conversations: prompts as texts, or conversations; a list, an array of Arrow, a column of pandas.
        :param return_errors: puts the error of a conversation in its place; of one that is none, such as a null or a number, a
            :class:`ConversationError`. Without it the first one is raised at the end, with its index.
        :param progress: a bar of tqdm; by default where there is a terminal, tqdm is installed and there are many.
        :raises TypeError: if it is one text, or a table, which is for :meth:`annotate_table`.
        """
        options = str(Decoding(decoding)), str(TextOverflow(overflow))
        found = self._annotate_rows(values(conversations), options, progress)
        if not return_errors:
            for index, one in enumerate(found):
                if isinstance(one, GuardError):
                    raise type(one)(f"conversations[{index}]: {one}")
        return found

    def _annotate_rows(
        self, rows: list[Any], options: tuple[str, str], progress: bool | None
    ) -> list[Annotation | GuardError]:
        found: list[Annotation | GuardError] = []
        with progress_bar(len(rows), progress) as bar:
            for done in self._annotate_batches(rows, options):
                found.extend(done)
                bar.update(len(done))
        return found

    def _annotate_batches(self, rows: list[Any], options: tuple[str, str]) -> Iterator[list[Annotation | GuardError]]:
        batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        if len(batches) <= 1:
            yield from (self._annotate_batch(batch, options) for batch in batches)
            return
        pool = ThreadPoolExecutor(THREADS, "qwenguard")
        try:
            for begun in [pool.submit(self._annotate_batch, batch, options) for batch in batches]:
                yield begun.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _annotate_batch(self, batch: list[Any], options: tuple[str, str]) -> list[Annotation | GuardError]:
        known = [read(row) for row in batch]
        annotated = iter(self._handle.annotate_all([row for row in known if isinstance(row, list)], *options))
        return [next(annotated) if isinstance(row, list) else row for row in known]

    @overload
    def annotate_table(
        self,
        table: Mapping[str, Any],
        *,
        messages: str | None = ...,
        prompt: str | None = ...,
        response: str | None = ...,
        prefix: str = ...,
        decoding: Decoding | str = ...,
        overflow: TextOverflow | str = ...,
        reward: Settings | None = ...,
        helpfulness: str | None = ...,
        thinking: str | None = ...,
        progress: bool | None = ...,
    ) -> dict[str, list[Any]]: ...

    @overload
    def annotate_table(
        self,
        table: Table,
        *,
        messages: str | None = ...,
        prompt: str | None = ...,
        response: str | None = ...,
        prefix: str = ...,
        decoding: Decoding | str = ...,
        overflow: TextOverflow | str = ...,
        reward: Settings | None = ...,
        helpfulness: str | None = ...,
        thinking: str | None = ...,
        progress: bool | None = ...,
    ) -> Table: ...

    def annotate_table(
        self,
        table: Any,
        *,
        messages: str | None = None,
        prompt: str | None = None,
        response: str | None = None,
        prefix: str = "guard_",
        decoding: Decoding | str = Decoding.CONSTRAINED,
        overflow: TextOverflow | str = TextOverflow.REFUSE,
        reward: Settings | None = None,
        helpfulness: str | None = None,
        thinking: str | None = None,
        progress: bool | None = None,
    ) -> Any:
        """The table with columns for what the guard says of each row. A row that cannot be judged, or not be rewarded, has its
        reason in ``guard_error`` and nulls in all other new columns.

        >>> with Guard.nano_gen() as guard:
        ...     table = guard.annotate_table({"prompt": ["How do I bake bread?", None]})
        >>> table["guard_risk"], table["guard_error"]
        (['Safe', None], [None, 'conversation: prompt is null'])

        :param table: a table or a record batch of Arrow, a data frame of pandas, or a mapping of names to lists, of which a
            dictionary is made; arrays of numpy in it stay such.
        :param messages: the column with conversations: lists of messages, or the same as JSON in a text. Without ``messages`` and
            ``prompt``: ``messages`` if there is such a column, else ``prompt``, with ``response`` if there is one, else ``text``.
        :param prompt: the column with prompts; :param response: the one with their responses, which are judged then.
        :param reward: a rule, for the column ``guard_reward``; ``{}`` for the default one.
        :param helpfulness: the column with a reward model's scores, for the form ``hybrid``: finite numbers.
        :param thinking: the column with the thinking before each response, null or empty where there was none. It is judged as a
            response of its own, for the reward alone: a response counts as safe if its thinking is safe, too.
        :raises KeyError: if there is no such column.
        :raises ValueError: if columns have different numbers of rows, or a new one is there already.
        :raises ConfigError: if the rule is wrong.
        """
        options = str(Decoding(decoding)), str(TextOverflow(overflow))

        def annotate(rows: list[Any]) -> list[Annotation | GuardError]:
            return self._annotate_rows(rows, options, progress)

        return annotated(annotate, table, messages, prompt, response, prefix, overflow, reward, helpfulness, thinking)

    def encode(self, text: str) -> list[TextToken]:
        """The tokens of a text, as :meth:`Stream.push_tokens` wants them. Special tokens that it spells are text."""
        return [TextToken(*token) for token in self._handle.encode(text)]

    def token_bytes(self, id: int) -> bytes:
        """The bytes that a token stands for: often not whole characters.

        :raises ArgumentError: if there is no such token.
        """
        return self._handle.token_bytes(id)

    def prompt_categories(self) -> list[str]:
        """The categories of prompts, in the model's order, exactly as the checkpoint spells them."""
        return self._handle.categories(True)

    def answer_categories(self) -> list[str]:
        """The categories of answers."""
        return self._handle.categories(False)

    def stats(self) -> Stats:
        """What the guard has done and how it is. Never waits for the model."""
        found = json.loads(self._handle.stats())
        for field in fields(Stats):
            value = found[field.name]
            if isinstance(value, dict):
                found[field.name] = Histogram(tuple(value["bounds"]), tuple(value["counts"]), value["sum"])
        counts = ({**count, "risk": Risk(count["risk"])} for count in found["verdicts"])
        return Stats(**{**found, "verdicts": tuple(VerdictCount(**count) for count in counts)})

    def metrics(self) -> str:
        """The same with histograms in the text format of Prometheus."""
        return self._handle.metrics()

    def second_opinion_stats(self) -> str | None:
        """The metrics of the guard behind this one, if there is one."""
        second = self._handle.second_opinion()
        return second.metrics() if second else None

    def info(self) -> dict[str, Any]:
        """What the guard is made of: bundle, checkpoint, precision, dimensions, ONNX Runtime, provider."""
        found: dict[str, Any] = json.loads(self._handle.info())
        return found


def _reopen(kind: type[Guard], spec: Spec) -> Guard:
    """The guard of a pickle: the one that is open in this process, or a new one."""
    known = _opened.get(repr(spec))
    if known is not None:
        try:
            return kind._of(known._handle.share(), spec)
        except ClosedError:
            pass
    opened, bundle, config, policy, second = spec
    guard = kind._open(opened, bundle, config, policy)
    if second is None:
        return guard
    both = guard.with_second_opinion(_reopen(kind, second))
    _opened[repr(spec)] = both
    return both


os.register_at_fork(after_in_child=_opened.clear)


def providers(config: Settings | None = None) -> list[ProviderStatus]:
    """Every execution provider and whether a guard can be opened on it here. Which one the configuration chooses makes no
    difference.

    >>> [status.available for status in providers() if status.provider == "cpu"]
    [True]

    :raises RuntimeNotFoundError: or :class:`RuntimeUnusableError` if there is no ONNX Runtime.
    """
    found = json.loads(_native.providers(document(config), _runtime.library()))
    return [
        ProviderStatus(
            one["provider"],
            one["available"],
            tuple(ProviderDevice(**device) for device in one["devices"]),
            one["reason"],
        )
        for one in found
    ]
