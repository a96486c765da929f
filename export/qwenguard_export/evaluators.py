"""How the graphs of each target are run here, where most of what they are made for is not at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import exported
from .build import VOCABULARY_FILE, Built
from .config import ModelConfig
from .errors import ExportError
from .graph.targets.portable import ROWS, SCATTER, Variant
from .parity import Evaluate
from .portable_run import PortableRun, longest
from .targets import CPU, PORTABLE

Progress = Callable[[], object]


@dataclass(frozen=True)
class Evaluator:
    """A graph that can be run: its name for messages, the precision that it is held to, and how many parts report
    progress."""

    graph: str
    precision: str
    parts: int
    run: Callable[[Progress], Evaluate]


def evaluators(built: Built, folder: Path, config: ModelConfig, precision: str, tokens: int) -> list[Evaluator]:
    """`precision` is that of the graph for CPUs; `tokens` are those of the longest text that will be run."""
    if built.target == PORTABLE:
        wanted = _portable_variants(built, config, tokens)
        return [_portable(built, folder, config, built.precision, variant) for variant in wanted]
    (model,) = built.graphs.values()
    if built.target != CPU:
        precision = built.precision
    name = precision if built.target == CPU else f"{built.target} {precision}"

    def run(progress: Progress) -> Evaluate:
        return lambda sequences, rows: exported.evaluate(model, folder, sequences, progress, rows)

    return [Evaluator(name, precision, exported.count_parts(model), run)]


def _portable_variants(built: Built, config: ModelConfig, tokens: int) -> list[Variant]:
    """One of each way to append, with the smallest context that holds the texts. What they are made of is the same in
    the others."""
    found, tokens = [], min(tokens, config.context)
    every = [Variant(**{key: value for key, value in one.items() if key != "file"}) for one in built.table["variants"]]
    for append, new_tokens in ((ROWS, 64), (SCATTER, 16)):
        fitting = [one for one in every if (one.append, one.new_tokens) == (append, new_tokens)]
        large = [one for one in fitting if longest(config, one) >= tokens]
        if not large:
            raise ExportError(
                f"--portable-context: none of the contexts holds the {tokens} tokens of the sample texts, which parity "
                "is measured on"
            )
        found.append(min(large, key=lambda one: (one.context, one.slots)))
    return found


def _portable(built: Built, folder: Path, config: ModelConfig, precision: str, variant: Variant) -> Evaluator:
    graph = PortableRun(
        folder,
        built.graphs[variant.file],
        built.graphs.get(VOCABULARY_FILE),
        config,
        variant,
        precision,
        built.table["weights"],
        built.table["embedding"]["offset"],
    )

    def run(progress: Progress) -> Evaluate:
        return lambda sequences, rows: graph.evaluate(sequences, progress, rows)

    return Evaluator(f"portable {precision} {variant.append}", precision, len(graph.parts()), run)
