"""The trunk: a Qwen3 decoder from token ids to the normalised hidden state of each token."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from ..checkpoint import EMBEDDING
from ..config import ModelConfig
from ..store import BITS
from .nodes import OWN_DOMAIN, Nodes

EMBED = "embed"

# The output that shows rows which are not finite, also those that no head is computed for.
ROW_CHECK = "row_check"


def add(nodes: Nodes, config: ModelConfig) -> str:
    """Adds the trunk; returns the name of the hidden states, [tokens, hidden size]."""
    return _Trunk(nodes, config).add()


def batch_inputs() -> list[ValueInfoProto]:
    return [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["tokens"]),
        helper.make_tensor_value_info("cu_seqlens", TensorProto.INT32, ["batch_plus_1"]),
        helper.make_tensor_value_info("past_lens", TensorProto.INT32, ["batch"]),
        helper.make_tensor_value_info("block_table", TensorProto.INT32, ["batch", "max_blocks"]),
    ]


def caches(config: ModelConfig, suffix: str) -> list[ValueInfoProto]:
    """The caches as inputs, or with the suffix _out as outputs."""
    shape: list[str | int | None] = ["num_blocks", config.num_kv_heads, "record_bytes"]
    return [
        helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in cache_names(suffix, config.num_layers)
    ]


def cache_names(suffix: str, layers: int) -> list[str]:
    return [f"{kind}_cache{suffix}.{layer}" for layer in range(layers) for kind in ("key", "value")]


def rotary_rows(config: ModelConfig, function: Callable[[np.ndarray], np.ndarray], start: int, stop: int) -> np.ndarray:
    """Rows of the table of cosines or sines, [context, head_dim / 2], in float32 all the way, as the original model
    computes them."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = np.float32(1) / np.float32(config.rope_theta) ** exponents
    return function(np.arange(start, stop, dtype=np.float32)[:, None] * frequencies)


class _Trunk:
    def __init__(self, nodes: Nodes, config: ModelConfig) -> None:
        self.nodes = nodes
        self.store = nodes.store
        self.config = config

    def add(self) -> str:
        # `stream` is the residual stream, `normed` its normalised copy, which each half layer starts from.
        stream = self._embedding()
        for name, function in (("rope.cos", np.cos), ("rope.sin", np.sin)):
            shape = (self.config.context, self.config.head_dim // 2)
            self.store.table(name, shape, partial(rotary_rows, self.config, function))
        normed = self.nodes.norm("/layers.0/attn/input_norm", stream, self._input_norm_weight(0))
        for layer in range(self.config.num_layers):
            attended = self._attention(layer, normed)
            source = f"model.layers.{layer}.post_attention_layernorm.weight"
            weight = self.nodes.vector(f"layers.{layer}.mlp.norm", source)
            normed, stream = self.nodes.skip_norm(f"/layers.{layer}/mlp/input_norm", attended, stream, weight)
            branch = self._mlp(layer, normed)
            normed, stream = self._norm_after(layer, branch, stream)
        self._row_check(normed)
        return normed

    def _embedding(self) -> str:
        if self.config.tied:
            return self._shared_embedding()
        is_half = self.store.embedding(EMBED, EMBEDDING)
        rows = self.nodes.node("Gather", "/embed/gather", [EMBED, "input_ids"], axis=0)
        return self.nodes.node("Cast", "/embed/cast", [rows], to=TensorProto.FLOAT) if is_half else rows

    def _shared_embedding(self) -> str:
        """A table that is the LM head too, and is stored as that needs it: in 8 bits as MatMulInt8 reads it."""
        if self.store.precision not in BITS:
            self.store.table_rows(EMBED, EMBEDDING)
            return self.nodes.node("Gather", "/embed/gather", [EMBED, "input_ids"], axis=0)
        table = self.store.quantized(EMBED, [EMBEDDING], bits=8)
        sizes = {"K": table.columns, "N": table.rows, "block": self.store.block}
        inputs = [table.packed, table.scales, "input_ids"]
        return self.nodes.node("GatherInt8", "/embed/gather", inputs, domain=OWN_DOMAIN, **sizes)

    def _norm_after(self, layer: int, branch: str, stream: str) -> tuple[str, str]:
        """Adds a layer's second branch to the stream, which is one operator with the norm that comes next."""
        following = layer + 1
        if following == self.config.num_layers:
            weight = self.nodes.vector("norm", "model.norm.weight")
            return self.nodes.skip_norm("/norm/final", branch, stream, weight, keep_sum=False)
        weight = self._input_norm_weight(following)
        return self.nodes.skip_norm(f"/layers.{following}/attn/input_norm", branch, stream, weight)

    def _row_check(self, hidden: str) -> None:
        """The sum of a row is finite only if all of it is."""
        self.store.constant("row_check.axes", np.array([-1], dtype=np.int64))
        self.nodes.node("ReduceSum", "/norm/row_check", [hidden, "row_check.axes"], output=ROW_CHECK, keepdims=0)

    def _input_norm_weight(self, layer: int) -> str:
        return self.nodes.vector(f"layers.{layer}.attn.norm", f"model.layers.{layer}.input_layernorm.weight")

    def _attention(self, layer: int, normed: str) -> str:
        config, source = self.config, f"model.layers.{layer}.self_attn"
        name, weights = f"/layers.{layer}/attn", f"layers.{layer}.attn"
        tensors = [f"{source}.{part}_proj.weight" for part in "qkv"]
        qkv = self.nodes.projection(f"{name}/qkv", normed, f"{weights}.qkv", tensors)
        attended = f"{name}/paged/output"
        self.nodes.add(
            helper.make_node(
                "PagedAttention",
                [
                    qkv,
                    f"key_cache.{layer}",
                    f"value_cache.{layer}",
                    "cu_seqlens",
                    "past_lens",
                    "block_table",
                    "rope.cos",
                    "rope.sin",
                    self.nodes.vector(f"{weights}.q_norm", f"{source}.q_norm.weight"),
                    self.nodes.vector(f"{weights}.k_norm", f"{source}.k_norm.weight"),
                ],
                [attended, f"key_cache_out.{layer}", f"value_cache_out.{layer}"],
                name=f"{name}/paged",
                domain=OWN_DOMAIN,
                layer=layer,
                num_heads=config.num_heads,
                kv_num_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                scale=config.head_dim**-0.5,
                epsilon=config.rms_norm_eps,
            )
        )
        return self.nodes.projection(f"{name}/o_proj", attended, f"{weights}.o_proj", [f"{source}.o_proj.weight"])

    def _mlp(self, layer: int, normed: str) -> str:
        source, name, weights = f"model.layers.{layer}.mlp", f"/layers.{layer}/mlp", f"layers.{layer}.mlp"
        tensors = [f"{source}.gate_proj.weight", f"{source}.up_proj.weight"]
        both = self.nodes.projection(f"{name}/gate_up", normed, f"{weights}.gate_up", tensors)
        gated = self.nodes.node("SwiGlu", f"{name}/gated", [both], domain=OWN_DOMAIN)
        return self.nodes.projection(f"{name}/down_proj", gated, f"{weights}.down_proj", [f"{source}.down_proj.weight"])
