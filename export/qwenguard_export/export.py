"""One export, from source to bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from . import gen_parity, gpu_schema, parity, self_test
from .build import Builder, Built
from .bundle import MANIFEST, FileRecord, manifest, sha256_file, staging, write_file
from .config import GEN, STREAM
from .evaluators import Evaluator, evaluators
from .files import printable
from .graph import heads_of
from .memory import peak_bytes
from .source import RandomModel, Source, open_source
from .store import BITS
from .targets import CPU, GPUS, TargetOptions
from .text import TEMPLATE_FILE, TOKENIZER_FILE

Result = parity.Parity | gen_parity.GenParity

_CPU = f"paged_{CPU}"


@dataclass(frozen=True)
class Options:
    source: Path | RandomModel
    out: Path
    precision: str = "int8"
    group: int = 32
    # Of int4 weights only.
    zero_points: bool = False
    parity: bool = True
    force: bool = False
    # A file with the texts of a Gen model's answer.
    answer: Path | None = None
    made_for: TargetOptions = TargetOptions()


@dataclass(frozen=True)
class Report:
    out: Path
    bytes: int
    largest_tensor: int
    build_peak: int | None
    peak: int | None
    # By the graphs' names in guard.toml.
    parities: dict[str, Result]
    # What could not be checked here, and why.
    notes: list[str]

    @property
    def parity(self) -> Result | None:
        """That of the graph for CPUs."""
        return self.parities.get(_CPU)

    def lines(self) -> list[str]:
        lines = self.parity.lines() if self.parity else []
        lines += [f"parity of {key}: {result.line()}" for key, result in self.parities.items() if key != _CPU]
        lines += self.notes
        if self.peak is not None and self.build_peak is not None:
            build = f"{_mib(self.build_peak)} MiB before the graph was run"
            largest = f"largest tensor: {_mib(self.largest_tensor)} MiB"
            lines.append(f"peak memory: {_mib(self.peak)} MiB ({build}), {largest}")
        return [*lines, f"wrote {self.out}, {_mib(self.bytes)} MiB"]


# What overflows shows as a number that is not finite, and these are looked for.
@np.errstate(all="ignore")
def export(options: Options) -> Report:
    source = open_source(options.source, options.answer)
    with staging(options.out, options.force, source.files) as folder:
        files = _write_text(source, folder)
        built = _build(source, options, folder, files)
        build_peak = peak_bytes()
        precision = options.precision if built[0].target == CPU else built[0].quantization
        notes = _check_schemas(built, folder)
        results = _measure(source, options, folder, built) if options.parity else {}
        tests = _self_test(source, options, folder, built)
        document = manifest(
            config=source.config,
            heads=heads_of(source.config, _candidates(source)),
            answer=_answer(source),
            precision=precision,
            group=options.group if precision in BITS else None,
            zero_points=options.zero_points,
            source_name=source.name,
            source_sha256=_hash_sources(source),
            tokens=source.text.tokens,
            graphs={one.key: one.table for one in built},
            files=files,
            parity=_parity_table(results),
            self_test=tests,
        )
        written = write_file(folder / MANIFEST, document)
    return Report(
        out=options.out,
        bytes=written.bytes + sum(file.bytes for file in files.values()),
        largest_tensor=max(info.nbytes for info in source.checkpoint.tensors.values()),
        build_peak=build_peak,
        peak=peak_bytes(),
        parities=results,
        notes=notes,
    )


def _parity_table(results: dict[str, Result]) -> dict[str, Any]:
    """The numbers of the graph for CPUs, and a table of those of each other."""
    own = {**results[_CPU].table()} if _CPU in results else {}
    return own | {key: result.table() for key, result in results.items() if key != _CPU}


def _write_text(source: Source, folder: Path) -> dict[str, FileRecord]:
    return {
        TOKENIZER_FILE: write_file(folder / TOKENIZER_FILE, source.text.tokenizer),
        TEMPLATE_FILE: write_file(folder / TEMPLATE_FILE, source.text.template.encode()),
    }


def _build(source: Source, options: Options, folder: Path, files: dict[str, FileRecord]) -> list[Built]:
    builder = Builder(
        source,
        _candidates(source),
        folder,
        files,
        options.precision,
        options.group,
        options.made_for,
        options.zero_points,
    )
    total = sum(info.nbytes for info in source.checkpoint.tensors.values()) * len(builder.weight_files())
    with tqdm(desc="weights", total=total, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        return replace(builder, progress=bar.update).build()


def _check_schemas(built: list[Built], folder: Path) -> list[str]:
    graphs = [(file, model) for one in built if one.target in GPUS for file, model in one.graphs.items()]
    if gpu_schema.is_known():
        for file, model in graphs:
            gpu_schema.check(model, folder, file)
        return []
    return [
        f"{file}: not checked against the operators' definitions, which needs onnxruntime {gpu_schema.NEEDED} or later"
        for file, _ in graphs
    ]


def _candidates(source: Source) -> tuple[int, ...]:
    return gen_parity.candidates_of(source.text) if source.config.variant == GEN else ()


def _answer(source: Source) -> dict[str, Any] | None:
    grammar, pieces = source.text.grammar, source.text.pieces
    if grammar is None or pieces is None:
        return None
    ends = dict.fromkeys((source.text.tokens["turn_end"], *source.config.end_tokens))
    return {"end_tokens": list(ends), **grammar.table(pieces)}


def _measure(source: Source, options: Options, folder: Path, built: list[Built]) -> dict[str, Result]:
    """Compares the graphs of each target with the checkpoint; of a target the worst result counts."""
    steps = _MEASURES[source.config.variant].reference_steps(source.config)
    with tqdm(desc="checkpoint", total=steps, disable=None, leave=False) as bar:
        wanted = _reference(source, bar.update)
    results: dict[str, Result] = {}
    for one in built:
        for evaluator in _evaluators(source, options, folder, one, wanted.longest):
            with tqdm(desc=f"parity {evaluator.graph}", total=evaluator.parts, disable=None, leave=False) as bar:
                result = wanted.measure(evaluator.run(bar.update))
            result.check(evaluator.precision, evaluator.graph)
            if one.key not in results or result.max_prob_diff > results[one.key].max_prob_diff:
                results[one.key] = result
    return results


_MEASURES = {STREAM: parity, GEN: gen_parity}


def _reference(source: Source, progress: Callable[[], object]) -> parity.Reference | gen_parity.Reference:
    if source.config.variant == GEN:
        return gen_parity.Reference(source.checkpoint, source.config, source.text, progress)
    return parity.Reference(source.checkpoint, source.config, source.text.samples, progress)


def _evaluators(source: Source, options: Options, folder: Path, built: Built, tokens: int) -> list[Evaluator]:
    return evaluators(built, folder, source.config, options.precision, tokens)


def _self_test(source: Source, options: Options, folder: Path, built: list[Built]) -> list[dict[str, Any]]:
    """Of each graph: of the portable ones, which compute the same, the first."""
    named = heads_of(source.config, _candidates(source))
    recorded = {}
    for one in built:
        evaluator = _evaluators(source, options, folder, one, self_test.MAX_TOKENS)[0]
        with tqdm(desc=f"self-test {one.key}", total=evaluator.parts, disable=None, leave=False) as bar:
            run = evaluator.run(bar.update)
            recorded[one.key] = self_test.record(run, source.text.tokenizer, named, source.config.context)
    return self_test.joined(recorded)


def _hash_sources(source: Source) -> dict[str, str]:
    files = tqdm(source.files, desc="digests", disable=None, leave=False)
    digests = {printable(path.name): sha256_file(path) for path in files}
    # They must be those of what was exported.
    source.check_unchanged()
    return digests


def _mib(count: int) -> int:
    return round(count / 2**20)
