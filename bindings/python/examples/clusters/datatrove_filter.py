"""A filter for datatrove: documents that the guard calls Safe go on, with what it says in their metadata."""

from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter

from qwenguard import Annotation, Guard, GuardError


class GuardFilter(BaseFilter):
    """A document's text is judged as a prompt. The guard is opened by the first batch, in the process that runs it."""

    name = "Qwen3Guard"

    def __init__(
        self, bundle: str | None = None, keep: tuple[str, ...] = ("Safe",), batch_size: int = 256, exclusion_writer: Any = None
    ) -> None:
        super().__init__(exclusion_writer, batch_size=batch_size)
        self.bundle, self.keep = bundle, keep
        self._guard: Guard | None = None

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        if self._guard is None:
            self._guard = Guard.open(self.bundle) if self.bundle else Guard.nano_gen()
        texts = [doc.text for doc in batch]
        found = self._guard.annotate_all(texts, overflow="windows", return_errors=True, progress=False)
        return [self._one(doc, said) for doc, said in zip(batch, found)]

    def _one(self, doc: Document, said: Annotation | GuardError) -> bool | tuple[bool, str]:
        if isinstance(said, GuardError):
            return False, "not judged"
        doc.metadata["guard_risk"] = str(said.risk)
        doc.metadata["guard_categories"] = list(said.categories)
        return True if said.risk in self.keep else (False, str(said.risk))
