"""The graphs of a bundle: a Qwen3 decoder as the trunk, and heads that say something about its tokens.

`targets` has what graphs are made for, and how each computes the steps that `nodes` and `trunk` name.
"""

from __future__ import annotations

from onnx import ModelProto

from . import trunk
from .head import Head as Head
from .heads import heads_of as heads_of


def head_outputs(model: ModelProto) -> list[str]:
    """The names of a paged graph's outputs that are heads."""
    others = ("key_cache_out.", "value_cache_out.", trunk.ROW_CHECK)
    return [output.name for output in model.graph.output if not output.name.startswith(others)]
