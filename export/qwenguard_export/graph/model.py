"""What is the same in every graph that is written."""

from __future__ import annotations

from onnx import GraphProto, ModelProto, helper

from .. import __version__

IR_VERSION = 10


def make_model(graph: GraphProto, opset: int, domains: list[str]) -> ModelProto:
    """`domains` are those of the operators that are not standard."""
    return helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)],
        producer_name="qwenguard-export",
        producer_version=__version__,
    )
