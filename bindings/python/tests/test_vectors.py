"""Conversations of which every language says the same: tests/vectors/README.md."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from compare import error, same
from conftest import REPOSITORY

from qwenguard import Call, CompletionQueue, Guard, GuardError, Message, Opinion, PromptCheck, Stream, Update, Verdict, Violation, call_all

FILES = ["vectors", "opinions", "built_in_opinions"]
Step = dict[str, Any]
LEVELS = ("Safe", "Controversial", "Unsafe")


def verdict(found: Verdict) -> dict[str, Any]:
    return {
        "risk": str(found.risk),
        "category": found.category,
        "risk_probs": [found.risk_probabilities[level] for level in LEVELS],  # type: ignore[index]
        "category_probs": list(found.category_probabilities.values()),
    }


def violation(found: Violation) -> dict[str, Any]:
    texts = ("action", "channel", "risk", "category", "rule")
    numbers = ("byte_start", "byte_end", "first_token", "confirming_token", "probability")
    return {name: str(getattr(found, name)) for name in texts} | {name: getattr(found, name) for name in numbers}


def opinion(found: Opinion) -> dict[str, Any]:
    said = {name: str(getattr(found, name)) for name in ("trigger", "outcome", "channel")}
    said |= {name: getattr(found, name) for name in ("byte_start", "byte_end", "first_token", "confirming_token")}
    if found.annotation is None:
        assert found.error is not None
        return said | error(found.error)
    risks = [found.annotation.risk_probabilities[level] for level in LEVELS]  # type: ignore[index]
    return said | {"risk": str(found.annotation.risk), "risk_probs": risks}


def answer(found: Any) -> dict[str, Any]:
    """A reply as the file has it."""
    if isinstance(found, GuardError):
        return error(found)
    if isinstance(found, PromptCheck):
        finding = found.finding
        texts = ("action", "risk", "category", "rule")
        return {
            "decision": str(found.decision),
            "finding": finding
            and {name: str(getattr(finding, name)) for name in texts} | {"probability": finding.probability},
            "verdict": verdict(found.verdict),
        }
    assert isinstance(found, Update)
    numbers = ("horizon", "horizon_tokens", "received", "excess", "final_tokens", "void_from")
    said: dict[str, Any] = {name: getattr(found, name) for name in numbers}
    said |= {"decision": str(found.decision), "violation": found.violation and violation(found.violation)}
    said |= {"flags": [violation(flag) for flag in found.flags]}
    said["tokens"] = [
        {
            "index": token.index,
            "id": token.token_id,
            "byte_start": token.byte_start,
            "byte_end": token.byte_end,
            "channel": str(token.channel),
            "final": token.is_final,
            "verdict": verdict(token.verdict),
        }
        for token in found.tokens
    ]
    if found.opinions:
        said["opinions"] = [opinion(one) for one in found.opinions]
    return said


def value(step: Step) -> Any:
    """What a call is given."""
    name = step["call"]
    if name in ("prompt", "next_turn"):
        return [Message(**message) for message in step["messages"]]
    if name in ("push_text", "push_thinking"):
        text: Any = bytes.fromhex(step["hex"]) if "hex" in step else step["text"]
        return text * step.get("repeat", 1)
    return {"push_tokens": step.get("ids"), "truncate": step.get("bytes"), "truncate_tokens": step.get("tokens")}.get(name)


class Runner:
    """Makes the calls of a case."""

    def __init__(self, guard: Guard, make: Callable[[Stream, str, Any], Any]) -> None:
        self.guard, self.make = guard, make
        self.streams: list[Stream] = []

    def answer(self, step: Step) -> dict[str, Any]:
        try:
            return self.call(step)
        except GuardError as failure:
            return error(failure)

    def call(self, step: Step) -> dict[str, Any]:
        name = step["call"]
        if name == "open":
            return self.add(self.guard.stream(step.get("policy")))
        if name == "encode":
            tokens = self.guard.encode(step["text"])
            return {"ids": [token.id for token in tokens], "spans": [[*token[1:]] for token in tokens]}
        if name == "call_all":
            return {"replies": [answer(reply) for reply in call_all([self.made(one) for one in step["calls"]])]}
        if name == "queue":
            return {"replies": self.queue(step["calls"])}
        stream = self.streams[step.get("stream", 0)]
        if name == "fork":
            return self.add(stream.fork())
        if name == "context_used":
            return {"tokens": stream.context_used}
        return answer(self.make(stream, name, value(step)))

    def add(self, stream: Stream) -> dict[str, Any]:
        self.streams.append(stream)
        return {}

    def made(self, step: Step) -> Call:
        make = getattr(Call, step["call"])
        arguments = [] if step["call"] == "finish" else [value(step)]
        call: Call = make(self.streams[step.get("stream", 0)], *arguments)
        return call

    def queue(self, steps: list[Step]) -> list[Any]:
        replies: list[Any] = [None] * len(steps)
        with CompletionQueue() as queue:
            for index, step in enumerate(steps):
                try:
                    queue.submit(self.made(step), tag=index)
                except GuardError as failure:
                    replies[index] = error(failure)
            for done in queue:
                replies[done.tag] = answer(done.error or done.reply)
        return replies


def at_once(stream: Stream, name: str, given: Any) -> Any:
    return getattr(stream, name)(*([] if name == "finish" else [given]))


def under_asyncio(stream: Stream, name: str, given: Any) -> Any:
    return asyncio.run(getattr(stream, f"{name}_async")(*([] if name == "finish" else [given])))


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REPOSITORY / f"tests/vectors/{name}.json").read_text())
    assert found["format"] == 1 and found["cases"]
    return found


@pytest.mark.parametrize("make", [at_once, under_asyncio])
@pytest.mark.parametrize("name", FILES)
def test_every_language_says_the_same(name: str, make: Callable[[Stream, str, Any], Any]) -> None:
    file = read(name)
    config = file["config"]
    if "second_opinion" in file:
        config += f"\n[second_opinion]\nbundle = '{REPOSITORY / file['second_opinion']}'\ncache_mib = 64\n"
    with Guard.nano(config=config) as guard:
        assert guard.prompt_categories() == file["categories"]["prompt"]
        assert guard.answer_categories() == file["categories"]["answer"]
        for case in file["cases"]:
            runner = Runner(guard, make)
            for index, step in enumerate(case["steps"]):
                same(f"{case['name']}: step {index}, {step['call']}", step["expect"], runner.answer(step))
            for stream in runner.streams:
                stream.close()
