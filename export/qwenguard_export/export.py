"""One export, from source to bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto
from tqdm import tqdm

from . import exported, gen_parity, parity, self_test
from .build import Builder, Built
from .bundle import MANIFEST, FileRecord, manifest, sha256_file, staging, write_file
from .config import GEN
from .files import printable
from .graph import heads_of
from .memory import peak_bytes
from .source import RandomModel, Source, open_source
from .store import BITS
from .targets import CPU, TargetOptions
from .text import TEMPLATE_FILE, TOKENIZER_FILE


@dataclass(frozen=True)
class Options:
    source: Path | RandomModel
    out: Path
    precision: str = "int8"
    block: int = 32
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
    parity: parity.Parity | gen_parity.GenParity | None

    def lines(self) -> list[str]:
        lines = self.parity.lines() if self.parity else []
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
        model = next(iter(built[0].graphs.values()))
        result = _measure(source, options, folder, model) if options.parity else None
        tests = _self_test(source, folder, model)
        document = manifest(
            config=source.config,
            heads=heads_of(source.config, _candidates(source)),
            answer=_answer(source),
            precision=options.precision,
            block=options.block if options.precision in BITS else None,
            source_name=source.name,
            source_sha256=_hash_sources(source),
            tokens=source.text.tokens,
            graphs={one.key: one.table for one in built},
            files=files,
            parity=result,
            self_test=tests,
        )
        written = write_file(folder / MANIFEST, document)
    return Report(
        out=options.out,
        bytes=written.bytes + sum(file.bytes for file in files.values()),
        largest_tensor=max(info.nbytes for info in source.checkpoint.tensors.values()),
        build_peak=build_peak,
        peak=peak_bytes(),
        parity=result,
    )


def _write_text(source: Source, folder: Path) -> dict[str, FileRecord]:
    return {
        TOKENIZER_FILE: write_file(folder / TOKENIZER_FILE, source.text.tokenizer),
        TEMPLATE_FILE: write_file(folder / TEMPLATE_FILE, source.text.template.encode()),
    }


def _build(source: Source, options: Options, folder: Path, files: dict[str, FileRecord]) -> list[Built]:
    builder = Builder(
        source, _candidates(source), folder, files, options.precision, options.block, options.made_for
    )
    total = sum(info.nbytes for info in source.checkpoint.tensors.values()) * len(builder.weight_files())
    with tqdm(desc="weights", total=total, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        return replace(builder, progress=bar.update).build()


def _candidates(source: Source) -> tuple[int, ...]:
    return gen_parity.candidates_of(source.text) if source.config.variant == GEN else ()


def _answer(source: Source) -> dict[str, Any] | None:
    grammar, pieces = source.text.grammar, source.text.pieces
    if grammar is None or pieces is None:
        return None
    ends = dict.fromkeys((source.text.tokens["turn_end"], *source.config.end_tokens))
    return {"end_tokens": list(ends), **grammar.table(pieces)}


def _measure(source: Source, options: Options, folder: Path, model: ModelProto) -> parity.Parity | gen_parity.GenParity:
    if source.config.variant == GEN:
        return _measure_gen(source, options, folder, model)
    steps = parity.progress_steps(model, source.config)
    with tqdm(desc="parity", total=steps, disable=None, leave=False) as bar:
        result = parity.measure(model, folder, source.checkpoint, source.config, source.text.samples, bar.update)
    parity.check(result, options.precision)
    return result


def _measure_gen(source: Source, options: Options, folder: Path, model: ModelProto) -> gen_parity.GenParity:
    steps = gen_parity.progress_steps(model, source.config)
    with tqdm(desc="parity", total=steps, disable=None, leave=False) as bar:
        result = gen_parity.measure(model, folder, source.checkpoint, source.config, source.text, bar.update)
    result.check(options.precision)
    return result


def _self_test(source: Source, folder: Path, model: ModelProto) -> list[dict[str, Any]]:
    with tqdm(desc="self-test", total=exported.count_parts(model), disable=None, leave=False) as bar:
        named = heads_of(source.config, _candidates(source))
        return self_test.record(model, folder, source.text.tokenizer, named, source.config.context, bar.update)


def _hash_sources(source: Source) -> dict[str, str]:
    files = tqdm(source.files, desc="digests", disable=None, leave=False)
    digests = {printable(path.name): sha256_file(path) for path in files}
    # They must be those of what was exported.
    source.check_unchanged()
    return digests


def _mib(count: int) -> int:
    return round(count / 2**20)
