"""The paged graph for CPUs: float32 between the nodes, and operators that the library brings along."""

from __future__ import annotations

from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from ...checkpoint import EMBEDDING, LM_HEAD
from ...config import ModelConfig
from ...store import BITS, WeightStore
from .. import trunk
from ..heads import add_heads, heads_of
from ..lm_head import HEAD
from ..nodes import CONTRIB_DOMAIN, OWN_DOMAIN, Nodes
from ..paged import head_values, paged_model, row_inputs
from ..trunk import EMBED, Trunk


def build(config: ModelConfig, store: WeightStore, candidates: tuple[int, ...] = ()) -> ModelProto:
    """Builds the graph and writes its weights through the store. The caller adds the initializers.

    `candidates` are the tokens that decide the answer of a Gen model.
    """
    nodes = _CpuNodes(store, config.rms_norm_eps)
    hidden = _CpuTrunk(nodes, config).add()
    add_heads(nodes, config, hidden, candidates)
    heads = heads_of(config, candidates)
    return paged_model(
        nodes,
        [*trunk.batch_inputs(), *row_inputs(heads), *_caches(config, "")],
        [*head_values(heads, config), *_caches(config, "_out")],
        [CONTRIB_DOMAIN, OWN_DOMAIN],
    )


def _caches(config: ModelConfig, suffix: str) -> list[ValueInfoProto]:
    """The caches as inputs, or with the suffix _out as outputs."""
    shape: list[str | int | None] = ["num_blocks", config.num_kv_heads, "record_bytes"]
    names = trunk.cache_names(suffix, config.num_layers)
    return [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in names]


class _CpuNodes(Nodes):
    def projection(self, name: str, source: str, weight: str, tensors: list[str]) -> str:
        if self.store.precision not in BITS:
            return self.matmul(name, source, weight, tensors)
        quantized = self.store.quantized(weight, tensors)
        inputs = [source, *quantized.tensors]
        sizes = {"K": quantized.columns, "N": quantized.rows}
        operator = {8: "MatMulInt8", 4: "MatMulInt4"}[BITS[self.store.precision]]
        return self.node(operator, name, inputs, domain=OWN_DOMAIN, **sizes, group=self.store.group)

    def input_norm(self, name: str, stream: str, weight: str) -> str:
        return self.layer_norm(name, stream, weight)

    def skip_norm(self, name: str, branch: str, stream: str, weight: str) -> tuple[str, str]:
        return self.skip_layer_norm(name, branch, stream, weight)

    def final_norm(self, name: str, branch: str, stream: str, weight: str) -> str:
        return self.skip_layer_norm(name, branch, stream, weight, keep_sum=False)[0]

    def vocabulary(self, name: str, wanted: str, config: ModelConfig, output: str) -> None:
        table = EMBED if config.tied else HEAD
        if self.store.precision not in BITS:
            if not config.tied:
                self.store.table_rows(table, LM_HEAD)
            self.node("Gemm", name, [wanted, table], output=output, transB=1)
            return
        # 8 bits also where the layers have 4, of which answers would suffer.
        if not config.tied:
            self.store.quantized(table, [LM_HEAD], bits=8)
        sizes = {"K": config.hidden_size, "N": config.vocab_size, "group": self.store.group}
        inputs = [wanted, f"{table}.packed", f"{table}.scales"]
        self.node("MatMulInt8", name, inputs, output=output, domain=OWN_DOMAIN, **sizes)


class _CpuTrunk(Trunk):
    def embedding(self) -> str:
        stream = self._shared_embedding() if self.config.tied else self._own_embedding()
        self.rotary_tables()
        return stream

    def _own_embedding(self) -> str:
        is_half = self.store.embedding(EMBED, EMBEDDING)
        rows = self.nodes.node("Gather", "/embed/gather", [EMBED, "input_ids"], axis=0)
        return self.nodes.node("Cast", "/embed/cast", [rows], to=TensorProto.FLOAT) if is_half else rows

    def _shared_embedding(self) -> str:
        """A table that is the LM head too, and is stored as that needs it: in 8 bits as MatMulInt8 reads it."""
        if self.store.precision not in BITS:
            self.store.table_rows(EMBED, EMBEDDING)
            return self.nodes.node("Gather", "/embed/gather", [EMBED, "input_ids"], axis=0)
        table = self.store.quantized(EMBED, [EMBEDDING], bits=8)
        sizes = {"K": table.columns, "N": table.rows, "group": self.store.group}
        inputs = [table.packed, table.scales, "input_ids"]
        return self.nodes.node("GatherInt8", "/embed/gather", inputs, domain=OWN_DOMAIN, **sizes)

    def attend(self, layer: int, qkv: str) -> str:
        config, name = self.config, f"/layers.{layer}/attn/paged"
        caches = [f"key_cache.{layer}", f"value_cache.{layer}"]
        batch = ["cu_seqlens", "past_lens", "block_table"]
        self.nodes.add(
            helper.make_node(
                "PagedAttention",
                [qkv, *caches, *batch, trunk.COSINES, trunk.SINES, *self.head_norms(layer)],
                [f"{name}/output", f"key_cache_out.{layer}", f"value_cache_out.{layer}"],
                name=name,
                domain=OWN_DOMAIN,
                layer=layer,
                num_heads=config.num_heads,
                kv_num_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                scale=config.head_dim**-0.5,
                epsilon=config.rms_norm_eps,
            )
        )
        return f"{name}/output"

    def gated(self, name: str, normed: str, weights: str, tensors: tuple[str, str]) -> str:
        both = self.nodes.projection(f"{name}/gate_up", normed, f"{weights}.gate_up", [*tensors])
        return self.nodes.node("SwiGlu", f"{name}/gated", [both], domain=OWN_DOMAIN)
