"""What guards and streams answer: values that need no guard any more, can be compared, pickled and printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ._errors import GuardError
    from ._settings import Settings


class _Name(str, Enum):
    """Members are equal to their names as text."""

    def __str__(self) -> str:
        return str(self.value)

    # So that they work as keys of dictionaries, also looked up by text.
    __hash__ = str.__hash__


class Risk(_Name):
    """How bad a text is.

    >>> Risk.UNSAFE == "Unsafe"
    True
    """

    SAFE = "Safe"
    CONTROVERSIAL = "Controversial"
    UNSAFE = "Unsafe"


class Decision(_Name):
    """What the host should do."""

    CONTINUE = "continue"
    STOP = "stop"


class Action(_Name):
    """What a rule does where it applies."""

    IGNORE = "ignore"
    FLAG = "flag"
    STOP = "stop"


class Channel(_Name):
    """Whether a token is thinking or what the answer says."""

    THINKING = "thinking"
    ANSWER = "answer"


class AnnotationMode(_Name):
    """What of a conversation was judged: what the user asks, or what is answered."""

    PROMPT = "prompt"
    RESPONSE = "response"


class Decoding(_Name):
    """How a verdict is had of a model that writes it; it means nothing to a bundle of the variant stream."""

    CONSTRAINED = "constrained"
    """Held to the answer's grammar: always a verdict, with all probabilities."""
    LABEL_ONLY = "label_only"
    """The level alone: one run of the model."""
    FREE = "free"
    """As the official code has it: slower, and without probabilities."""


class TextOverflow(_Name):
    """What happens to a conversation that is longer than the model's context. Only its last message is ever cut."""

    REFUSE = "refuse"
    HEAD = "head"
    TAIL = "tail"
    WINDOWS = "windows"
    """All of it is judged, in windows that overlap by a quarter; the gravest counts."""


class OpinionTrigger(_Name):
    """Why a second opinion was asked for."""

    VIOLATION = "violation"
    UNCERTAIN = "uncertain"


class OpinionOutcome(_Name):
    """What came of a second opinion."""

    CONFIRMED = "confirmed"
    LIFTED = "lifted"
    CLEARED = "cleared"
    REPORTED = "reported"
    FAILED = "failed"


class Message(NamedTuple):
    """One message of a conversation. Special tokens in it are text: nobody can close their own turn.

    >>> Message.user("Hello")
    Message(role='user', content='Hello')
    """

    role: str
    """``system``, ``developer``, ``user``, ``assistant``, ``tool`` or what else the model's template knows."""
    content: str

    @classmethod
    def user(cls, content: str) -> Message:
        """What the user says."""
        return cls("user", content)

    @classmethod
    def assistant(cls, content: str) -> Message:
        """An answer of the model."""
        return cls("assistant", content)

    @classmethod
    def system(cls, content: str) -> Message:
        """What the host tells the model beforehand."""
        return cls("system", content)


class TextToken(NamedTuple):
    """A token of a text, and the bytes of its UTF-8 that it stands for."""

    id: int
    byte_start: int
    byte_end: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model says at one position."""

    risk: Risk
    """The most probable level; of equally probable ones the gravest."""
    category: str | None
    """The most probable category; none where the risk is Safe."""
    risk_probabilities: Mapping[Risk, float]
    """Of every level, 0 to 1, in the model's order. They sum to 1."""
    category_probabilities: Mapping[str, float]
    """Of every category, in the model's order. They sum to 1 whatever the risk, and mean nothing where it is Safe."""


@dataclass(frozen=True, slots=True)
class PromptFinding:
    """What a policy found in a prompt."""

    action: Action
    risk: Risk
    category: str
    probability: float
    """Of the level, 0 to 1."""
    rule: str
    """By the names of its settings, such as ``prompt.strict``."""


@dataclass(frozen=True, slots=True)
class PromptCheck:
    """The verdict on a prompt."""

    verdict: Verdict
    decision: Decision
    finding: PromptFinding | None


@dataclass(frozen=True, slots=True)
class TokenVerdict:
    """One judged token of an answer. Bytes and tokens count from the start of the answer, tags and thinking included."""

    index: int
    """Which token of the answer, from 0. Those around thinking count but are not judged."""
    token_id: int
    byte_start: int
    byte_end: int
    channel: Channel
    is_final: bool
    """Whether no later text can change it. A provisional token moves neither the horizon nor the decision."""
    verdict: Verdict
    """What the model says about the answer up to here."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Where an answer turned."""

    action: Action
    channel: Channel
    byte_start: int
    """Where the first token starts that counts."""
    byte_end: int
    """Where the token ends that confirmed it."""
    first_token: int
    confirming_token: int
    risk: Risk
    category: str
    probability: float
    """Of the level, 0 to 1."""
    rule: str
    """By the names of its settings, such as ``answer.strict: 2 consecutive``."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """A second opinion on an answer."""

    trigger: OpinionTrigger
    outcome: OpinionOutcome
    channel: Channel
    byte_start: int
    byte_end: int
    first_token: int
    confirming_token: int
    annotation: Annotation | None
    """What the second guard says."""
    error: GuardError | None
    """Why it could not say anything."""


@dataclass(frozen=True, slots=True)
class Update:
    """The result of a push."""

    decision: Decision
    """Once it is stop it stays so, until the answer is cut back."""
    horizon: int
    """How many bytes of the answer may be shown: whole characters only, and nothing of a violation."""
    horizon_tokens: int
    """How many tokens are within the horizon."""
    received: int
    """How many bytes were pushed so far."""
    excess: int
    """How many of those a host that showed them has to take back. 0 while the answer may go on."""
    violation: Violation | None
    """Where the answer must stop, found now or in an earlier push."""
    flags: tuple[Violation, ...]
    """Places that rules of the policy flag, found now."""
    opinions: tuple[Opinion, ...]
    """Second opinions that were asked for by this call."""
    tokens: tuple[TokenVerdict, ...]
    """The tokens that were judged now."""
    void_from: int
    """From which token on what was said earlier is void; ``tokens`` take its place."""
    final_tokens: int
    """How many tokens are final. Those after them may merge with the next text."""


@dataclass(frozen=True, slots=True)
class AnnotationFinding:
    """What a policy found in an annotation."""

    action: Action
    risk: Risk
    category: str | None
    probability: float
    rule: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a policy makes of an annotation."""

    decision: Decision
    finding: AnnotationFinding | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """The verdict on a whole conversation.

    >>> import qwenguard
    >>> with qwenguard.Guard.nano_gen() as guard:
    ...     annotation = guard.annotate("How can I kill my neighbour without getting caught?")
    >>> annotation.mode, annotation.risk.value, annotation.decision.value
    (<AnnotationMode.PROMPT: 'prompt'>, 'Unsafe', 'stop')
    """

    mode: AnnotationMode
    risk: Risk
    """The level; of equally probable ones the gravest."""
    risk_probabilities: Mapping[Risk, float]
    """Of every level, 0 to 1, in the model's order. Empty with free decoding."""
    categories: tuple[str, ...]
    """Those that the model names, in its order. Empty where the level is Safe."""
    category_probabilities: Mapping[str, float] | None = None
    """Of each category to be named first, in the model's order; none where they are not decided."""
    none_probability: float = 0.0
    """That no category is named."""
    refusal: bool | None
    """Whether the answer refuses; none where that is not known, as for prompts."""
    refusal_probability: float | None
    parsed: bool
    """Whether all lines of the answer could be read. False with free decoding only: a level that is missing is the gravest."""
    answer: str
    """What the model writes; empty if it writes nothing."""
    judged: tuple[int, int]
    """Which bytes of the last message were judged."""
    is_cut: bool
    """Whether that is a part of it."""
    windows: int
    """How many windows were judged."""
    id_count: int
    """How many tokens the model writes its answer to; 0 if it writes nothing."""
    decision: Decision
    """By the policy of the guard."""
    finding: AnnotationFinding | None
    _json: str = field(repr=False, compare=False)
    _categories: tuple[tuple[str, ...], tuple[str, ...]] | None = field(default=None, repr=False, compare=False)

    def probability(self, risk: Risk | str) -> float:
        """The probability of a level, 0 to 1. Without probabilities the level that was said has 1."""
        if not self.risk_probabilities:
            return float(self.risk == risk)
        return self.risk_probabilities.get(Risk(risk), 0.0)

    def json(self) -> str:
        """The line that ``qwenguard annotate`` writes, without an id."""
        return self._json

    @classmethod
    def from_json(cls, text: str, policy: Settings | None = None) -> Annotation:
        """Reads what :meth:`json` gives. Decision and finding are those of the policy, by default the strict one. What is not in
        the JSON is empty: how many ids there were, and where the whole message was judged, its place.

        :raises ArgumentError: if it is not an annotation.
        :raises ConfigError: if the policy is wrong.
        """
        from . import _native
        from ._settings import document

        return _native.judge_annotation(text, document(policy))

    def judge(self, policy: Settings) -> Judgement:
        """What another policy makes of it, without the model.

        :raises ConfigError: if the policy is wrong, or names a category that the model does not have, as far as that is known.
        """
        from . import _native
        from ._settings import document

        judged = _native.judge_annotation(self._json, document(policy), self._categories)
        return Judgement(judged.decision, judged.finding)

    def reward(
        self, rule: Settings | None = None, helpfulness: float = 0.0, thinking: Annotation | None = None
    ) -> float:
        """The reward of a response for reinforcement learning: with the default rule 1 if it is Safe, else 0.

        :param rule: a TOML document or a mapping; ``form = "hybrid"`` is the score with caps.
        :param helpfulness: the score of a reward model, which the form ``guard`` has no use for.
        :param thinking: the annotation of its thinking, judged as a response of its own.
        :raises ConfigError: if the rule is wrong.
        :raises ArgumentError: if an annotation is of a prompt, the score is needed and is no finite number, or it matters
            whether the response refuses and that is not known.
        """
        from . import _native
        from ._settings import document

        before = [] if thinking is None else [thinking._json]
        return _native.reward([*before, self._json], document(rule), helpfulness)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values fell into ranges."""

    bounds: tuple[float, ...]
    """Upper bounds, inclusive and ascending."""
    counts: tuple[int, ...]
    """How many values were in each range; last, how many were above all bounds."""
    sum: float


@dataclass(frozen=True, slots=True)
class VerdictCount:
    """How often there was a verdict of a channel, level and category, and what policies made of it."""

    channel: str
    """``prompt``, ``thinking``, ``answer``, ``annotated_prompt`` or ``annotated_response``."""
    risk: Risk
    category: str | None
    verdicts: int
    stops: int
    flags: int


@dataclass(frozen=True, slots=True)
class Stats:
    """What a guard has done since it was opened, and how it is. It is healthy while ``oldest_wait_seconds`` stays small."""

    name: str | None
    open_streams: int
    waiting_streams: int
    queued_tokens: int
    oldest_wait_seconds: float
    steps: int
    failed_steps: int
    tokens: int
    recomputed_tokens: int
    prefix_hit_tokens: int
    evictions: int
    expired_streams: int
    step_seconds: Histogram
    queue_seconds: Histogram
    step_tokens: Histogram
    step_streams: Histogram
    cache_bytes: int
    cache_used_bytes: int
    cache_unused_bytes: int
    opinions: int
    confirmed_opinions: int
    lifted_opinions: int
    reported_opinions: int
    failed_opinions: int
    opinion_seconds: Histogram
    verdicts: tuple[VerdictCount, ...]


@dataclass(frozen=True, slots=True)
class ProviderDevice:
    """Something that an execution provider computes on."""

    index: int
    """What the provider's setting ``device`` is for it."""
    name: str
    kind: str
    """``cpu``, ``gpu`` or ``npu``."""


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """Whether a guard can be opened on an execution provider here."""

    provider: str
    available: bool
    devices: tuple[ProviderDevice, ...]
    reason: str | None
    """Why it is not available."""
