"""The heads that a model has, whatever its graph is made for."""

from __future__ import annotations

from ..config import STREAM, ModelConfig
from . import guard_heads, lm_head
from .head import Head
from .nodes import Nodes


def heads_of(config: ModelConfig, candidates: tuple[int, ...] = ()) -> list[Head]:
    """The heads of a graph, in the order of its outputs. `candidates` are the tokens that decide the answer of a Gen
    model."""
    return guard_heads.heads(config) if config.variant == STREAM else lm_head.heads(candidates)


def add_heads(nodes: Nodes, config: ModelConfig, hidden: str, candidates: tuple[int, ...] = ()) -> None:
    if config.variant == STREAM:
        guard_heads.add(nodes, hidden)
    else:
        lm_head.add_candidates(nodes, config, hidden, candidates)
        lm_head.add_vocabulary(nodes, config, hidden)
