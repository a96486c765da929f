"""The paged graph: tokens of all streams on one axis, key-value caches as inputs and outputs.

The trunk is a Qwen3 decoder, the heads are what the model says about a token. Node names start with /embed,
/layers.{i}, /norm or /heads, so that the graph can be cut by layer.
"""

from __future__ import annotations

from onnx import ModelProto, TensorProto, helper

from .. import __version__
from ..config import ModelConfig
from ..store import WeightStore
from . import guard_heads, trunk
from .head import Head as Head
from .nodes import CONTRIB_DOMAIN, OWN_DOMAIN, Nodes

OPSET = 21
IR_VERSION = 10


def build_model(config: ModelConfig, store: WeightStore) -> ModelProto:
    """Builds the graph and writes its weights through the store. The caller adds the initializers."""
    nodes = Nodes(store, config.rms_norm_eps)
    hidden = trunk.add(nodes, config)
    guard_heads.add(nodes, hidden)
    return _model(config, nodes, heads(config))


def heads(config: ModelConfig) -> list[Head]:
    """The heads of the graph, in the order of its outputs."""
    return guard_heads.heads(config)


def head_outputs(model: ModelProto) -> list[str]:
    """The names of a graph's outputs that are heads."""
    caches = set(trunk.cache_names("_out", sum(node.op_type == "PagedAttention" for node in model.graph.node)))
    return [output.name for output in model.graph.output if output.name not in caches | {trunk.ROW_CHECK}]


def _model(config: ModelConfig, nodes: Nodes, heads: list[Head]) -> ModelProto:
    # Heads of the same rows share an input.
    rows = dict.fromkeys(head.rows for head in heads)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes.nodes,
        "paged",
        [
            *trunk.batch_inputs(),
            *(value(name, TensorProto.INT64, [f"{name}_count"]) for name in rows),
            *trunk.caches(config, ""),
        ],
        [
            *(
                value(head.name, TensorProto.FLOAT, [f"{head.rows}_count", head.classes(config.vocab_size)])
                for head in heads
            ),
            value(trunk.ROW_CHECK, TensorProto.FLOAT, ["tokens"]),
            *trunk.caches(config, "_out"),
        ],
    )
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
