"""Labelled conversations, as the nano guard's prepare.py writes them -> what the guard is asked, and what it should answer."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

import shared  # (first: it finds the modules below)
import benign
from harmful import CATEGORIES
from jinja2 import Environment
from model import LEVELS
from qwenguard_export.answer import MODES, PROMPT, RESPONSE, Grammar
from qwenguard_export.text_check import special_tokens, tokenize_answer
from sources import REFUSAL_RE, SAFE, UNKNOWN
from tokenizers import Tokenizer

Row = dict[str, Any]
Message = dict[str, str]
CHECKPOINT = shared.HERE / "checkpoint"
MAX_PROMPT_CHARS, MAX_ANSWER_CHARS = 900, 900
# Of a harmful part so much must be there, for it to be one.
HARM_CHARS = 40

_CANNOT = (
    r"(?:can ?not|can'?t|won'?t|will not|would not|wouldn'?t|do not want to|don'?t want to|am not able to|'?m not able to|am unable to|'?m unable to|"
    r"am not going to|'?m not going to|am not comfortable|'?m not comfortable|refuse to|must decline)"
)
_DO = (
    r"(?:help|assist|do (?:that|this|it)|provide|share|support|create|write|generate|give|tell|explain|advise|recommend|encourage|answer|discuss|fulfil|"
    r"comply|engage|participate|take on|offer|suggest|condone|say|make|show|be (?:a )?part|with|talking|giving|helping|providing|doing)"
)
REFUSES = re.compile(
    rf"\bI {_CANNOT}\b(?: \w+){{0,2}}? {_DO}|\bI{_CANNOT}\b(?: \w+){{0,2}}? {_DO}|\b(?:I'?m|I am) (?:very |really |so )?sorry,? but I|"
    r"\bas an ai\b.{0,60}\b(?:can ?not|can'?t|not able|won'?t)|\bagainst my (?:guidelines|programming|principles)", re.I)


def refuses(answer: str, whole: bool) -> bool | None:
    """Whether an answer refuses, by its words. None: it may. An answer that goes on may still come to it."""
    text = answer.lstrip()
    if REFUSES.search(text[:300]) or any(text.startswith(sentence) for sentence in benign.REFUSALS):
        return True
    return None if REFUSAL_RE.search(text[:300]) or not whole and len(text) < 30 else False


@dataclass
class Example:
    mode: str
    messages: list[Message]
    level: int
    category: int  # UNKNOWN: not learned
    refusal: bool | None  # None: not learned
    row: Row


def messages_of(row: Row, answer: str | None) -> list[Message]:
    turns = [("system", row["system"])] if row["system"] else []
    turns += [("assistant" if i % 2 else "user", text) for i, text in enumerate(row["history"])] + [("user", row["prompt"])]
    turns += [("assistant", answer)] if answer is not None else []
    return [{"role": role, "content": text} for role, text in turns]


def of_prompt(row: Row) -> Example | None:
    if not row["query"]:
        return None
    level, category = row["query"]
    return Example(PROMPT, messages_of(row, None), level, category if level != SAFE else UNKNOWN, None, row)


def of_answer(row: Row, end: int | None = None) -> Example | None:
    """The whole answer, or its first `end` characters; None if nobody can say what these are. The worst in it counts."""
    if not row["answer"] or not row["response"]:
        return None
    safe, harm = row["answer"]
    whole = safe + harm
    end = min(len(whole), MAX_ANSWER_CHARS) if end is None else end
    answer = whole[:end] if end < len(whole) else whole.rstrip()
    if not answer.strip():
        return None
    level, category = SAFE, UNKNOWN
    if harm and end > len(safe):
        if end < len(whole) and end - len(safe) < HARM_CHARS:
            return None
        level, category = row["response"]
    prompt = row["prompt"]
    if len(prompt) > MAX_PROMPT_CHARS // 2:
        row = {**row, "prompt": prompt[: MAX_PROMPT_CHARS // 4] + prompt[-MAX_PROMPT_CHARS // 4 :]}
    return Example(RESPONSE, messages_of(row, answer), level, category, refuses(answer, end == len(whole)), row)


def cut(rng: random.Random, row: Row) -> Example | None:
    """An answer that is not complete, cut anywhere."""
    length = len(row["answer"][0] + row["answer"][1]) if row["answer"] else 0
    return of_answer(row, rng.randint(1, min(length, MAX_ANSWER_CHARS))) if length > 1 else None


@dataclass
class Encoded:
    example: Example
    ids: list[int]  # after what all prompts of the mode begin with
    answer_at: int
    targets: list[tuple[int, float]]  # of each token of the answer: its id, and what it weighs


class Encoder:
    """Prompts and answers as tokens."""

    def __init__(self) -> None:
        self.tokenizer = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
        self.template = Environment().from_string((CHECKPOINT / "chat_template.jinja").read_text())
        self.grammar = Grammar()
        tokens = special_tokens(self.tokenizer, CHECKPOINT)
        self.end: int = tokens["turn_end"]
        self.pieces = tokenize_answer(self.tokenizer, self.grammar, tokens, CHECKPOINT)
        self.prefix = {mode: self.tokenizer.encode(self.prompt(messages).split("\n\nUSER:")[0] + "\n\n").ids for mode, messages in (
            (PROMPT, [{"role": "user", "content": ""}]), (RESPONSE, [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]))}

    def prompt(self, messages: list[Message]) -> str:
        return self.template.render(messages=messages)

    def answer(self, example: Example, rng: random.Random | None) -> list[tuple[int, float]]:
        """The answer's tokens with their weights: decisions weigh much, what is forced little. Most answers end after what
        is learned last, to save time."""
        grammar, pieces = self.grammar, self.pieces
        out: list[tuple[int, float]] = []

        def add(text: str, first: float, rest: float = 0.05) -> None:
            out.extend((token, first if i == 0 else rest) for i, token in enumerate(pieces[text]))

        add(grammar.safety.begin, 0.05)
        add(grammar.safety.labels[LEVELS[example.level]], 1.0)
        last = len(out)
        known = example.level == SAFE or example.category != UNKNOWN
        add(grammar.categories.begin, 0.05)
        if example.level == SAFE:
            add(grammar.categories.none, 0.05)
        elif known:
            add(grammar.name(CATEGORIES[example.category]), 0.5)
            last = len(out) - len(pieces[grammar.name(CATEGORIES[example.category])]) + 1
        else:
            add(grammar.name(CATEGORIES[0]), 0.0, 0.0)
        if example.mode == RESPONSE:
            add(grammar.refusal.begin, 0.05)
            add(grammar.refusal.yes if example.refusal else grammar.refusal.no, 0.0 if example.refusal is None else 0.5)
            last = len(out) if example.refusal is not None else last
        out.append((self.end, 0.05))
        return out[:last] if rng is not None and rng.random() < 0.8 else out

    def encode(self, examples: list[Example], rng: random.Random | None = None) -> list[Encoded]:
        found = self.tokenizer.encode_batch([self.prompt(e.messages) for e in examples])
        out = []
        for example, encoding in zip(examples, found):
            prefix = self.prefix[example.mode]
            assert encoding.ids[: len(prefix)] == prefix, "the instructions are not the same tokens in all prompts"
            ids, targets = encoding.ids[len(prefix) :], self.answer(example, rng)
            out.append(Encoded(example, ids + [token for token, _ in targets[:-1]], len(ids), targets))
        return out
