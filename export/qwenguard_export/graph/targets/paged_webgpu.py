"""The paged graph for WebGPU: float16, and a residual stream in float32.

WebGPU has no bfloat16, and the residual stream of a Qwen3 model has values that come near the end of float16's range.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, helper

from ...config import ModelConfig
from ...store import WeightStore
from .gpu import GpuNodes, GpuTrunk, build_paged


def block_tokens(config: ModelConfig) -> int:
    """Blocks of 16 tokens give wrong results with version 0.4 of the provider, 32 and more right ones."""
    return 128


def build(config: ModelConfig, store: WeightStore, candidates: tuple[int, ...], weight_bits: int) -> ModelProto:
    nodes = _WebGpuNodes(store, config.rms_norm_eps, weight_bits)
    return build_paged(_WebGpuTrunk(nodes, config), config, candidates, block_tokens(config))


class _WebGpuNodes(GpuNodes):
    hidden_type = np.dtype(np.float16)

    def input_norm(self, name: str, stream: str, weight: str) -> str:
        return self.cast(f"{name}/half", self.layer_norm(name, stream, weight), self.hidden_type)

    def skip_norm(self, name: str, branch: str, stream: str, weight: str) -> tuple[str, str]:
        branch = self.cast(f"{name}/branch", branch, self.stream_type)
        normed, total = self.skip_layer_norm(name, branch, stream, weight)
        return self.cast(f"{name}/half", normed, self.hidden_type), total

    def final_norm(self, name: str, branch: str, stream: str, weight: str) -> str:
        branch = self.cast(f"{name}/branch", branch, self.stream_type)
        return self.skip_layer_norm(name, branch, stream, weight, keep_sum=False)[0]


class _WebGpuTrunk(GpuTrunk):
    def queries(self, layer: int, qkv: str) -> tuple[list[str], list[str]]:
        """The provider refuses the operator's own norms of q and k: they are nodes."""
        config, name = self.config, f"/layers.{layer}/attn"
        sizes = np.array([config.q_size, config.kv_size, config.kv_size], dtype=np.int64)
        self.store.constant("qkv.sizes", sizes)
        parts = [f"{name}/{part}" for part in "qkv"]
        self.nodes.add(helper.make_node("Split", [qkv, "qkv.sizes"], parts, name=f"{name}/split", axis=-1))
        weights = self.head_norms(layer, np.float16)
        return [*map(self._head_norm, parts[:2], weights), parts[2]], []

    def _head_norm(self, source: str, weight: str) -> str:
        """Normalises every head: all rows of heads are rows of one matrix."""
        self.store.constant("head.shape", np.array([-1, self.config.head_dim], dtype=np.int64))
        self.store.constant(f"{source[-1]}.shape", self._flat_shape(source[-1]))
        heads = self.nodes.node("Reshape", f"{source}_heads", [source, "head.shape"])
        normed = self.nodes.layer_norm(f"{source}_norm", heads, weight)
        return self.nodes.node("Reshape", f"{source}_flat", [normed, f"{source[-1]}.shape"])

    def _flat_shape(self, part: str) -> np.ndarray:
        size = self.config.q_size if part == "q" else self.config.kv_size
        return np.array([-1, size], dtype=np.int64)
