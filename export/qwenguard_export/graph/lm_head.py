"""The heads of a Gen model: the tokens that decide its answer, and the whole vocabulary.

Decisions are between a handful of tokens: their rows of the LM head are a float32 matrix of their own. The whole head
is for answers that are not held to a grammar. Where it is tied to the embedding the two are one table.
"""

from __future__ import annotations

from ..checkpoint import head_of
from ..config import ModelConfig
from .head import Head
from .nodes import Nodes

CANDIDATES, NEXT_TOKEN = "candidates", "next_token"
# The name of the whole head's weight, unless it is the embedding.
HEAD = "heads.next_token"
VOCABULARY_NODES = "/heads/next_token/matmul"


def heads(candidates: tuple[int, ...]) -> list[Head]:
    return [Head(CANDIDATES, rows="candidate_rows", tokens=candidates), Head(NEXT_TOKEN, rows="next_token_rows")]


def add_candidates(nodes: Nodes, config: ModelConfig, hidden: str, candidates: tuple[int, ...]) -> None:
    wanted = nodes.wanted_rows("/heads/candidates/gather", hidden, "candidate_rows")
    nodes.store.columns("heads.candidates", head_of(config), candidates)
    nodes.node("MatMul", "/heads/candidates/matmul", [wanted, "heads.candidates"], output=CANDIDATES)


def add_vocabulary(nodes: Nodes, config: ModelConfig, hidden: str) -> None:
    wanted = nodes.wanted_rows("/heads/next_token/gather", hidden, "next_token_rows")
    nodes.vocabulary(VOCABULARY_NODES, wanted, config, NEXT_TOKEN)
