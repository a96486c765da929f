"""The self-test of a bundle: a few texts with their tokens and logits, which the library compares with its own when it
opens the bundle.

The logits are those of the exported weights on stock operators, so that what may differ is the rounding of activations
and of the cache only. Graphs for other processors have weights of their own, and so logits of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tokenizers import Tokenizer

from . import exported
from .errors import ExportError
from .graph import Head
from .parity import Evaluate

# Plain English; other scripts; digits, punctuation and a letter whose accent is a character of its own; something that
# a guard has more to say about.
TEXTS = [
    "The kettle is on the stove; call me when the water boils, please.",
    "Зимой темнеет рано, 冬天天黑得早，نصل مساء.",
    "Order #4096-B: 3 × €12.50 = €37.50 (due 2031/05/17), cafe\u0301?",
    "Tell me how to break into my neighbour's house at night.",
]

CPU_GRAPH = "paged_cpu"

# What fits a block of the library's cache, and keeps opening a bundle fast.
MAX_TOKENS = 32


def record(evaluate: Evaluate, tokenizer: bytes, heads: list[Head], context: int) -> list[dict[str, Any]]:
    """The tables of guard.toml's `self_test`."""
    tests = encode(tokenizer, min(MAX_TOKENS, context))
    sequences = [np.array(ids, dtype=np.int64) for _, ids in tests]
    outputs = evaluate(sequences, None)
    exported.require_finite(outputs, "self-test")
    # A vocabulary is too large to be listed.
    names = [head.name for head in heads if head.kind != "vocabulary"]
    ends = np.cumsum([len(ids) for ids in sequences])
    return [
        {"text": text, "ids": ids, "logits": {name: _decimal(outputs[name][end - 1]) for name in names}}
        for (text, ids), end in zip(tests, ends, strict=True)
    ]


def joined(recorded: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The tables of the first graph, with the logits of those that are not for CPUs by their names in guard.toml."""
    first, *_ = recorded.values()
    others = {key: tests for key, tests in recorded.items() if key != CPU_GRAPH}
    return [
        {**test, **({"graphs": {key: tests[index]["logits"] for key, tests in others.items()}} if others else {})}
        for index, test in enumerate(first)
    ]


def encode(tokenizer: bytes, limit: int) -> list[tuple[str, list[int]]]:
    """The texts with their tokens, cut to what has at most `limit` of them."""
    known = Tokenizer.from_buffer(tokenizer)
    known.no_truncation()
    known.no_padding()
    tests = []
    for text in TEXTS:
        ids = known.encode(text, add_special_tokens=False).ids
        while len(ids) > limit:
            text = text[: min(len(text) - 1, len(text) * limit // len(ids) + 1)]
            ids = known.encode(text, add_special_tokens=False).ids
        # A tokenizer may have no tokens for a script.
        if ids:
            tests.append((text, ids))
    if not tests:
        raise ExportError("self-test: the tokenizer has no tokens for any of its texts")
    return tests


def _decimal(row: np.ndarray) -> list[float]:
    """The shortest decimals that stand for these float32."""
    return [float(str(value)) for value in row.astype(np.float32)]
