"""A plain float32 evaluation of a checkpoint, written to be read: what the exported graph is compared with.

It shares no code with the graph: full-width rotary tables, unfused projections, one sequence after the other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .checkpoint import HEADS, Checkpoint, read
from .config import ModelConfig
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
        hidden = self.embed(np.concatenate(sequences))
        for layer in range(self.config.num_layers):
            hidden = self.layer(f"model.layers.{layer}", hidden, ends)
            progress()
        hidden = self.norm("model.norm.weight", hidden)
        return {**self.heads("response", "", hidden), **self.heads("query", "query_", hidden)}

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
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            rows = slice(start, end)
            attended[rows] = self.attend(self.rotate(q[rows]), self.rotate(k[rows]), v[rows])
        return self.linear(f"{prefix}.o_proj.weight", attended.reshape(len(x), heads * size))

    def attend(self, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        group = self.config.num_heads // self.config.num_kv_heads
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(np.float32(self.config.head_dim))
        future = np.triu(np.ones(scores.shape[1:], dtype=bool), 1)
        weights = softmax(np.where(future, -np.inf, scores))
        return np.einsum("hqk,khd->qhd", weights, v)

    def rotate(self, x: np.ndarray) -> np.ndarray:
        size = self.config.head_dim
        exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
        frequencies = np.tile(np.float32(1) / np.float32(self.config.rope_theta) ** exponents, 2)
        angles = (np.arange(len(x), dtype=np.float32)[:, None] * frequencies)[:, None, :]
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


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
