"""A plain float32 evaluation of a checkpoint, written to be read: what the exported graph is compared with.

It shares no code with the graph: full-width rotary tables, unfused projections, one sequence after the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .checkpoint import HEADS, Checkpoint, head_of, read
from .config import ModelConfig
from .decoding import Asking
from .store import rows_per_chunk

Sequences = list[np.ndarray]


def evaluate(
    checkpoint: Checkpoint, config: ModelConfig, sequences: Sequences, progress: Callable[[], object]
) -> dict[str, np.ndarray]:
    """Logits [tokens, labels] of each head, for all sequences one after the other."""
    return _Model(checkpoint, config).run(sequences, progress)


class _Model:
    def __init__(self, checkpoint: Checkpoint, config: ModelConfig) -> None:
        self.checkpoint = checkpoint
        self.config = config

    def run(self, sequences: Sequences, progress: Callable[[], object]) -> dict[str, np.ndarray]:
        ends = np.cumsum([len(ids) for ids in sequences])
        hidden = self.trunk(sequences, ends, progress)
        return {**self.heads("response", "", hidden), **self.heads("query", "query_", hidden)}

    def trunk(self, sequences: Sequences, ends: np.ndarray, progress: Callable[[], object]) -> np.ndarray:
        hidden = self.embed(np.concatenate(sequences))
        for layer in range(self.config.num_layers):
            hidden = self.layer(f"model.layers.{layer}", hidden, ends)
            progress()
        return self.norm("model.norm.weight", hidden)

    def embed(self, ids: np.ndarray) -> np.ndarray:
        rows = {token: self.checkpoint.read_rows("model.embed_tokens.weight", token, token + 1) for token in set(ids)}
        return np.concatenate([rows[token] for token in ids]).astype(np.float32)

    def layer(self, prefix: str, hidden: np.ndarray, ends: np.ndarray) -> np.ndarray:
        normed = self.norm(f"{prefix}.input_layernorm.weight", hidden)
        hidden = hidden + self.attention(f"{prefix}.self_attn", normed, ends)
        normed = self.norm(f"{prefix}.post_attention_layernorm.weight", hidden)
        return hidden + self.mlp(f"{prefix}.mlp", normed)

    def attention(self, prefix: str, x: np.ndarray, ends: np.ndarray) -> np.ndarray:
        heads, kv_heads, size = self.config.num_heads, self.config.num_kv_heads, self.config.head_dim
        q = self.linear(f"{prefix}.q_proj.weight", x).reshape(-1, heads, size)
        k = self.linear(f"{prefix}.k_proj.weight", x).reshape(-1, kv_heads, size)
        v = self.linear(f"{prefix}.v_proj.weight", x).reshape(-1, kv_heads, size)
        q = self.norm(f"{prefix}.q_norm.weight", q)
        k = self.norm(f"{prefix}.k_norm.weight", k)
        attended = np.empty_like(q)
        for index, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            rows = slice(start, end)
            attended[rows] = self.attend_sequence(prefix, index, q[rows], k[rows], v[rows])
        return self.linear(f"{prefix}.o_proj.weight", attended.reshape(len(x), heads * size))

    def attend_sequence(self, prefix: str, index: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        return self.attend(self.rotate(q), self.rotate(k), v)

    def attend(self, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        group = self.config.num_heads // self.config.num_kv_heads
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(np.float32(self.config.head_dim))
        # The queries are the last of the tokens.
        future = np.triu(np.ones(scores.shape[1:], dtype=bool), 1 + len(k) - len(q))
        weights = softmax(np.where(future, -np.inf, scores))
        return np.einsum("hqk,khd->qhd", weights, v)

    def rotate(self, x: np.ndarray, first_position: int = 0) -> np.ndarray:
        size = self.config.head_dim
        exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
        frequencies = np.tile(np.float32(1) / np.float32(self.config.rope_theta) ** exponents, 2)
        positions = np.arange(first_position, first_position + len(x), dtype=np.float32)
        angles = (positions[:, None] * frequencies)[:, None, :]
        first, second = x[..., : size // 2], x[..., size // 2 :]
        return x * np.cos(angles) + np.concatenate([-second, first], axis=-1) * np.sin(angles)

    def mlp(self, prefix: str, x: np.ndarray) -> np.ndarray:
        gate = self.linear(f"{prefix}.gate_proj.weight", x)
        up = self.linear(f"{prefix}.up_proj.weight", x)
        with np.errstate(over="ignore"):
            swish = gate / (1 + np.exp(-gate))
        return self.linear(f"{prefix}.down_proj.weight", swish * up)

    def heads(self, role: str, prefix: str, hidden: np.ndarray) -> dict[str, np.ndarray]:
        inner = self.linear(f"{prefix}risk_level_category_pre.weight", hidden)
        inner = self.norm(f"{prefix}risk_level_category_layernorm.weight", inner)
        return {labels: self.linear(HEADS[labels], inner) for labels in (f"{role}_risk", f"{role}_category")}

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        variance = np.mean(x * x, axis=-1, keepdims=True)
        weight = read(self.checkpoint, name).astype(np.float32)
        return x / np.sqrt(variance + np.float32(self.config.rms_norm_eps)) * weight

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        """x times the transposed weight, which is read some rows at a time."""
        info = self.checkpoint.tensors[name]
        out = np.empty((len(x), info.shape[0]), dtype=np.float32)
        step = rows_per_chunk(info)
        for start in range(0, info.shape[0], step):
            stop = min(start + step, info.shape[0])
            weight = self.checkpoint.read_rows(name, start, stop).astype(np.float32)
            out[:, start:stop] = x @ weight.T
        return out


class Decoder(_Model):
    """Runs sequences of a Gen model that go on: keys, values and last hidden states of their tokens are kept."""

    def __init__(self, checkpoint: Checkpoint, config: ModelConfig, count: int, progress: Callable[[], object]) -> None:
        super().__init__(checkpoint, config)
        self.progress = progress
        self.ids: list[list[int]] = [[] for _ in range(count)]
        self.hidden = [np.zeros((0, config.hidden_size), np.float32)] * count
        # By layer and sequence: keys, which are rotated, and values.
        self.past: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
        self.running: list[int] = []

    def decode(self, asking: dict[int, Asking], candidates: tuple[int, ...]) -> None:
        """Answers what is asked of each sequence, of all in one step, until nobody asks."""
        asked = {index: next(one) for index, one in asking.items()}
        while asked:
            self.feed({index: list(ids) for index, ids in asked.items()})
            rows = np.stack([self.hidden[index][-1] for index in asked])
            logits = self.candidates(rows, candidates)
            answers, asked = dict(zip(asked, logits, strict=True)), {}
            for index, row in answers.items():
                try:
                    asked[index] = asking[index].send(dict(zip(candidates, map(float, row), strict=True)))
                except StopIteration:
                    pass

    def feed(self, wanted: dict[int, list[int]]) -> None:
        """Brings sequences to the given tokens, and computes those that it did not have."""
        pieces = {}
        for index, ids in wanted.items():
            kept = _common(self.ids[index], ids)
            self._cut(index, kept)
            if ids[kept:]:
                pieces[index] = np.array(ids[kept:])
            self.ids[index] = ids
        self.running = list(pieces)
        if pieces:
            ends = np.cumsum([len(piece) for piece in pieces.values()])
            hidden = np.split(self.trunk(list(pieces.values()), ends, self.progress), ends[:-1])
            for index, rows in zip(pieces, hidden, strict=True):
                self.hidden[index] = np.concatenate([self.hidden[index], rows])

    def all_logits(self, sequences: list[list[int]], candidates: tuple[int, ...]) -> list[np.ndarray]:
        """The candidates' logits at every token of every sequence."""
        self.feed(dict(enumerate(sequences)))
        return [self.candidates(hidden, candidates) for hidden in self.hidden]

    def candidates(self, hidden: np.ndarray, tokens: tuple[int, ...]) -> np.ndarray:
        weight = [self.checkpoint.read_rows(head_of(self.config), token, token + 1) for token in tokens]
        return hidden @ np.concatenate(weight).astype(np.float32).T

    def next_tokens(self, index: int, rows: np.ndarray) -> np.ndarray:
        """The likeliest of the whole vocabulary after some tokens of a sequence."""
        return self.linear(head_of(self.config), self.hidden[index][rows]).argmax(axis=-1)

    def attend_sequence(self, prefix: str, index: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        place = prefix, self.running[index]
        start = len(self.past[place][0]) if place in self.past else 0
        k = self.rotate(k, start)
        if start:
            keys, values = self.past[place]
            k, v = np.concatenate([keys, k]), np.concatenate([values, v])
        self.past[place] = k, v
        return self.attend(self.rotate(q, start), k, v)

    def _cut(self, index: int, kept: int) -> None:
        self.hidden[index] = self.hidden[index][:kept]
        for (prefix, other), (keys, values) in self.past.items():
            if other == index:
                self.past[prefix, other] = keys[:kept], values[:kept]


def _common(first: list[int], second: list[int]) -> int:
    """How many tokens two sequences begin with alike."""
    for index, pair in enumerate(zip(first, second, strict=False)):
        if pair[0] != pair[1]:
            return index
    return min(len(first), len(second))


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
