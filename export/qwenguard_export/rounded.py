"""Turns a graph for a GPU, which is in 16 bits, into a float32 graph for the CPU that rounds as the GPU does.

What a node gives is rounded to its type, and weights are those of the file. Within a node all is in float32, of
attention too, of which kernels round a little more.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from .graph.nodes import OWN_DOMAIN
from .graph.targets.gpu import METADATA
from .operators_spelled_out import ATTENTION_OF_HEADS

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)

# Where PagedAttention has the weights of the norms of q and k.
_NORM_INPUTS = slice(12, 14)


def is_for_gpu(model: ModelProto) -> bool:
    return any(value.name == METADATA for value in model.graph.input)


def in_float32(model: ModelProto) -> ModelProto:
    types = _types(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    nodes = [new for node in model.graph.node for new in _rounding(node, types, weights)]
    size = next(value for value in model.graph.input if "cache" in value.name).type.tensor_type.shape.dim[3].dim_value
    graph = helper.make_graph(
        [_spelled_out(node, size) for node in nodes],
        model.graph.name,
        [_in_float32(value) for value in model.graph.input if value.name != METADATA],
        [_in_float32(value) for value in model.graph.output],
        model.graph.initializer,
    )
    # That of our functions, which stand for the attention.
    opsets = [*model.opset_import, helper.make_opsetid(OWN_DOMAIN, 1)]
    return helper.make_model(graph, ir_version=model.ir_version, opset_imports=opsets)


def _types(model: ModelProto) -> dict[str, int]:
    """The type of every value. But for Cast and the caches it is that of a node's first input."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    types |= {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    for node in model.graph.node:
        kind = helper.get_node_attr_value(node, "to") if node.op_type == "Cast" else types[node.input[0]]
        types |= dict.fromkeys(node.output, kind)
    return types


def _rounding(node: NodeProto, types: dict[str, int], weights: set[str]) -> Iterator[NodeProto]:
    """The node, what it reads made float32 before it, what it gives rounded after it."""
    result, before, after = NodeProto(), [], []
    result.CopyFrom(node)
    if node.op_type == "Cast":
        result.CopyFrom(helper.make_node("Identity", node.input, node.output, name=node.name))
    # A table may be too large to be converted: of it only the rows are.
    is_table = node.op_type == "Gather" and node.input[0] in weights
    for index, name in enumerate(node.input):
        if name in weights and types[name] in _HALVES and not is_table:
            result.input[index] = f"{node.name}/{name}/float"
            before.append(_cast(name, result.input[index], TensorProto.FLOAT, result.input[index]))
    for index, name in enumerate(node.output):
        if not name or types[name] not in _HALVES or "cache" in name:
            continue
        exact, half = f"{name}/exact", f"{name}/half"
        result.output[index] = half if is_table else exact
        if not is_table:
            after.append(_cast(exact, half, types[name], f"{node.name}/{index}/round"))
        after.append(_cast(half, name, TensorProto.FLOAT, f"{node.name}/{index}/float"))
    yield from (*before, result, *after)


def _cast(source: str, output: str, kind: int, name: str) -> NodeProto:
    return helper.make_node("Cast", [source], [output], name=name, to=kind)


def _spelled_out(node: NodeProto, size: int) -> NodeProto:
    """Attention as one of our functions, which have an attribute for the size of a head."""
    if node.op_type != "PagedAttention":
        return node
    query, key, value, *caches, cosines, sines = node.input[:10]
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    sizes = {name: attributes[name] for name in ("num_heads", "kv_num_heads", "scale")} | {"head_dim": size}
    if key:
        operator, inputs = ATTENTION_OF_HEADS, [query, key, value, *caches[:2], cosines, sines]
    else:
        operator, inputs = "PagedAttention", [query, *caches, cosines, sines, *node.input[_NORM_INPUTS]]
        sizes |= {"epsilon": attributes["qk_norm_epsilon"], "layer": 0}
    return helper.make_node(operator, inputs, node.output, name=node.name, domain=OWN_DOMAIN, **sizes)


def _in_float32(value: ValueInfoProto) -> ValueInfoProto:
    kind = value.type.tensor_type
    if kind.elem_type not in _HALVES:
        return value
    # A cache, of which nothing is read.
    return helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [None] * len(kind.shape.dim))
