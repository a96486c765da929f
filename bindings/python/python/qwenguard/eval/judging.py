"""Runs a guard over cases, and keeps what it says: all that is measured can be had from that without the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .._errors import GuardError
from .._guard import Guard
from .._progress import progress_bar
from .._results import Annotation, Channel, Risk, TokenVerdict, Update, Verdict
from .._stream import Call, call_all
from .cases import Case, DataError

RISKS = [Risk.SAFE, Risk.CONTROVERSIAL, Risk.UNSAFE]

# Verdicts are asked for under the official rule, so that the tokens that close the turn are judged, too.
_POLICY = {"answer": {"debounce": "eval"}, "thinking": {"debounce": "eval"}, "shadow": True}

# As many answers are judged together.
TOGETHER = 32


@dataclass(slots=True)
class Judged:
    """A case with what a guard says of it. Probabilities of levels are in the order Safe, Controversial, Unsafe."""

    case: Case
    prompt: tuple[list[float], dict[str, float]] | None = None
    """Of the prompt: probabilities of levels and of categories. None with a guard of the variant gen."""
    risks: list[list[float]] | None = None
    """Of each judged token of the answer, those that close its turn included."""
    category_names: list[str] | None = None
    categories: list[list[float]] | None = None
    indices: list[int] | None = None
    """Which token of the answer each is."""
    ids: list[int] | None = None
    spans: list[tuple[int, int]] | None = None
    """The bytes of the answer that each stands for."""
    thinking: list[bool] | None = None
    split: int | None = None
    """Where the answer's first token is in the whole rendered conversation."""
    annotation: str | None = None
    """What a guard of the variant gen says, as JSON."""
    guard_categories: list[list[str]] | None = None
    """All categories that the guard has, of prompts and of answers: policies may name these."""
    error: str | None = None

    @property
    def closing(self) -> int:
        """How many tokens at the end close the turn: they stand for no bytes."""
        count = 0
        for start, end in reversed(self.spans or []):
            if start != end:
                break
            count += 1
        return count

    @property
    def levels(self) -> list[Risk]:
        """The level of each judged token: the most probable one, of equally probable ones the gravest."""
        return [level(risks) for risks in self.risks or []]


def level(risks: Sequence[float]) -> Risk:
    """The most probable level."""
    return RISKS[max(range(3), key=lambda index: (risks[index], index))]


def judge_cases(guard: Guard, cases: Sequence[Case], progress: bool | None = None) -> list[Judged]:
    """Judges all of them. A case that cannot be judged has its ``error``."""
    judged: list[Judged] = []
    if guard.info()["variant"] == "gen":
        found = guard.annotate_all([case.messages for case in cases], return_errors=True, progress=progress)
        judged = [_annotated(case, one) for case, one in zip(cases, found)]
    else:
        with progress_bar(len(cases), progress) as bar:
            for start in range(0, len(cases), TOGETHER):
                together = cases[start : start + TOGETHER]
                judged.extend(_judge(guard, together))
                bar.update(len(together))
    categories = [guard.prompt_categories(), guard.answer_categories()]
    for one in judged:
        one.guard_categories = categories
    return judged


def _annotated(case: Case, found: Annotation | GuardError) -> Judged:
    if isinstance(found, GuardError):
        return Judged(case, error=str(found))
    return Judged(case, annotation=found.json())


def _judge(guard: Guard, cases: Sequence[Case]) -> list[Judged]:
    """A push is judged as a whole, so what counts is how many answers are judged at once."""
    judged = [Judged(case) for case in cases]
    streams = [guard.stream(_POLICY) for _ in cases]
    try:
        history = [case.messages if case.is_prompt else case.messages[:-1] for case in cases]
        _call(judged, [Call.prompt(stream, messages) for stream, messages in zip(streams, history)], _take_prompt)
        answers = [one for one in zip(judged, streams) if not one[0].case.is_prompt]
        asked = [one for one, _ in answers]
        _call(asked, [Call.push_text(stream, one.case.answer) for one, stream in answers], _take_tokens)
        for one, stream in answers:
            one.split = stream.context_used - _count(one)
        _call(asked, [Call.finish(stream) for _, stream in answers], _take_tokens)
    finally:
        for stream in streams:
            stream.close()
    return judged


def _count(judged: Judged) -> int:
    """How many tokens the answer has so far."""
    return judged.indices[-1] + 1 if judged.indices else 0


def _call(judged: list[Judged], calls: list[Call], take: Any) -> None:
    asked = [(one, call) for one, call in zip(judged, calls) if one.error is None]
    for (one, _), reply in zip(asked, call_all([call for _, call in asked])):
        if isinstance(reply, GuardError):
            one.error = str(reply)
        else:
            take(one, reply)


def _numbers(verdict: Verdict) -> list[float]:
    return [verdict.risk_probabilities[risk] for risk in RISKS]


def _take_prompt(judged: Judged, check: Any) -> None:
    judged.prompt = _numbers(check.verdict), dict(check.verdict.category_probabilities)


def _take_tokens(judged: Judged, update: Update) -> None:
    keep = sum(index < update.void_from for index in judged.indices or [])
    tokens: Iterable[TokenVerdict] = update.tokens
    for name, column in (
        ("risks", [_numbers(token.verdict) for token in tokens]),
        ("categories", [list(token.verdict.category_probabilities.values()) for token in tokens]),
        ("indices", [token.index for token in tokens]),
        ("ids", [token.token_id for token in tokens]),
        ("spans", [(token.byte_start, token.byte_end) for token in tokens]),
        ("thinking", [token.channel is Channel.THINKING for token in tokens]),
    ):
        setattr(judged, name, [*(getattr(judged, name) or [])[:keep], *column])
    if update.tokens:
        judged.category_names = list(update.tokens[0].verdict.category_probabilities)


def write_verdicts(path: str | Path, judged: Iterable[Judged]) -> None:
    """Keeps verdicts as JSON lines, with their cases. The file appears when it is whole."""
    target = Path(path)
    partial = target.with_name(f"_{target.name}")
    with partial.open("w", encoding="utf-8") as file:
        for one in judged:
            file.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
    partial.replace(target)


def read_verdicts(path: str | Path) -> list[Judged]:
    """Reads what :func:`write_verdicts` wrote.

    :raises DataError: if it is not that.
    """
    try:
        found = list(_read(Path(path)))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: it is not UTF-8: {error}") from None
    if not found:
        raise DataError(f"{path}: there is no kept verdict")
    return found


def _read(path: Path) -> Iterator[Judged]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                fields = json.loads(line)
                case = fields.pop("case")
                case["messages"] = [(role, content) for role, content in case["messages"]]
                case["token_range"] = tuple(case["token_range"]) if case["token_range"] else None
                prompt = fields.pop("prompt")
                spans = fields.pop("spans")
                if fields.get("annotation") is not None:
                    # So that one that is damaged is found here, with its line.
                    Annotation.from_json(fields["annotation"])
                yield Judged(
                    Case(**case),
                    prompt=(prompt[0], prompt[1]) if prompt else None,
                    spans=None if spans is None else [(start, end) for start, end in spans],
                    **fields,
                )
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise DataError(f"{path}: line {number} is no kept verdict: {error}") from None
