"""The heads of a Stream model: level and category of an answer's tokens, and of a prompt's end."""

from __future__ import annotations

from ..checkpoint import HEADS
from ..config import ModelConfig
from .head import Head
from .nodes import Nodes

_ROLES = {"response": "", "query": "query_"}
_KINDS = ("risk", "category")


def heads(config: ModelConfig) -> list[Head]:
    return [
        Head(f"{role}_{kind}", rows=_rows(role), labels=tuple(config.labels[f"{role}_{kind}"]))
        for role in _ROLES
        for kind in _KINDS
    ]


def add(nodes: Nodes, hidden: str) -> None:
    """Adds the heads of both roles, each for the rows that are wanted of it."""
    for role, prefix in _ROLES.items():
        name, source = f"/heads/{role}", f"{prefix}risk_level_category"
        wanted = nodes.wanted_rows(f"{name}/gather", hidden, _rows(role))
        pre = nodes.matmul(f"{name}/pre", wanted, f"heads.{role}.pre", [f"{source}_pre.weight"])
        inner = nodes.norm(f"{name}/norm", pre, nodes.vector(f"heads.{role}.norm", f"{source}_layernorm.weight"))
        for kind in _KINDS:
            head = f"{role}_{kind}"
            nodes.matmul(f"{name}/{kind}", inner, f"heads.{role}.{kind}", [HEADS[head]], output=head)


def _rows(role: str) -> str:
    return f"{role}_rows"
