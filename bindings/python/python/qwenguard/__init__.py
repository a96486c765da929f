"""Streaming moderation with Qwen3Guard: verdicts on every token while an answer is written, and on whole conversations.

>>> import qwenguard
>>> guard = qwenguard.Guard.nano()  # or Guard.open("a bundle's folder"); once
>>> with guard.stream() as stream:  # one per conversation
...     check = stream.prompt("How do I clean the kitchen?")
...     for piece in ["Start with the coun", "ters. Then take the explosives, build a bomb", " and"]:
...         update = stream.push_text(piece)  # pieces may be cut anywhere
...         print("may be shown:", update.horizon, "bytes")
...         if update.decision is qwenguard.Decision.STOP:
...             print("cut:", update.violation.risk, update.violation.rule)
...             break
may be shown: 14 bytes
may be shown: 38 bytes
cut: Unsafe answer.strict: 2 consecutive
"""

from . import _runtime as _runtime  # before anything loads ONNX Runtime
from ._errors import (
    ArgumentError,
    BundleError,
    BundleFieldError,
    BundleFileError,
    BundleFormatError,
    BusyError,
    CancelledError,
    ClosedError,
    ConfigError,
    ContextFullError,
    ConversationError,
    DeadlineExceededError,
    EngineStoppedError,
    ExpiredError,
    GuardError,
    InferenceError,
    InUseError,
    OutOfMemoryError,
    PanicError,
    ProviderError,
    RuntimeNotFoundError,
    RuntimeUnusableError,
    Status,
    WrongStateError,
)
from ._guard import Guard, providers
from ._log import Log, log_to_logging
from ._messages import Conversation
from ._native import __version__
from ._queue import Completion, CompletionQueue
from ._results import (
    Action,
    Annotation,
    AnnotationFinding,
    AnnotationMode,
    Channel,
    Decision,
    Decoding,
    Histogram,
    Judgement,
    Message,
    Opinion,
    OpinionOutcome,
    OpinionTrigger,
    PromptCheck,
    PromptFinding,
    ProviderDevice,
    ProviderStatus,
    Risk,
    Stats,
    TextOverflow,
    TextToken,
    TokenVerdict,
    Update,
    Verdict,
    VerdictCount,
    Violation,
)
from ._settings import Settings
from ._stream import Call, Stopped, Stream, call_all

__all__ = [
    "Action",
    "Annotation",
    "AnnotationFinding",
    "AnnotationMode",
    "ArgumentError",
    "BundleError",
    "BundleFieldError",
    "BundleFileError",
    "BundleFormatError",
    "BusyError",
    "Call",
    "CancelledError",
    "Channel",
    "ClosedError",
    "Completion",
    "CompletionQueue",
    "ConfigError",
    "ContextFullError",
    "Conversation",
    "ConversationError",
    "DeadlineExceededError",
    "Decision",
    "Decoding",
    "EngineStoppedError",
    "ExpiredError",
    "Guard",
    "GuardError",
    "Histogram",
    "InUseError",
    "InferenceError",
    "Judgement",
    "Log",
    "Message",
    "Opinion",
    "OpinionOutcome",
    "OpinionTrigger",
    "OutOfMemoryError",
    "PanicError",
    "PromptCheck",
    "PromptFinding",
    "ProviderDevice",
    "ProviderError",
    "ProviderStatus",
    "Risk",
    "RuntimeNotFoundError",
    "RuntimeUnusableError",
    "Settings",
    "Stats",
    "Status",
    "Stopped",
    "Stream",
    "TextOverflow",
    "TextToken",
    "TokenVerdict",
    "Update",
    "Verdict",
    "VerdictCount",
    "Violation",
    "WrongStateError",
    "__version__",
    "call_all",
    "log_to_logging",
    "providers",
]
