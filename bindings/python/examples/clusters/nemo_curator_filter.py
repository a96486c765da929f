"""A stage for NeMo Curator: rows that the guard calls Safe go on, with its columns."""

from dataclasses import dataclass
from typing import Any

from nemo_curator.stages.base import ProcessingStage
from nemo_curator.stages.resources import Resources
from nemo_curator.tasks import DocumentBatch

from qwenguard import Guard


@dataclass
class GuardFilter(ProcessingStage[DocumentBatch, DocumentBatch]):
    """A batch's texts are judged together, as prompts. Each worker opens the guard once; a stage goes to it as its settings."""

    bundle: str | None = None
    text_field: str = "text"
    keep: tuple[str, ...] = ("Safe",)
    cpus: int = 1
    name: str = "qwenguard"

    def __post_init__(self) -> None:
        self.resources = Resources(cpus=self.cpus)

    def inputs(self) -> tuple[list[str], list[str]]:
        return ["data"], [self.text_field]

    def outputs(self) -> tuple[list[str], list[str]]:
        return ["data"], [self.text_field, "guard_risk", "guard_categories"]

    def setup(self, _worker_metadata: Any = None) -> None:
        config = f"runtime.threads = {self.cpus}"
        self._guard = Guard.open(self.bundle, config=config) if self.bundle else Guard.nano_gen(config=config)

    def process(self, task: DocumentBatch) -> DocumentBatch:
        rows = self._guard.annotate_table(task.to_pandas(), prompt=self.text_field, overflow="windows", progress=False)
        # A row that could not be judged has no level.
        kept = rows[rows["guard_risk"].isin(self.keep)]
        return DocumentBatch(
            dataset_name=task.dataset_name, data=kept, _metadata=task._metadata, _stage_perf=task._stage_perf
        )
