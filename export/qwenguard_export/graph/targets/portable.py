"""Portable graphs: standard operators and static shapes, for DirectML, CoreML and whatever runs ONNX.

A run takes S new tokens of each of B slots against caches of C tokens. The host looks up embeddings and rotary rows and
makes the mask, so that every operator and nearly every input is of floats. Attention scores over the cache and over the
new keys are computed apart and joined before the softmax, so that the cache is only read. The residual stream, norms
and softmax are float32; matrices and caches are float16 or float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from ...checkpoint import EMBEDDING, LM_HEAD
from ...config import GEN, ModelConfig
from ...store import WeightStore
from ...weights import onnx_type
from .. import guard_heads, lm_head, trunk
from ..heads import heads_of
from ..model import make_model
from ..nodes import Nodes
from ..trunk import EMBED, Trunk

TYPES = {"fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32)}
ROWS, SCATTER = "rows", "scatter"
NEW_TOKENS = (1, 16, 64)
HIDDEN = "hidden"

# The last opset whose ReduceMean has its axes as an attribute.
OPSET = 17

# Added to the scores of what must not be seen: far from the end of float16's range, also with a score added.
MASKED = -30000.0

# Contexts are rounded up to a multiple of this.
_CONTEXT_STEP = 64

# Rows of the vocabulary's matrix that are one weight.
_VOCABULARY_PIECE = 1 << 14

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Variant:
    """`append`: the host writes the new rows of the caches (rows), or the graph does, into a copy (scatter)."""

    append: str
    new_tokens: int
    context: int
    slots: int

    @property
    def file(self) -> str:
        slots = "" if self.slots == 1 else f"_b{self.slots}"
        return f"portable_{self.append}_n{self.new_tokens}_c{self.context}{slots}.onnx"

    def table(self) -> dict[str, str | int]:
        """Its entry in guard.toml."""
        return {
            "file": self.file,
            "append": self.append,
            "new_tokens": self.new_tokens,
            "context": self.context,
            "slots": self.slots,
        }


def variants(config: ModelConfig, contexts: tuple[int, ...], slots: tuple[int, ...]) -> list[Variant]:
    """All combinations; contexts that the model does not have become its own, with room for a row of padding."""
    most = -(-(config.context + 1) // _CONTEXT_STEP) * _CONTEXT_STEP
    return [
        Variant(append, new_tokens, context, count)
        for append in (ROWS, SCATTER)
        for new_tokens in NEW_TOKENS
        for context in dict.fromkeys(min(context, most) for context in contexts)
        for count in slots
    ]


def build(
    config: ModelConfig, store: WeightStore, candidates: tuple[int, ...], precision: str, variant: Variant
) -> ModelProto:
    """Builds the graph and writes its weights through the store. The caller adds the initializers."""
    nodes = _PortableNodes(store, config.rms_norm_eps, TYPES[precision])
    hidden = _PortableTrunk(nodes, config, variant).add()
    if config.variant == GEN:
        lm_head.add_candidates(nodes, config, hidden, candidates)
    else:
        guard_heads.add(nodes, hidden)
    inputs, outputs = _inputs(config, variant, TYPES[precision]), _outputs(config, variant, candidates, nodes)
    return make_model(helper.make_graph(nodes.nodes, "portable", inputs, outputs), OPSET, [])


def build_vocabulary(config: ModelConfig, store: WeightStore, precision: str) -> ModelProto:
    """The head of a whole vocabulary, a graph of its own for one row: it is as large as a few layers, and most runs
    do not want it."""
    nodes = _PortableNodes(store, config.rms_norm_eps, TYPES[precision])
    nodes.vocabulary(lm_head.VOCABULARY_NODES, HIDDEN, config, lm_head.NEXT_TOKEN)
    inputs = [_value(HIDDEN, TYPES[precision], [1, config.hidden_size])]
    outputs = [_value(lm_head.NEXT_TOKEN, _FLOAT32, [1, config.vocab_size])]
    return make_model(helper.make_graph(nodes.nodes, "portable", inputs, outputs), OPSET, [])


def store_embedding(store: WeightStore, precision: str) -> TensorProto:
    """The host reads it from the file, so that it is there however small."""
    return store.table_rows(EMBED, EMBEDDING, TYPES[precision], inline=False)


def cache_names(prefix: str, layers: int) -> list[str]:
    return [f"{prefix}_{kind}.{layer}" for layer in range(layers) for kind in ("key", "value")]


def _inputs(config: ModelConfig, variant: Variant, dtype: np.dtype) -> list[ValueInfoProto]:
    slots, tokens, heads, size = variant.slots, variant.new_tokens, config.num_kv_heads, config.head_dim
    cache = [slots, heads, variant.context, size]
    return [
        _value("embeds", _FLOAT32, [slots, tokens, config.hidden_size]),
        *(_value(name, _FLOAT32, [slots, 1, tokens, size]) for name in ("cos", "sin")),
        _value("mask", dtype, [slots, 1, 1, variant.context]),
        *([_value("slots", np.dtype(np.int64), [slots, heads, tokens, 3])] if variant.append == SCATTER else []),
        *(_value(name, dtype, cache) for name in cache_names("past", config.num_layers)),
    ]


def _outputs(
    config: ModelConfig, variant: Variant, candidates: tuple[int, ...], nodes: _PortableNodes
) -> list[ValueInfoProto]:
    rows = [variant.slots, variant.new_tokens]
    heads = [head for head in heads_of(config, candidates) if head.kind != "vocabulary"]
    is_whole = variant.append == SCATTER
    prefix, length = ("present", variant.context) if is_whole else ("new", variant.new_tokens)
    cache = [variant.slots, config.num_kv_heads, length, config.head_dim]
    return [
        *(_value(head.name, _FLOAT32, [*rows, head.classes(config.vocab_size)]) for head in heads),
        _value(trunk.ROW_CHECK, _FLOAT32, rows),
        *([_value(HIDDEN, _FLOAT32, [*rows, config.hidden_size])] if config.variant == GEN else []),
        *(_value(name, nodes.hidden_type, cache) for name in cache_names(prefix, config.num_layers)),
    ]


def _value(name: str, dtype: np.dtype, shape: list[int]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx_type(dtype), shape)


class _PortableNodes(Nodes):
    def __init__(self, store: WeightStore, epsilon: float, dtype: np.dtype) -> None:
        super().__init__(store, epsilon)
        self.hidden_type = dtype

    def constant(self, kind: str, *values: float, dtype: type[np.generic] = np.int64) -> str:
        """A few numbers. The name tells them: graphs that share their weights share what has the same name."""
        name = ".".join([kind, *map(str, values)])
        self.store.constant(name, np.array(values, dtype=dtype))
        return name

    def to_hidden(self, name: str, source: str, output: str | None = None) -> str:
        if self.hidden_type == _FLOAT32:
            return source
        return self.cast(name, source, self.hidden_type, output)

    def to_float(self, name: str, source: str) -> str:
        return source if self.hidden_type == _FLOAT32 else self.cast(name, source, _FLOAT32)

    def wanted_rows(self, name: str, hidden: str, rows: str) -> str:
        return hidden

    def projection(self, name: str, source: str, weight: str, tensors: list[str]) -> str:
        self.store.transposed(weight, tensors, self.hidden_type)
        return self.node("MatMul", name, [source, weight])

    def norm(self, name: str, source: str, weight: str, output: str | None = None) -> str:
        squares = self.node("Mul", f"{name}/squares", [source, source])
        mean = self.node("ReduceMean", f"{name}/mean", [squares], axes=[-1], keepdims=1)
        epsilon = self.constant("epsilon", self._epsilon, dtype=np.float32)
        variance = self.node("Add", f"{name}/variance", [mean, epsilon])
        deviation = self.node("Sqrt", f"{name}/deviation", [variance])
        unit = self.node("Div", f"{name}/unit", [source, deviation])
        return self.node("Mul", name, [unit, weight], output)

    def input_norm(self, name: str, stream: str, weight: str) -> str:
        return self.to_hidden(f"{name}/half", self.norm(name, stream, weight))

    def skip_norm(self, name: str, branch: str, stream: str, weight: str) -> tuple[str, str]:
        total = self._add(name, branch, stream)
        return self.input_norm(name, total, weight), total

    def final_norm(self, name: str, branch: str, stream: str, weight: str) -> str:
        return self.norm(name, self._add(name, branch, stream), weight, HIDDEN)

    def _add(self, name: str, branch: str, stream: str) -> str:
        return self.node("Add", f"{name}/sum", [stream, self.to_float(f"{name}/branch", branch)])

    def vocabulary(self, name: str, wanted: str, config: ModelConfig, output: str) -> None:
        """Of rows in the type of the matrix, since CoreML casts no input of a graph. In pieces, which are ranges of
        one table: CoreML takes no matrix with as many rows as a vocabulary."""
        table, source = (EMBED, EMBEDDING) if config.tied else (lm_head.HEAD, LM_HEAD)
        pieces = []
        for piece in self.store.row_ranges(table, source, self.hidden_type, _VOCABULARY_PIECE):
            logits = self.node("Gemm", f"{name}/{piece}", [wanted, piece], transB=1)
            pieces.append(self.to_float(f"{name}/{piece}/float", logits))
        if len(pieces) > 1:
            self.node("Concat", f"{name}/joined", pieces, axis=-1)
        self.nodes[-1].output[0] = output


class _PortableTrunk(Trunk):
    nodes: _PortableNodes

    def __init__(self, nodes: _PortableNodes, config: ModelConfig, variant: Variant) -> None:
        super().__init__(nodes, config)
        self.variant = variant

    def embedding(self) -> str:
        return "embeds"

    def row_check(self, hidden: str) -> None:
        """The mean of a row is finite only if all of it is."""
        self.nodes.node("ReduceMean", "/norm/row_check", [hidden], trunk.ROW_CHECK, axes=[-1], keepdims=0)

    def gated(self, name: str, normed: str, weights: str, tensors: tuple[str, str]) -> str:
        gate, values = self.two_projections(name, normed, weights, tensors)
        sigmoid = self.nodes.node("Sigmoid", f"{name}/sigmoid", [gate])
        swish = self.nodes.node("Mul", f"{name}/swish", [gate, sigmoid])
        return self.nodes.node("Mul", f"{name}/gated", [swish, values])

    def attend(self, layer: int, qkv: str) -> str:
        config, name, nodes = self.config, f"/layers.{layer}/attn", self.nodes
        q, k, v = (f"{name}/{part}" for part in "qkv")
        sizes = nodes.constant("sizes", config.q_size, config.kv_size, config.kv_size)
        nodes.add(helper.make_node("Split", [qkv, sizes], [q, k, v], name=f"{name}/split", axis=-1))
        q_norm, k_norm = self.head_norms(layer)
        keys, values = self._new_rows(layer, k, v, k_norm)
        queries = self._rotated(q, config.num_heads, q_norm)
        scale = nodes.constant("scale", config.head_dim**-0.5, dtype=np.float32)
        queries = nodes.to_hidden(f"{q}/half", nodes.node("Mul", f"{q}/scaled", [queries, scale]))
        attended = self._attention_of(layer, queries, keys, values)
        if self.variant.append == SCATTER:
            for kind, rows in (("key", keys), ("value", values)):
                inputs, output = [f"past_{kind}.{layer}", "slots", rows], f"present_{kind}.{layer}"
                nodes.node("ScatterND", f"{name}/{kind}_append", inputs, output)
        return attended

    def _new_rows(self, layer: int, k: str, v: str, k_norm: str) -> tuple[str, str]:
        """Keys, which are rotated, and values of the new tokens, [slots, kv heads, tokens, head size]."""
        nodes, heads = self.nodes, self.config.num_kv_heads
        names: list[str | None] = [f"new_{kind}.{layer}" for kind in ("key", "value")]
        if self.variant.append == SCATTER:
            names = [None, None]
        if nodes.hidden_type == _FLOAT32:
            keys = self._rotated(k, heads, k_norm, names[0])
        else:
            keys = nodes.to_hidden(f"{k}/half", self._rotated(k, heads, k_norm), names[0])
        return keys, self._by_head(v, heads, names[1])

    def _attention_of(self, layer: int, queries: str, keys: str, values: str) -> str:
        nodes, config, name = self.nodes, self.config, f"/layers.{layer}/attn"
        slots, tokens, size = self.variant.slots, self.variant.new_tokens, config.head_dim
        # The query heads of a kv head are rows of one matrix.
        group = config.num_heads // config.num_kv_heads
        grouped = nodes.constant("shape", slots, config.num_kv_heads, group * tokens, size)
        queries = nodes.node("Reshape", f"{name}/grouped", [queries, grouped])
        past, new = self._weights(name, queries, f"past_key.{layer}", keys)
        mixed = [
            nodes.node("MatMul", f"{name}/{part}_mixed", [weights, rows])
            for part, weights, rows in (("past", past, f"past_value.{layer}"), ("new", new, values))
        ]
        mixed_sum = nodes.node("Add", f"{name}/mixed", mixed)
        by_head = nodes.constant("shape", slots, config.num_heads, tokens, size)
        ungrouped = nodes.node("Reshape", f"{name}/ungrouped", [mixed_sum, by_head])
        by_token = nodes.node("Transpose", f"{name}/by_token", [ungrouped], perm=[0, 2, 1, 3])
        flat = nodes.constant("shape", slots, tokens, config.q_size)
        return nodes.node("Reshape", f"{name}/attended", [by_token, flat])

    def _weights(self, name: str, queries: str, past_keys: str, new_keys: str) -> tuple[str, str]:
        """How much each query attends to the tokens in the cache, and to the new ones."""
        nodes, tokens = self.nodes, self.variant.new_tokens
        scores = []
        for part, keys, mask in (("past", past_keys, "mask"), ("new", new_keys, self._causal())):
            turned = nodes.node("Transpose", f"{name}/{part}_keys", [keys], perm=[0, 1, 3, 2])
            products = nodes.node("MatMul", f"{name}/{part}_products", [queries, turned])
            scores.append(nodes.node("Add", f"{name}/{part}_scores", [products, mask]) if mask else products)
        joined = nodes.to_float(f"{name}/scores/float", nodes.node("Concat", f"{name}/scores", scores, axis=-1))
        weights = nodes.to_hidden(f"{name}/weights/half", nodes.node("Softmax", f"{name}/weights", [joined], axis=-1))
        past, new = f"{name}/past_weights", f"{name}/new_weights"
        sizes = nodes.constant("sizes", self.variant.context, tokens)
        nodes.add(helper.make_node("Split", [weights, sizes], [past, new], name=f"{name}/parts", axis=-1))
        return past, new

    def _causal(self) -> str | None:
        """A mask of the new tokens: none sees what comes after it."""
        tokens, group = self.variant.new_tokens, self.config.num_heads // self.config.num_kv_heads
        if tokens == 1:
            return None
        future = np.triu(np.full((tokens, tokens), MASKED), 1)
        self.store.constant(f"causal.{tokens}", np.tile(future, (group, 1))[None, None].astype(self.nodes.hidden_type))
        return f"causal.{tokens}"

    def _by_head(self, source: str, heads: int, output: str | None = None) -> str:
        shape = self.nodes.constant("shape", self.variant.slots, self.variant.new_tokens, heads, self.config.head_dim)
        by_token = self.nodes.node("Reshape", f"{source}/rows", [source, shape])
        return self.nodes.node("Transpose", f"{source}/by_head", [by_token], output, perm=[0, 2, 1, 3])

    def _rotated(self, source: str, heads: int, weight: str, output: str | None = None) -> str:
        """Normalised and rotated heads, in float32."""
        nodes = self.nodes
        by_head = nodes.to_float(f"{source}/float", self._by_head(source, heads))
        normed = nodes.norm(f"{source}/norm", by_head, weight)
        first, second = self._halves(f"{source}/rotated", normed)
        minus = nodes.node("Mul", f"{source}/minus", [second, nodes.constant("minus", -1.0, dtype=np.float32)])
        turned = nodes.node("Concat", f"{source}/turned", [minus, first], axis=-1)
        parts = [
            nodes.node("Mul", f"{source}/{function}", [values, function])
            for values, function in ((normed, "cos"), (turned, "sin"))
        ]
        return nodes.node("Add", f"{source}/rotated", parts, output)

    def _halves(self, name: str, source: str) -> tuple[str, str]:
        first, second = f"{name}/first", f"{name}/second"
        self.nodes.add(helper.make_node("Split", [source], [first, second], name=f"{name}/split", axis=-1))
        return first, second
