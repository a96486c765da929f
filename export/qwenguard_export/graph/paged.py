"""The frame of a paged graph: tokens of all streams on one axis, key-value caches as inputs and outputs.

Node names start with /embed, /layers.{i}, /norm or /heads, so that the graph can be cut by layer.
"""

from __future__ import annotations

from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from ..config import ModelConfig
from . import trunk
from .head import Head
from .model import make_model
from .nodes import Nodes

OPSET = 21


def row_inputs(heads: list[Head]) -> list[ValueInfoProto]:
    """The rows that heads are wanted for; heads of the same rows share an input."""
    rows = dict.fromkeys(head.rows for head in heads)
    return [helper.make_tensor_value_info(name, TensorProto.INT64, [f"{name}_count"]) for name in rows]


def head_values(heads: list[Head], config: ModelConfig) -> list[ValueInfoProto]:
    """The outputs of all heads, and the row check."""
    value = helper.make_tensor_value_info
    return [
        *(
            value(head.name, TensorProto.FLOAT, [f"{head.rows}_count", head.classes(config.vocab_size)])
            for head in heads
        ),
        value(trunk.ROW_CHECK, TensorProto.FLOAT, ["tokens"]),
    ]


def paged_model(
    nodes: Nodes, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto], domains: list[str]
) -> ModelProto:
    return make_model(helper.make_graph(nodes.nodes, "paged", inputs, outputs), OPSET, domains)
