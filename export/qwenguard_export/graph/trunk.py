"""The trunk: a Qwen3 decoder from token ids to the normalised hidden state of each token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from ..config import ModelConfig
from .nodes import Nodes

EMBED = "embed"
COSINES, SINES = "rope.cos", "rope.sin"

# The output that shows rows which are not finite, also those that no head is computed for.
ROW_CHECK = "row_check"


def batch_inputs() -> list[ValueInfoProto]:
    """What a paged graph is told about the tokens of a step."""
    return [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["tokens"]),
        helper.make_tensor_value_info("cu_seqlens", TensorProto.INT32, ["batch_plus_1"]),
        helper.make_tensor_value_info("past_lens", TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info("block_table", TensorProto.INT32, ["batch", "max_blocks"]),
    ]


def cache_names(suffix: str, layers: int) -> list[str]:
    return [f"{kind}_cache{suffix}.{layer}" for layer in range(layers) for kind in ("key", "value")]


def rotary_rows(config: ModelConfig, function: Callable[[np.ndarray], np.ndarray], start: int, stop: int) -> np.ndarray:
    """Rows of the table of cosines or sines, [context, head_dim / 2], in float32 all the way, as the original model
    computes them."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = np.float32(1) / np.float32(config.rope_theta) ** exponents
    return function(np.arange(start, stop, dtype=np.float32)[:, None] * frequencies)


class Trunk(ABC):
    """Layers and the names of their weights. What is abstract differs between targets."""

    def __init__(self, nodes: Nodes, config: ModelConfig) -> None:
        self.nodes = nodes
        self.store = nodes.store
        self.config = config

    def add(self) -> str:
        """Adds the trunk; returns the name of the hidden states."""
        # `stream` is the residual stream, `normed` its normalised copy, which each half layer starts from.
        stream = self.embedding()
        normed = self.nodes.input_norm("/layers.0/attn/input_norm", stream, self._input_norm_weight(0))
        for layer in range(self.config.num_layers):
            attended = self._attention(layer, normed)
            source = f"model.layers.{layer}.post_attention_layernorm.weight"
            weight = self.nodes.vector(f"layers.{layer}.mlp.norm", source, self.nodes.stream_type)
            normed, stream = self.nodes.skip_norm(f"/layers.{layer}/mlp/input_norm", attended, stream, weight)
            branch = self._mlp(layer, normed)
            normed, stream = self._norm_after(layer, branch, stream)
        self.row_check(normed)
        return normed

    @abstractmethod
    def embedding(self) -> str:
        """Adds what comes before the layers; returns the residual stream."""

    @abstractmethod
    def attend(self, layer: int, qkv: str) -> str:
        """Norms of q and k, rotation, attention. `qkv` has the three side by side."""

    @abstractmethod
    def gated(self, name: str, normed: str, weights: str, tensors: tuple[str, str]) -> str:
        """SiLU of one projection, times another."""

    def row_check(self, hidden: str) -> None:
        """The sum of a row is finite only if all of it is."""
        self.store.constant("row_check.axes", np.array([-1], dtype=np.int64))
        self.nodes.node("ReduceSum", "/norm/row_check", [hidden, "row_check.axes"], output=ROW_CHECK, keepdims=0)

    def rotary_tables(self, dtype: type[np.generic] = np.float32) -> None:
        for name, function in ((COSINES, np.cos), (SINES, np.sin)):
            shape = (self.config.context, self.config.head_dim // 2)
            self.store.table(name, shape, partial(rotary_rows, self.config, function), np.dtype(dtype))

    def head_norms(self, layer: int, dtype: type[np.generic] = np.float32) -> list[str]:
        """The weights that q and k are normalised with."""
        weights, source = f"layers.{layer}.attn", f"model.layers.{layer}.self_attn"
        return [
            self.nodes.vector(f"{weights}.{part}_norm", f"{source}.{part}_norm.weight", np.dtype(dtype))
            for part in "qk"
        ]

    def _norm_after(self, layer: int, branch: str, stream: str) -> tuple[str, str]:
        """Adds a layer's second branch to the stream, which is one step with the norm that comes next."""
        following = layer + 1
        if following == self.config.num_layers:
            weight = self.nodes.vector("norm", "model.norm.weight")
            return self.nodes.final_norm("/norm/final", branch, stream, weight), stream
        weight = self._input_norm_weight(following)
        return self.nodes.skip_norm(f"/layers.{following}/attn/input_norm", branch, stream, weight)

    def _input_norm_weight(self, layer: int) -> str:
        source = f"model.layers.{layer}.input_layernorm.weight"
        return self.nodes.vector(f"layers.{layer}.attn.norm", source, self.nodes.stream_type)

    def _attention(self, layer: int, normed: str) -> str:
        source, name, weights = f"model.layers.{layer}.self_attn", f"/layers.{layer}/attn", f"layers.{layer}.attn"
        tensors = [f"{source}.{part}_proj.weight" for part in "qkv"]
        qkv = self.nodes.projection(f"{name}/qkv", normed, f"{weights}.qkv", tensors)
        attended = self.attend(layer, qkv)
        return self.nodes.projection(f"{name}/o_proj", attended, f"{weights}.o_proj", [f"{source}.o_proj.weight"])

    def _mlp(self, layer: int, normed: str) -> str:
        source, name, weights = f"model.layers.{layer}.mlp", f"/layers.{layer}/mlp", f"layers.{layer}.mlp"
        gated = self.gated(name, normed, weights, (f"{source}.gate_proj.weight", f"{source}.up_proj.weight"))
        return self.nodes.projection(f"{name}/down_proj", gated, f"{weights}.down_proj", [f"{source}.down_proj.weight"])

    def two_projections(self, name: str, normed: str, weights: str, tensors: tuple[str, str]) -> list[str]:
        """Gate and values, each by a matrix of its own: to cut one result in two would be a node as well."""
        return [
            self.nodes.projection(f"{name}/{part}", normed, f"{weights}.{part}", [tensor])
            for part, tensor in zip(("gate_proj", "up_proj"), tensors, strict=True)
        ]
