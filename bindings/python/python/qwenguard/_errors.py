"""Exceptions. A call that fails changes nothing: a stream is as it was before the call."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """How a call failed, by the numbers of ``qwenguard.h``. Later versions of the library may have more."""

    UNKNOWN = 0
    RUNTIME_NOT_FOUND = 1
    RUNTIME_UNUSABLE = 2
    PROVIDER = 3
    CONFIG = 4
    BUNDLE_FILE = 5
    BUNDLE_FIELD = 6
    BUNDLE_FORMAT = 7
    CONVERSATION = 8
    ARGUMENT = 9
    WRONG_STATE = 10
    CONTEXT_FULL = 11
    BUSY = 12
    OUT_OF_MEMORY = 13
    INFERENCE = 14
    ENGINE_STOPPED = 15
    DEADLINE_EXCEEDED = 16
    EXPIRED = 17
    CANCELLED = 18
    IN_USE = 102
    PANIC = 103
    CLOSED = -1
    """Of Python alone: the guard, stream, queue or log is closed."""


class GuardError(Exception):
    """Why a call of the library failed. ``str()`` of it is one line that names what is wrong."""

    status: Status = Status.UNKNOWN
    """The kind of failure, as a number; each has a class of its own, too."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RuntimeNotFoundError(GuardError):
    """ONNX Runtime was found nowhere; the message lists where it was looked for."""

    status = Status.RUNTIME_NOT_FOUND


class RuntimeUnusableError(GuardError):
    """An ONNX Runtime was found but cannot be used."""

    status = Status.RUNTIME_UNUSABLE


class ProviderError(GuardError):
    """The execution provider that was asked for cannot be had here, or its device was lost."""

    status = Status.PROVIDER


class ConfigError(GuardError, ValueError):
    """A setting of a configuration, policy or reward rule is wrong; the message names it."""

    status = Status.CONFIG


class BundleError(GuardError):
    """A bundle cannot be used."""


class BundleFileError(BundleError):
    """A file of the bundle is missing, unreadable or damaged."""

    status = Status.BUNDLE_FILE


class BundleFieldError(BundleError):
    """The bundle's ``guard.toml`` says something that the library cannot accept, or its self-test failed."""

    status = Status.BUNDLE_FIELD


class BundleFormatError(BundleError):
    """The bundle was made in a format that this version does not read."""

    status = Status.BUNDLE_FORMAT


class ConversationError(GuardError, ValueError):
    """A conversation cannot be rendered, or there is nothing in it to judge; the message names the message."""

    status = Status.CONVERSATION


class ArgumentError(GuardError, ValueError):
    """An argument is out of its documented range; the message names it."""

    status = Status.ARGUMENT


class WrongStateError(GuardError):
    """The call has no meaning at this moment, such as an answer before its prompt."""

    status = Status.WRONG_STATE


class ContextFullError(GuardError):
    """The conversation does not fit the model's context, or a KV cache that is smaller. Nothing was added."""

    status = Status.CONTEXT_FULL


class BusyError(GuardError):
    """A limit is reached that passes with time: try again, or close streams."""

    status = Status.BUSY


class OutOfMemoryError(GuardError, MemoryError):
    """Memory could not be had."""

    status = Status.OUT_OF_MEMORY


class InferenceError(GuardError):
    """ONNX Runtime failed to load or run the graph, or what the model gives is not finite."""

    status = Status.INFERENCE


class EngineStoppedError(GuardError):
    """The engine has stopped after a failure, or runs in the process that this one was forked from: open a guard here."""

    status = Status.ENGINE_STOPPED


class DeadlineExceededError(GuardError, TimeoutError):
    """The timeout of a call passed before its tokens were computed. Nothing was added."""

    status = Status.DEADLINE_EXCEEDED


class ExpiredError(GuardError):
    """The stream was idle for longer than the configuration allows. Open a new one."""

    status = Status.EXPIRED


class CancelledError(GuardError):
    """The call was cancelled. Nothing was added."""

    status = Status.CANCELLED


class InUseError(GuardError):
    """Another thread is using the stream, or it is in a queue."""

    status = Status.IN_USE


class PanicError(GuardError):
    """A bug of the library. The stream that it happened on stays unusable: close it."""

    status = Status.PANIC


class ClosedError(GuardError):
    """The guard, stream, queue or log is closed."""

    status = Status.CLOSED


def _classes(base: type[GuardError]) -> dict[int, type[GuardError]]:
    found = {}
    for one in base.__subclasses__():
        found.update(_classes(one))
        if "status" in vars(one):
            found[int(one.status)] = one
    return found


_BY_STATUS = _classes(GuardError)


def _make(status: int, message: str) -> GuardError:
    return _BY_STATUS.get(status, GuardError)(message)
