"""The paged graph for CUDA: bfloat16, with the norms of q and k in the attention operator."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from onnx import ModelProto

from ...config import ModelConfig
from ...store import WeightStore
from .gpu import ABSENT, GpuNodes, GpuTrunk, build_paged


def block_tokens(config: ModelConfig) -> int:
    """FlashAttention reads blocks of a multiple of these sizes; others go to a slow kernel."""
    return 256 if config.head_dim <= 64 else 128


def build(config: ModelConfig, store: WeightStore, candidates: tuple[int, ...], weight_bits: int) -> ModelProto:
    nodes = _CudaNodes(store, config.rms_norm_eps, weight_bits)
    return build_paged(_CudaTrunk(nodes, config), config, candidates, block_tokens(config))


class _CudaNodes(GpuNodes):
    hidden_type = np.dtype(ml_dtypes.bfloat16)
    stream_type = hidden_type

    def input_norm(self, name: str, stream: str, weight: str) -> str:
        return self.layer_norm(name, stream, weight)

    def skip_norm(self, name: str, branch: str, stream: str, weight: str) -> tuple[str, str]:
        return self.skip_layer_norm(name, branch, stream, weight)

    def final_norm(self, name: str, branch: str, stream: str, weight: str) -> str:
        """In float32, so that the heads do not get what is rounded to bfloat16."""
        floats = [
            self.cast(f"{name}/{part}", value, np.dtype(np.float32))
            for part, value in (("branch", branch), ("stream", stream))
        ]
        return self.skip_layer_norm(name, *floats, weight, keep_sum=False)[0]


class _CudaTrunk(GpuTrunk):
    def queries(self, layer: int, qkv: str) -> tuple[list[str], list[str]]:
        return [qkv, ABSENT, ABSENT], self.head_norms(layer, self.nodes.hidden_type)
