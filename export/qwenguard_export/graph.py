"""Builds the paged graph: tokens of all streams on one axis, key-value caches as inputs and outputs.

Node names start with /embed, /layers.{i}, /norm or /heads, so that the graph can be cut by layer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from . import __version__
from .checkpoint import HEADS
from .config import ModelConfig
from .store import BITS, WeightStore

OPSET = 21
IR_VERSION = 10
CONTRIB_DOMAIN = "com.microsoft"
OWN_DOMAIN = "ai.qwenguard"

# MatMulNBits with 8-bit activations, which it has fast kernels for.
_ACCURACY_LEVEL = 4

_OUTPUTS = {
    "risk_logits": "response_risk",
    "category_logits": "response_category",
    "query_risk_logits": "query_risk",
    "query_category_logits": "query_category",
}
HEAD_OUTPUTS = {labels: output for output, labels in _OUTPUTS.items()}


def build_model(config: ModelConfig, store: WeightStore) -> ModelProto:
    """Builds the graph and writes its weights through the store. The caller adds the initializers."""
    graph = _Builder(config, store).build()
    return helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid(CONTRIB_DOMAIN, 1),
            helper.make_opsetid(OWN_DOMAIN, 1),
        ],
        producer_name="qwenguard-export",
        producer_version=__version__,
    )


def rotary_rows(config: ModelConfig, function: Callable[[np.ndarray], np.ndarray], start: int, stop: int) -> np.ndarray:
    """Rows of the table of cosines or sines, [context, head_dim / 2], in float32 all the way, as the original model
    computes them."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = np.float32(1) / np.float32(config.rope_theta) ** exponents
    return function(np.arange(start, stop, dtype=np.float32)[:, None] * frequencies)


class _Builder:
    def __init__(self, config: ModelConfig, store: WeightStore) -> None:
        self.config = config
        self.store = store
        self.nodes: list[NodeProto] = []

    def build(self) -> GraphProto:
        # `stream` is the residual stream, `normed` its normalised copy, which each half layer starts from.
        stream = self._embedding()
        for name, function in (("rope.cos", np.cos), ("rope.sin", np.sin)):
            shape = (self.config.context, self.config.head_dim // 2)
            self.store.table(name, shape, partial(rotary_rows, self.config, function))
        normed = self._norm("/layers.0/attn/input_norm", stream, self._input_norm_weight(0))
        for layer in range(self.config.num_layers):
            attended = self._attention(layer, normed)
            weight = self._vector(f"layers.{layer}.mlp.norm", f"model.layers.{layer}.post_attention_layernorm.weight")
            normed, stream = self._skip_norm(f"/layers.{layer}/mlp/input_norm", attended, stream, weight)
            branch = self._mlp(layer, normed)
            normed, stream = self._norm_after(layer, branch, stream)
        self._heads(normed)
        return helper.make_graph(self.nodes, "paged", self._inputs(), self._outputs())

    def _embedding(self) -> str:
        is_half = self.store.embedding("embed", "model.embed_tokens.weight")
        rows = self._node("Gather", "/embed/gather", ["embed", "input_ids"], axis=0)
        return self._node("Cast", "/embed/cast", [rows], to=TensorProto.FLOAT) if is_half else rows

    def _norm_after(self, layer: int, branch: str, stream: str) -> tuple[str, str]:
        """Adds a layer's second branch to the stream, which is one operator with the norm that comes next."""
        following = layer + 1
        if following == self.config.num_layers:
            return self._skip_norm("/norm/final", branch, stream, self._vector("norm", "model.norm.weight"), False)
        weight = self._input_norm_weight(following)
        return self._skip_norm(f"/layers.{following}/attn/input_norm", branch, stream, weight)

    def _input_norm_weight(self, layer: int) -> str:
        return self._vector(f"layers.{layer}.attn.norm", f"model.layers.{layer}.input_layernorm.weight")

    def _attention(self, layer: int, normed: str) -> str:
        config, source = self.config, f"model.layers.{layer}.self_attn"
        name, weights = f"/layers.{layer}/attn", f"layers.{layer}.attn"
        qkv = self._projection(
            f"{name}/qkv", normed, f"{weights}.qkv", [f"{source}.{part}_proj.weight" for part in "qkv"]
        )
        attended = f"{name}/paged/output"
        self.nodes.append(
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
                    self._vector(f"{weights}.q_norm", f"{source}.q_norm.weight"),
                    self._vector(f"{weights}.k_norm", f"{source}.k_norm.weight"),
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
        return self._projection(f"{name}/o_proj", attended, f"{weights}.o_proj", [f"{source}.o_proj.weight"])

    def _mlp(self, layer: int, normed: str) -> str:
        source, name, weights = f"model.layers.{layer}.mlp", f"/layers.{layer}/mlp", f"layers.{layer}.mlp"
        both = self._projection(
            f"{name}/gate_up", normed, f"{weights}.gate_up", [f"{source}.gate_proj.weight", f"{source}.up_proj.weight"]
        )
        gated = self._node("SwiGlu", f"{name}/gated", [both], domain=OWN_DOMAIN)
        return self._projection(f"{name}/down_proj", gated, f"{weights}.down_proj", [f"{source}.down_proj.weight"])

    def _heads(self, normed: str) -> None:
        for role, prefix in (("response", ""), ("query", "query_")):
            name, source = f"/heads/{role}", f"{prefix}risk_level_category"
            pre = self._matmul(f"{name}/pre", normed, f"heads.{role}.pre", [f"{source}_pre.weight"])
            weight = self._vector(f"heads.{role}.norm", f"{source}_layernorm.weight")
            inner = self._norm(f"{name}/norm", pre, weight)
            for kind in ("risk", "category"):
                labels = f"{role}_{kind}"
                weights = f"heads.{role}.{kind}"
                self._matmul(f"{name}/{kind}", inner, weights, [HEADS[labels]], output=HEAD_OUTPUTS[labels])

    def _projection(self, name: str, source: str, weight: str, tensors: list[str]) -> str:
        if self.store.precision not in BITS:
            return self._matmul(name, source, weight, tensors)
        quantized = self.store.quantized(weight, tensors)
        inputs = [source, quantized.packed, quantized.scales]
        sizes = {"K": quantized.columns, "N": quantized.rows}
        if self.store.precision == "int8":
            return self._node("MatMulInt8", name, inputs, domain=OWN_DOMAIN, **sizes, block=self.store.block)
        return self._node(
            "MatMulNBits",
            name,
            inputs,
            domain=CONTRIB_DOMAIN,
            **sizes,
            bits=BITS[self.store.precision],
            block_size=self.store.block,
            accuracy_level=_ACCURACY_LEVEL,
        )

    def _matmul(self, name: str, source: str, weight: str, tensors: list[str], output: str | None = None) -> str:
        self.store.transposed(weight, tensors)
        return self._node("MatMul", name, [source, weight], output=output)

    def _norm(self, name: str, source: str, weight: str) -> str:
        return self._node(
            "SimplifiedLayerNormalization", name, [source, weight], axis=-1, epsilon=self.config.rms_norm_eps
        )

    def _skip_norm(self, name: str, branch: str, stream: str, weight: str, keep_sum: bool = True) -> tuple[str, str]:
        """Adds a branch to the residual stream; returns the normalised sum and the sum."""
        normed, total = f"{name}/output", f"{name}/sum"
        self.nodes.append(
            helper.make_node(
                "SkipSimplifiedLayerNormalization",
                [branch, stream, weight],
                # Outputs 1 and 2, mean and deviation, are for training.
                [normed, "", "", total] if keep_sum else [normed],
                name=name,
                domain=CONTRIB_DOMAIN,
                epsilon=self.config.rms_norm_eps,
            )
        )
        return normed, total

    def _vector(self, name: str, source: str) -> str:
        self.store.vector(name, source)
        return name

    def _node(self, operator: str, name: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"{name}/output"
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def _inputs(self) -> list[ValueInfoProto]:
        return [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["tokens"]),
            helper.make_tensor_value_info("cu_seqlens", TensorProto.INT32, ["batch_plus_1"]),
            helper.make_tensor_value_info("past_lens", TensorProto.INT32, ["batch"]),
            helper.make_tensor_value_info("block_table", TensorProto.INT32, ["batch", "max_blocks"]),
            *self._caches(""),
        ]

    def _outputs(self) -> list[ValueInfoProto]:
        heads = [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, ["tokens", len(self.config.labels[labels])])
            for output, labels in _OUTPUTS.items()
        ]
        return heads + self._caches("_out")

    def _caches(self, suffix: str) -> list[ValueInfoProto]:
        shape: list[str | int | None] = ["num_blocks", self.config.num_kv_heads, "record_bytes"]
        return [
            helper.make_tensor_value_info(f"{kind}_cache{suffix}.{layer}", TensorProto.UINT8, shape)
            for layer in range(self.config.num_layers)
            for kind in ("key", "value")
        ]
