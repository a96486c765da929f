"""What the paged graphs for GPUs have in common: 16 bits between the nodes, and ONNX Runtime's own operators."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from ...checkpoint import EMBEDDING, LM_HEAD
from ...config import ModelConfig
from ...store import WeightStore
from ...weights import onnx_type
from .. import trunk
from ..heads import add_heads, heads_of
from ..lm_head import HEAD
from ..nodes import CONTRIB_DOMAIN, Nodes
from ..paged import head_values, paged_model, row_inputs
from ..trunk import EMBED, Trunk

METADATA = "metadata"

# Inputs of PagedAttention that nobody needs are left out by an empty name.
ABSENT = ""


class GpuNodes(Nodes):
    def __init__(self, store: WeightStore, epsilon: float, weight_bits: int) -> None:
        super().__init__(store, epsilon)
        self.weight_bits = weight_bits

    def projection(self, name: str, source: str, weight: str, tensors: list[str]) -> str:
        if self.weight_bits == 16:
            self.store.transposed(weight, tensors, self.hidden_type)
            return self.node("MatMul", name, [source, weight])
        return self.matmul_n_bits(name, source, weight, tensors, self.weight_bits)

    def matmul_n_bits(self, name: str, source: str, weight: str, tensors: list[str], bits: int) -> str:
        quantized = self.store.groupwise(weight, tensors, bits, self.hidden_type)
        sizes = {"K": quantized.columns, "N": quantized.rows, "bits": bits, "block_size": self.store.group}
        inputs = [source, quantized.packed, quantized.scales]
        return self.node("MatMulNBits", name, inputs, domain=CONTRIB_DOMAIN, **sizes)

    def vocabulary(self, name: str, wanted: str, config: ModelConfig, output: str) -> None:
        rows = self.cast(f"{name}/cast", wanted, self.hidden_type)
        if self.weight_bits == 16 or config.tied:
            if not config.tied:
                self.store.table_rows(HEAD, LM_HEAD, self.hidden_type)
            logits = self.node("Gemm", name, [rows, EMBED if config.tied else HEAD], transB=1)
        else:
            # 8 bits also where the layers have 4, of which answers would suffer.
            logits = self.matmul_n_bits(name, rows, HEAD, [LM_HEAD], bits=8)
        self.cast(f"{name}/logits", logits, np.dtype(np.float32), output)


class GpuTrunk(Trunk):
    nodes: GpuNodes

    def embedding(self) -> str:
        self.store.table_rows(EMBED, EMBEDDING, self.nodes.hidden_type)
        self.rotary_tables(self.nodes.hidden_type)
        rows = self.nodes.node("Gather", "/embed/gather", [EMBED, "input_ids"], axis=0)
        if self.nodes.stream_type == self.nodes.hidden_type:
            return rows
        return self.nodes.cast("/embed/cast", rows, self.nodes.stream_type)

    @abstractmethod
    def queries(self, layer: int, qkv: str) -> tuple[list[str], list[str]]:
        """What PagedAttention gets as query, key and value, and as the weights of their norms."""

    def attend(self, layer: int, qkv: str) -> str:
        config, name = self.config, f"/layers.{layer}/attn/paged"
        inputs, norms = self.queries(layer, qkv)
        inputs += [f"key_cache.{layer}", f"value_cache.{layer}", "cu_seqlens", "past_lens", "block_table"]
        inputs += [trunk.COSINES, trunk.SINES, ABSENT, ABSENT, *(norms or [ABSENT, ABSENT]), ABSENT, ABSENT, METADATA]
        self.nodes.add(
            helper.make_node(
                "PagedAttention",
                inputs,
                [f"{name}/output", f"key_cache_out.{layer}", f"value_cache_out.{layer}"],
                name=name,
                domain=CONTRIB_DOMAIN,
                num_heads=config.num_heads,
                kv_num_heads=config.num_kv_heads,
                scale=config.head_dim**-0.5,
                do_rotary=1,
                **({"qk_norm_epsilon": config.rms_norm_eps} if norms else {}),
            )
        )
        return f"{name}/output"

    def gated(self, name: str, normed: str, weights: str, tensors: tuple[str, str]) -> str:
        gate, values = self.two_projections(name, normed, weights, tensors)
        # SiLU is QuickGelu without its factor.
        swish = self.nodes.node("QuickGelu", f"{name}/swish", [gate], domain=CONTRIB_DOMAIN, alpha=1.0)
        return self.nodes.node("Mul", f"{name}/gated", [swish, values])


def build_paged(made: GpuTrunk, config: ModelConfig, candidates: tuple[int, ...], block_tokens: int) -> ModelProto:
    """Builds the graph and writes its weights through the store. The caller adds the initializers."""
    nodes = made.nodes
    add_heads(nodes, config, made.add(), candidates)
    heads = heads_of(config, candidates)
    metadata = helper.make_tensor_value_info(METADATA, TensorProto.INT32, [3])
    return paged_model(
        nodes,
        [*trunk.batch_inputs(), *row_inputs(heads), metadata, *_caches(nodes, config, "", block_tokens)],
        [*head_values(heads, config), *_caches(nodes, config, "_out", block_tokens)],
        [CONTRIB_DOMAIN],
    )


def _caches(nodes: GpuNodes, config: ModelConfig, suffix: str, block_tokens: int) -> list[ValueInfoProto]:
    shape = ["num_blocks", block_tokens, config.num_kv_heads, config.head_dim]
    kind = onnx_type(nodes.hidden_type)
    return [helper.make_tensor_value_info(name, kind, shape) for name in trunk.cache_names(suffix, config.num_layers)]
