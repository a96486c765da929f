"""Decodes a Gen model's answer held to its grammar: what the library does, written to be read.

A coroutine asks for the logits of the candidates after some tokens, and goes on with what it is sent.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np

from .answer import MODES, RESPONSE, Choices, Grammar, Pieces
from .limits import RISKS

# Asks with token ids, and is sent logits by token.
Logits = dict[int, float]
Asking = Generator[tuple[int, ...], Logits, None]

# Of equally probable levels the gravest counts.
_GRAVITY = {risk: gravity for gravity, risk in enumerate(RISKS)}


@dataclass
class Annotation:
    """`ids` are prompt and answer; `decisions` has, by the ids before it, the tokens that each was between."""

    prompt: list[int]
    ids: list[int] = field(default_factory=list)
    decisions: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    # By what was decided: probabilities of the choices, in the grammar's order.
    probabilities: list[np.ndarray] = field(default_factory=list)
    label: str = ""
    categories: list[str] = field(default_factory=list)
    refusal: bool | None = None

    @property
    def answer(self) -> list[int]:
        return self.ids[len(self.prompt) :]


def mode_of(messages: list[dict[str, str]]) -> str:
    """The role of the last message decides what is judged."""
    return RESPONSE if messages[-1]["role"] != "user" else MODES[0]


def annotate(result: Annotation, grammar: Grammar, pieces: Pieces, mode: str, end: int) -> Asking:
    """Fills in an annotation that has its prompt only."""
    result.ids = [*result.prompt, *pieces[grammar.safety.begin]]
    labels = list(grammar.safety.labels)
    probabilities = yield from _decide(result, grammar.label_choices(pieces))
    best = max(range(len(labels)), key=lambda index: (probabilities[index], _GRAVITY[labels[index]]))
    result.label = labels[best]
    result.ids += [*grammar.label_choices(pieces)[best], *pieces[grammar.categories.begin]]
    if result.label == RISKS[0]:
        result.ids += pieces[grammar.categories.none]
    else:
        yield from _categories(result, grammar, pieces, mode, end)
    if mode in grammar.refusal.modes:
        choices = grammar.refusal_choices(pieces)
        result.ids += pieces[grammar.refusal.begin]
        probabilities = yield from _decide(result, choices)
        # In doubt it is no refusal.
        result.refusal = bool(probabilities[0] > probabilities[1])
        result.ids += choices[0 if result.refusal else 1]
    result.ids.append(end)


def _categories(result: Annotation, grammar: Grammar, pieces: Pieces, mode: str, end: int) -> Asking:
    none, *names = grammar.category_choices(mode, pieces)
    left = dict(zip(grammar.categories.names(mode), names, strict=True))
    probabilities = yield from _decide(result, [none, *names])
    best = int(probabilities.argmax())
    if best == 0:
        result.ids += none
        return
    category = grammar.categories.names(mode)[best - 1]
    while True:
        result.categories.append(category)
        result.ids += left.pop(category)
        if not left:
            return
        another, ending = yield from _decide(result, grammar.after_name(mode, pieces, end))
        if not another > ending:
            return
        result.ids += pieces[grammar.categories.separator]
        probabilities = yield from _decide(result, list(left.values()))
        category = list(left)[int(probabilities.argmax())]


def _decide(result: Annotation, choices: Choices) -> Generator[tuple[int, ...], Logits, np.ndarray]:
    """The probability of each choice: the product of its tokens', each among the tokens that may stand there."""
    probabilities = np.ones(len(choices))
    for prefix, children in _nodes(choices):
        ids = (*result.ids, *prefix)
        result.decisions[ids] = children
        logits = yield ids
        values = np.array([logits[token] for token in children], dtype=np.float64)
        shares = np.exp(values - values.max())
        by_token = dict(zip(children, shares / shares.sum(), strict=True))
        for index, choice in enumerate(choices):
            if choice[: len(prefix)] == prefix:
                probabilities[index] *= by_token[choice[len(prefix)]]
    result.probabilities.append(probabilities)
    return probabilities


def _nodes(choices: Choices) -> list[tuple[tuple[int, ...], list[int]]]:
    """Where sequences that begin alike part: the tokens up to there, and those that follow."""
    children: dict[tuple[int, ...], dict[int, None]] = {}
    for choice in choices:
        for length in range(len(choice)):
            children.setdefault(choice[:length], {})[choice[length]] = None
    return [(prefix, list(tokens)) for prefix, tokens in children.items() if len(tokens) > 1]
