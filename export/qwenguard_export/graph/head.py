"""What guard.toml says about one head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Head:
    """An output of the graph, [rows, classes], computed for the rows that one of its inputs names.

    It has a class for each of `labels`, or for each of the token ids `tokens`, or, without either, for every token id.
    """

    name: str
    rows: str
    labels: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        return "labels" if self.labels else "candidates" if self.tokens else "vocabulary"

    def classes(self, vocab_size: int) -> int:
        return len(self.labels or self.tokens) or vocab_size

    def table(self) -> dict[str, Any]:
        """Its entry in guard.toml."""
        table: dict[str, Any] = {"name": self.name, "kind": self.kind, "rows": self.rows}
        if self.labels:
            table["labels"] = list(self.labels)
        if self.tokens:
            table["tokens"] = list(self.tokens)
        return table
