"""Models with random weights, in true shapes for speed work, where no checkpoint is at hand."""

from __future__ import annotations

import zlib
from typing import Any

import ml_dtypes
import numpy as np

from .checkpoint import TensorInfo, expected_shapes
from .config import STREAM, ModelConfig

_RISKS = ["Safe", "Unsafe", "Controversial"]
_CATEGORIES = [
    "Violent",
    "Sexual Content or Sexual Acts",
    "Suicide & Self-Harm",
    "Politically Sensitive Topics",
    "PII",
    "Copyright Violation",
    "Non-violent Illegal Acts",
    "Unethical Acts",
]

# hidden, layers, heads, kv heads, intermediate, guard inner size. "tiny" is no model's: it is for tests that need a
# real tokenizer's vocabulary. The inner size of the two larger models is not
# published outside their checkpoints: hidden / 2, as in the smallest one, is an assumption that is good enough for
# speed work, where the heads are a fraction of a percent.
_SIZES = {
    "tiny": (64, 2, 2, 1, 128, 32),
    "0.6B": (1024, 28, 16, 8, 3072, 512),
    "4B": (2560, 36, 32, 8, 9728, 1280),
    "8B": (4096, 36, 32, 8, 12288, 2048),
}
SIZE_NAMES = tuple(_SIZES)

# Weights are drawn in blocks of about this many values, each with its own seed, so that any row can be had without
# drawing those before it, and the values do not depend on how the reader slices.
_BLOCK_VALUES = 65536
_WEIGHT_STD = 0.02
_NORM_STD = 0.1


def random_config(size: str, variant: str = STREAM) -> ModelConfig:
    hidden, layers, heads, kv_heads, intermediate, inner = _SIZES[size]
    return ModelConfig(
        vocab_size=151936,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=128,
        intermediate_size=intermediate,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        **(_stream(inner) if variant == STREAM else _gen(size)),
    )


def _stream(inner: int) -> dict[str, Any]:
    labels = {
        "response_risk": _RISKS,
        "response_category": _CATEGORIES,
        "query_risk": _RISKS,
        "query_category": [*_CATEGORIES, "Jailbreak"],
    }
    return {"context": 8192, "guard_inner_size": inner, "labels": labels}


def _gen(size: str) -> dict[str, Any]:
    # Of the published models only the smallest is known to be tied.
    return {"context": 32768, "tied": size in ("tiny", "0.6B")}


class RandomCheckpoint:
    """Stands in for a checkpoint folder: bfloat16 tensors that depend only on seed and tensor name."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        dtype = np.dtype(ml_dtypes.bfloat16)
        self.tensors = {name: TensorInfo(shape, dtype) for name, shape in expected_shapes(config).items()}
        self._seed = seed

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        info = self.tensors[name]
        row_values = info.nbytes // info.dtype.itemsize // info.shape[0]
        block_rows = max(1, _BLOCK_VALUES // row_values)
        first = start // block_rows
        rows = np.empty((stop - start, *info.shape[1:]), info.dtype)
        for block in range(first, (stop - 1) // block_rows + 1):
            begin = block * block_rows
            low, high = max(start, begin), min(stop, begin + block_rows)
            values = self._block(name, block, (block_rows, *info.shape[1:]))
            rows[low - start : high - start] = values[low - begin : high - begin]
        return rows

    def _block(self, name: str, block: int, shape: tuple[int, ...]) -> np.ndarray:
        generator = np.random.default_rng([self._seed, zlib.crc32(name.encode()), block])
        values = generator.standard_normal(shape, dtype=np.float32)
        # Norm weights, the only vectors, scatter around one as trained ones do.
        return values * _WEIGHT_STD if len(shape) > 1 else 1 + values * _NORM_STD
