"""Compares exported graphs of a Gen model with the reference: label probabilities, and whole answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import exported, reference
from .checkpoint import Checkpoint
from .config import ModelConfig
from .decoding import Annotation, Asking, annotate, mode_of
from .errors import ExportError
from .graph.lm_head import CANDIDATES, NEXT_TOKEN
from .parity import FP32_LIMIT, Evaluate
from .samples import JUDGED
from .text import Text

# The least agreement on the likeliest candidate. Measured on small checkpoints, random ones and a trained one: int8 has
# 0.97 and int4 0.55 or more; a graph with wrong positions has 0.30 to 0.46.
FLOORS = {"fp32": 0.99, "fp16": 0.97, "bf16": 0.9, "int8": 0.9, "int4": 0.5}


@dataclass(frozen=True)
class GenParity:
    tokens: int
    texts: int
    max_prob_diff: float
    label_agreement: float
    answer_agreement: float
    candidate_agreement: float
    next_token_agreement: float
    outside_grammar: float

    def lines(self) -> list[str]:
        return [
            f"parity with the checkpoint in fp32, on {self.texts} texts with {self.tokens} tokens:",
            f"  largest difference of a probability {self.max_prob_diff:.2e}",
            f"  equal labels {self.label_agreement:.1%}, equal answers {self.answer_agreement:.1%}",
            f"  equal likeliest candidates {self.candidate_agreement:.1%}, tokens {self.next_token_agreement:.1%}",
            f"  the likeliest token leaves the grammar in {self.outside_grammar:.1%} of the answers' tokens",
        ]

    def table(self) -> dict[str, object]:
        return {
            "tokens": self.tokens,
            "texts": self.texts,
            # Beyond these digits it is noise of the machine that ran the comparison.
            "max_prob_diff": float(f"{self.max_prob_diff:.2e}"),
            "label_agreement": round(self.label_agreement, 4),
            "answer_agreement": round(self.answer_agreement, 4),
            "candidate_agreement": round(self.candidate_agreement, 4),
            "next_token_agreement": round(self.next_token_agreement, 4),
            "outside_grammar": round(self.outside_grammar, 4),
        }

    def line(self) -> str:
        """The same on one line."""
        return (
            f"largest probability difference {self.max_prob_diff:.2e}, equal labels {self.label_agreement:.1%}, "
            f"equal likeliest candidates {self.candidate_agreement:.1%}, tokens {self.next_token_agreement:.1%}"
        )

    def check(self, precision: str, graph: str | None = None) -> None:
        """Fails if the graph is wrong. `graph` names it where its precision is not enough."""
        name = graph or precision
        # Written so that what is not a number fails as well.
        if not self.candidate_agreement >= FLOORS[precision]:
            raise ExportError(
                f"parity: the {name} graph and the checkpoint agree on {self.candidate_agreement:.1%} of the "
                f"likeliest candidates, the least is {FLOORS[precision]:.0%}"
            )
        if precision == "fp32" and not self.max_prob_diff <= FP32_LIMIT:
            raise ExportError(
                f"parity: the fp32 graph differs from the checkpoint by {self.max_prob_diff:.2e}, "
                f"more than {FP32_LIMIT:.0e}"
            )


def reference_steps(config: ModelConfig) -> int:
    """How often a reference reports progress: it decides step by step, and most texts take a few."""
    return 4 * config.num_layers


class Reference:
    """The reference's answers. Of the candidates every token of prompts and answers counts, of the vocabulary the
    answers' tokens."""

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig, text: Text, progress: Callable[[], object]) -> None:
        self._text = text
        self._candidates = candidates_of(text)
        decoder = reference.Decoder(checkpoint, config, len(text.samples), progress)
        wanted = [_start(text, index) for index in range(len(text.samples))]
        decoder.decode(dict(enumerate(asking for _, asking in wanted)), self._candidates)
        self._annotations = [annotation for annotation, _ in wanted]
        self._logits = decoder.all_logits([one.ids[:-1] for one in self._annotations], self._candidates)
        if not all(np.isfinite(logits).all() for logits in self._logits):
            raise ExportError("parity: the checkpoint gives logits that are not finite")
        self._sequences, self._rows = _sequences(self._annotations)
        count = len(self._annotations)
        self._next_tokens = np.concatenate([decoder.next_tokens(index, self._rows[index]) for index in range(count)])

    def measure(self, evaluate: Evaluate) -> GenParity:
        """Runs a graph on the same tokens, and decodes with its logits."""
        found = evaluate(self._sequences, self._rows)
        exported.require_finite(found, "parity")
        by_graph = np.split(found[CANDIDATES], np.cumsum([len(ids) for ids in self._sequences])[:-1])
        first = min(len(one.prompt) for one in self._annotations)
        known = {
            tuple(ids[: end + 1]): logits[end]
            for ids, logits in zip(self._sequences, by_graph, strict=True)
            for end in range(first, len(ids))
        }
        again = []
        for index in range(len(self._annotations)):
            annotation, asking = _start(self._text, index)
            _follow(asking, known, self._candidates)
            again.append(annotation)
        next_tokens = self._next_tokens, found[NEXT_TOKEN].argmax(axis=-1)
        return _compare(self._annotations, again, (self._logits, by_graph), next_tokens)

    @property
    def longest(self) -> int:
        return max(map(len, self._sequences))


def candidates_of(text: Text) -> tuple[int, ...]:
    assert text.grammar and text.pieces
    return text.grammar.candidates(text.pieces, text.tokens["turn_end"])


def _start(text: Text, index: int) -> tuple[Annotation, Asking]:
    assert text.grammar and text.pieces
    annotation = Annotation(text.samples[index])
    mode, end = mode_of(JUDGED[index]), text.tokens["turn_end"]
    return annotation, annotate(annotation, text.grammar, text.pieces, mode, end)


def _sequences(annotations: list[Annotation]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What the graph is run on: the answers, then what was asked beside them, of names that begin alike; and the rows
    whose next tokens are the answers'."""
    sequences = [np.array(one.ids[:-1]) for one in annotations]
    rows = [np.arange(len(one.prompt) - 1, len(one.ids) - 1) for one in annotations]
    for one in annotations:
        aside = [ids for ids in one.decisions if ids != tuple(one.ids[: len(ids)])]
        sequences += map(np.array, aside)
        rows += [np.zeros(0)] * len(aside)
    return sequences, rows


def _follow(asking: Asking, known: dict[tuple[int, ...], np.ndarray], candidates: tuple[int, ...]) -> None:
    """Decodes with the graph's logits, up to where its answer leaves the reference's: beyond, they are not known."""
    try:
        ids = next(asking)
        while ids in known:
            ids = asking.send(dict(zip(candidates, map(float, known[ids]), strict=True)))
    except StopIteration:
        pass


def _compare(
    wanted: list[Annotation],
    found: list[Annotation],
    candidates: tuple[list[np.ndarray], list[np.ndarray]],
    next_tokens: tuple[np.ndarray, np.ndarray],
) -> GenParity:
    differences = [
        np.abs(a - b).max()
        for one, other in zip(wanted, found, strict=True)
        for a, b in zip(one.probabilities, other.probabilities, strict=False)
    ]
    # What was asked beside the answers comes after them.
    likeliest = [np.concatenate([logits.argmax(axis=-1) for logits in side[: len(wanted)]]) for side in candidates]
    allowed = [
        one.decisions.get(tuple(one.ids[:end]), one.ids[end : end + 1])
        for one in wanted
        for end in range(len(one.prompt), len(one.ids))
    ]
    outside = [token not in tokens for token, tokens in zip(next_tokens[1], allowed, strict=True)]
    return GenParity(
        tokens=len(likeliest[0]),
        texts=len(wanted),
        max_prob_diff=float(max(differences)),
        label_agreement=float(np.mean([a.label == b.label for a, b in zip(wanted, found, strict=True)])),
        answer_agreement=float(np.mean([a.ids == b.ids for a, b in zip(wanted, found, strict=True)])),
        candidate_agreement=float(np.mean(likeliest[0] == likeliest[1])),
        next_token_agreement=float(np.mean(next_tokens[0] == next_tokens[1])),
        outside_grammar=float(np.mean(outside)),
    )
