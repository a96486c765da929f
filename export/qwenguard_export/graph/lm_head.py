"""The heads of a Gen model: the tokens that decide its answer, and the whole vocabulary.

Decisions are between a handful of tokens: their rows of the LM head are a float32 matrix of their own. The whole head
is for answers that are not held to a grammar. Where it is tied to the embedding the two are one table: see `trunk`.
"""

from __future__ import annotations

from ..checkpoint import head_of
from ..config import ModelConfig
from ..store import BITS
from .head import Head
from .nodes import OWN_DOMAIN, Nodes
from .trunk import EMBED

CANDIDATES, NEXT_TOKEN = "candidates", "next_token"
_WEIGHT = "heads.next_token"


def heads(candidates: tuple[int, ...]) -> list[Head]:
    return [Head(CANDIDATES, rows="candidate_rows", tokens=candidates), Head(NEXT_TOKEN, rows="next_token_rows")]


def add(nodes: Nodes, config: ModelConfig, hidden: str, candidates: tuple[int, ...]) -> None:
    """Adds both heads, each for the rows that are wanted of it."""
    source = head_of(config)
    wanted = nodes.node("Gather", "/heads/candidates/gather", [hidden, "candidate_rows"], axis=0)
    nodes.store.columns("heads.candidates", source, candidates)
    nodes.node("MatMul", "/heads/candidates/matmul", [wanted, "heads.candidates"], output=CANDIDATES)

    wanted = nodes.node("Gather", "/heads/next_token/gather", [hidden, "next_token_rows"], axis=0)
    name, weight = "/heads/next_token/matmul", EMBED if config.tied else _WEIGHT
    if nodes.store.precision not in BITS:
        if not config.tied:
            nodes.store.table_rows(weight, source)
        nodes.node("Gemm", name, [wanted, weight], output=NEXT_TOKEN, transB=1)
        return
    # 8 bits also where the layers have 4, of which answers would suffer.
    if not config.tied:
        nodes.store.quantized(weight, [source], bits=8)
    sizes = {"K": config.hidden_size, "N": config.vocab_size, "block": nodes.store.block}
    inputs = [wanted, f"{weight}.packed", f"{weight}.scales"]
    nodes.node("MatMulInt8", name, inputs, output=NEXT_TOKEN, domain=OWN_DOMAIN, **sizes)
