"""Annotations of which every language says the same."""

import asyncio
import json
from typing import Any

import pytest
from compare import error, same
from conftest import REPOSITORY

from qwenguard import Annotation, AnnotationFinding, CompletionQueue, Guard, GuardError, Message

FILE = json.loads((REPOSITORY / "tests/vectors/annotations.json").read_text())
GROUPS = FILE["groups"]
LEVELS = ("Safe", "Controversial", "Unsafe")


def finding(found: AnnotationFinding | None) -> dict[str, Any] | None:
    if found is None:
        return None
    said = {"category": found.category, "probability": found.probability, "rule": found.rule}
    return said | {"action": str(found.action), "risk": str(found.risk)}


def answer(case: dict[str, Any], found: Annotation | GuardError, all_found: list[Any]) -> dict[str, Any]:
    if isinstance(found, GuardError):
        return error(found)
    risks, categories = found.risk_probabilities, found.category_probabilities
    return {
        "mode": str(found.mode),
        "risk": str(found.risk),
        "risk_probs": [risks[level] for level in LEVELS] if risks else None,  # type: ignore[index]
        "categories": list(found.categories),
        "category_probs": None if categories is None else list(categories.values()),
        "none_prob": found.none_probability,
        "refusal": found.refusal,
        "refusal_prob": found.refusal_probability,
        "parsed": found.parsed,
        "answer": found.answer,
        "cut": found.is_cut,
        "judged": list(found.judged),
        "windows": found.windows,
        "ids": found.id_count,
        "decision": str(found.decision),
        "finding": finding(found.finding),
        "judgements": [judged(found, policy) for policy in case.get("policies", [])],
        "rewards": [rewarded(found, reward, all_found) for reward in case.get("rewards", [])],
    }


def judged(found: Annotation, policy: str) -> dict[str, Any]:
    try:
        judgement = found.judge(policy)
    except GuardError as failure:
        return error(failure)
    return {"decision": str(judgement.decision), "finding": finding(judgement.finding)}


def rewarded(found: Annotation, reward: dict[str, Any], all_found: list[Any]) -> dict[str, Any]:
    thinking = all_found[reward["thinking"]] if "thinking" in reward else None
    try:
        return {"reward": found.reward(reward.get("rule"), reward.get("helpfulness", 0.0), thinking)}
    except GuardError as failure:
        return error(failure)


def conversations(group: dict[str, Any]) -> list[list[Message]]:
    every = []
    for case in group["cases"]:
        messages = [Message(**message) for message in case["messages"]]
        if "repeat" in case:
            messages[-1] = Message(messages[-1].role, messages[-1].content * case["repeat"])
        every.append(messages)
    return every


def alone(guard: Guard, group: dict[str, Any], options: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    for conversation in conversations(group):
        try:
            found.append(guard.annotate(conversation, **options))
        except GuardError as failure:
            found.append(failure)
    return found


def together(guard: Guard, group: dict[str, Any], options: dict[str, Any]) -> list[Any]:
    return guard.annotate_all(conversations(group), return_errors=True, **options)


def queued(guard: Guard, group: dict[str, Any], options: dict[str, Any]) -> list[Any]:
    found: list[Any] = [None] * len(group["cases"])
    with CompletionQueue() as queue:
        for index, conversation in enumerate(conversations(group)):
            queue.annotate(guard, conversation, tag=index, **options)
        for done in queue:
            assert done.stream is None
            found[done.tag] = done.error or done.reply
    return found


def under_asyncio(guard: Guard, group: dict[str, Any], options: dict[str, Any]) -> list[Any]:
    async def every() -> list[Any]:
        calls = [guard.annotate_async(conversation, **options) for conversation in conversations(group)]
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(every())


@pytest.mark.parametrize("group", GROUPS, ids=[f"{g['guard'].split('/')[-1]}-{g['decoding']}-{g['overflow']}" for g in GROUPS])
def test_every_language_says_the_same(group: dict[str, Any]) -> None:
    kinds = {"nano": Guard.nano, "nano-gen": Guard.nano_gen}
    name, config = group["guard"], FILE["config"]
    options = {"decoding": group["decoding"], "overflow": group["overflow"]}
    with kinds[name](config=config) if name in kinds else Guard.open(REPOSITORY / name, config=config) as guard:
        assert guard.prompt_categories() == group["categories"]["prompt"]
        assert guard.answer_categories() == group["categories"]["response"]
        for way in (alone, together, queued, under_asyncio):
            found = way(guard, group, options)
            for case, one in zip(group["cases"], found, strict=True):
                same(f"{case['name']}, {way.__name__}", case["expect"], answer(case, one, found))
