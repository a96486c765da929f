"""Compares exported graphs with the reference on sample texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import exported, reference
from .checkpoint import Checkpoint
from .config import LABEL_KEYS, ModelConfig
from .errors import ExportError

# A longer text shows nothing new, and a tokenizer without merges would make it slow.
_MAX_TOKENS = 64

# Of equally probable levels the first of these counts, as in the library.
_GRAVEST_FIRST = ("Unsafe", "Controversial", "Safe")

# fp32 differs by the order of additions only; anything larger is a wrong graph.
FP32_LIMIT = 1e-3

# Runs a graph: logits [tokens, classes] of each head for all sequences one after the other. A head of the whole
# vocabulary is computed for the rows of each sequence that come second.
Evaluate = Callable[[list[np.ndarray], list[np.ndarray] | None], dict[str, np.ndarray]]

# The least agreement. Measured on small random checkpoints, whose labels turn by hairs, int8 has 0.97 and int4 0.68 or
# more; a graph with wrong positions has 0.41 to 0.49 of the categories, on trained weights 0.76.
FLOORS = {"fp32": 0.99, "fp16": 0.97, "bf16": 0.9, "int8": 0.9, "int4": 0.6}


@dataclass(frozen=True)
class Parity:
    tokens: int
    prob_diff: dict[str, float]
    risk_agreement: float
    category_agreement: float

    @property
    def max_prob_diff(self) -> float:
        return max(self.prob_diff.values())

    def lines(self) -> list[str]:
        return [
            f"parity with the checkpoint in fp32, on {self.tokens} tokens of sample text:",
            *(
                f"  {labels.replace('_', ' '):<18} largest probability difference {diff:.2e}"
                for labels, diff in self.prob_diff.items()
            ),
            f"  equal risk labels {self.risk_agreement:.1%}, equal category labels {self.category_agreement:.1%}",
        ]

    def table(self) -> dict[str, object]:
        return {
            "tokens": self.tokens,
            # Beyond these digits it is noise of the machine that ran the comparison.
            "max_prob_diff": float(f"{self.max_prob_diff:.2e}"),
            "risk_agreement": round(self.risk_agreement, 4),
            "category_agreement": round(self.category_agreement, 4),
        }

    def line(self) -> str:
        """The same on one line."""
        return (
            f"largest probability difference {self.max_prob_diff:.2e}, equal risk labels {self.risk_agreement:.1%}, "
            f"equal category labels {self.category_agreement:.1%}"
        )

    def check(self, precision: str, graph: str | None = None) -> None:
        check(self, precision, graph)


class Reference:
    """The reference's logits of the sample texts: every position counts, for both roles."""

    def __init__(
        self, checkpoint: Checkpoint, config: ModelConfig, samples: list[list[int]], progress: Callable[[], object]
    ) -> None:
        limit = min(_MAX_TOKENS, config.context)
        self._sequences = [np.array(ids[:limit], dtype=np.int64) for ids in samples]
        self._names = config.labels
        self._wanted = reference.evaluate(checkpoint, config, self._sequences, progress)
        for labels, logits in self._wanted.items():
            if not np.isfinite(logits).all():
                raise ExportError(f"parity: the checkpoint gives {labels} logits that are not finite")

    def measure(self, evaluate: Evaluate) -> Parity:
        """Runs a graph on the same tokens."""
        found = evaluate(self._sequences, None)
        exported.require_finite(found, "parity")
        return compare(self._wanted, found, self._names)

    @property
    def longest(self) -> int:
        return max(map(len, self._sequences))


def reference_steps(config: ModelConfig) -> int:
    """How often a reference reports progress."""
    return config.num_layers


def compare(wanted: dict[str, np.ndarray], found: dict[str, np.ndarray], names: dict[str, list[str]]) -> Parity:
    diff = {
        labels: float(np.abs(reference.softmax(wanted[labels]) - reference.softmax(found[labels])).max())
        for labels in LABEL_KEYS
    }
    return Parity(
        tokens=len(wanted["response_risk"]),
        prob_diff=diff,
        risk_agreement=_agreement(wanted, found, "risk", names),
        category_agreement=_agreement(wanted, found, "category", names),
    )


def check(parity: Parity, precision: str, graph: str | None = None) -> None:
    """Fails if the graph is wrong. `graph` names it where its precision is not enough."""
    name = graph or precision
    # Written so that what is not a number fails as well.
    for kind, share in (("risk", parity.risk_agreement), ("category", parity.category_agreement)):
        if not share >= FLOORS[precision]:
            raise ExportError(
                f"parity: the {name} graph and the checkpoint agree on {share:.1%} of the {kind} labels, "
                f"the least is {FLOORS[precision]:.0%}"
            )
    if precision == "fp32" and not parity.max_prob_diff <= FP32_LIMIT:
        raise ExportError(
            f"parity: the {name} graph differs from the checkpoint by {parity.max_prob_diff:.2e}, "
            f"more than {FP32_LIMIT:.0e}"
        )


def _agreement(
    wanted: dict[str, np.ndarray], found: dict[str, np.ndarray], kind: str, names: dict[str, list[str]]
) -> float:
    heads = [f"{role}_{kind}" for role in ("response", "query")]
    equal = [likeliest(wanted[head], names[head]) == likeliest(found[head], names[head]) for head in heads]
    return float(np.mean(equal))


def likeliest(logits: np.ndarray, names: list[str]) -> np.ndarray:
    """Indices of the largest logits: of equal ones the gravest level, or the first category."""
    levels = [name.strip('"') for name in names]
    order = sorted(
        range(len(levels)),
        key=lambda index: _GRAVEST_FIRST.index(levels[index]) if levels[index] in _GRAVEST_FIRST else index,
    )
    return np.array(order)[logits[..., order].argmax(axis=-1)]
