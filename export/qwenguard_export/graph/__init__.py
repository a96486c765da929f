"""The paged graph: tokens of all streams on one axis, key-value caches as inputs and outputs.

The trunk is a Qwen3 decoder, the heads are what the model says about a token. Node names start with /embed,
/layers.{i}, /norm or /heads, so that the graph can be cut by layer.
"""

from __future__ import annotations

from onnx import ModelProto, TensorProto, helper

from .. import __version__
from ..config import STREAM, ModelConfig
from ..store import WeightStore
from . import guard_heads, lm_head, trunk
from .head import Head as Head
from .nodes import CONTRIB_DOMAIN, OWN_DOMAIN, Nodes

OPSET = 21
IR_VERSION = 10


def build_model(config: ModelConfig, store: WeightStore, candidates: tuple[int, ...] = ()) -> ModelProto:
    """Builds the graph and writes its weights through the store. The caller adds the initializers.

    `candidates` are the tokens that decide the answer of a Gen model.
    """
    nodes = Nodes(store, config.rms_norm_eps)
    hidden = trunk.add(nodes, config)
    if config.variant == STREAM:
        guard_heads.add(nodes, hidden)
    else:
        lm_head.add(nodes, config, hidden, candidates)
    return _model(config, nodes, heads(config, candidates))


def heads(config: ModelConfig, candidates: tuple[int, ...] = ()) -> list[Head]:
    """The heads of the graph, in the order of its outputs."""
    return guard_heads.heads(config) if config.variant == STREAM else lm_head.heads(candidates)


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
