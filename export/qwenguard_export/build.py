"""Builds the graphs of all targets, and the files that their weights share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx import ModelProto

from . import operators
from .bundle import GRAPH_FILE, WEIGHTS_FILE, FileRecord, write_file
from .config import GEN, ModelConfig
from .errors import ExportError
from .graph.lm_head import NEXT_TOKEN
from .graph.targets import paged_cpu, paged_cuda, paged_webgpu, portable
from .source import Source
from .store import BITS, WeightStore
from .targets import CPU, CUDA, PORTABLE, WEBGPU, TargetOptions
from .weights import WeightWriter

VOCABULARY_FILE = "portable_next_token.onnx"

_CACHE_TYPES = {WEBGPU: "fp16", CUDA: "bf16"}
_PAGED = {WEBGPU: paged_webgpu, CUDA: paged_cuda}


@dataclass(frozen=True)
class Built:
    """The graphs of a target by their files, and its entry in guard.toml's table `graphs`."""

    target: str
    graphs: dict[str, ModelProto]
    table: dict[str, Any]

    @property
    def key(self) -> str:
        """Its name in guard.toml."""
        return PORTABLE if self.target == PORTABLE else f"paged_{self.target}"

    @property
    def precision(self) -> str:
        """What the layers' weights are, of a target other than the CPU."""
        bits = self.table.get("weight_bits", 16)
        return self.table["cache"] if bits == 16 else f"int{bits}"

    @property
    def quantization(self) -> str:
        """The same as guard.toml's `precision` has it: whatever is not quantised counts as fp32."""
        return self.precision if self.precision in BITS else "fp32"


@dataclass(frozen=True)
class Builder:
    source: Source
    candidates: tuple[int, ...]
    folder: Path
    files: dict[str, FileRecord]
    # Of the graphs for CPUs; the group also of the others' quantised weights.
    precision: str
    group: int
    options: TargetOptions
    # Whether 4-bit weights of the graphs for CPUs have zero points.
    zero_points: bool = False
    progress: Callable[[int], object] = field(default=lambda _: None)

    def weight_files(self) -> dict[str, list[str]]:
        """The targets by the file of their weights, which those with the same types share."""
        grouped: dict[str, list[str]] = {}
        for target in self.options.targets:
            grouped.setdefault(self._weights_file(target), []).append(target)
        return grouped

    def build(self) -> list[Built]:
        self._check_sizes()
        built = []
        for file, targets in self.weight_files().items():
            with WeightWriter(self.folder / file) as writer:
                store = WeightStore(
                    self.source.checkpoint, writer, self.precision, self.group, self.progress, self.zero_points
                )
                made = [self._build(target, file, store, writer) for target in targets]
                self.files[file] = FileRecord(*writer.finish())
            for one in made:
                self._write(one)
            built += made
        order = self.options.targets
        return sorted(built, key=lambda one: order.index(one.target))

    def _weights_file(self, target: str) -> str:
        """Named by what is in it."""
        if target == CPU:
            return WEIGHTS_FILE
        if target == PORTABLE:
            return f"weights_{self.options.portable_precision}.bin"
        bits = self.options.gpu_weights
        return f"weights_{_CACHE_TYPES[target]}{'' if bits == 16 else f'_int{bits}'}.bin"

    def _build(self, target: str, file: str, store: WeightStore, writer: WeightWriter) -> Built:
        if target == CPU:
            model = paged_cpu.build(self.source.config, store, self.candidates)
            return Built(target, {GRAPH_FILE: _with_weights(model, writer)}, {"file": GRAPH_FILE})
        if target == PORTABLE:
            return self._build_portable(file, store, writer)
        return self._build_gpu(target, file, store, writer)

    def _build_gpu(self, target: str, file: str, store: WeightStore, writer: WeightWriter) -> Built:
        config, bits, graph = self.source.config, self.options.gpu_weights, f"paged_{target}.onnx"
        model = _PAGED[target].build(config, store, self.candidates, bits)
        table = {
            "file": graph,
            "weights": file,
            "cache": _CACHE_TYPES[target],
            "block_tokens": _PAGED[target].block_tokens(config),
            "weight_bits": bits,
        }
        return Built(target, {graph: _with_weights(model, writer)}, table)

    def _build_portable(self, file: str, store: WeightStore, writer: WeightWriter) -> Built:
        config, precision = self.source.config, self.options.portable_precision
        place = {entry.key: entry.value for entry in portable.store_embedding(store, precision).external_data}
        # It is no weight of the next graph.
        writer.take()
        wanted = portable.variants(config, self.options.portable_contexts, self.options.portable_slots)
        graphs = {}
        for variant in wanted:
            model = portable.build(config, store, self.candidates, precision, variant)
            graphs[variant.file] = _with_weights(model, writer)
            _check_operators(graphs[variant.file], variant.file, has_scatter=variant.append == portable.SCATTER)
        entry: dict[str, Any] = {
            "weights": file,
            "cache": precision,
            "embedding": {"offset": int(place["offset"]), "type": precision},
            "variants": [variant.table() for variant in wanted],
        }
        if config.variant == GEN:
            model = portable.build_vocabulary(config, store, precision)
            graphs[VOCABULARY_FILE] = _with_weights(model, writer)
            _check_operators(graphs[VOCABULARY_FILE], VOCABULARY_FILE, has_scatter=False)
            entry["heads"] = [{"name": NEXT_TOKEN, "file": VOCABULARY_FILE}]
        return Built(PORTABLE, graphs, entry)

    def _write(self, built: Built) -> None:
        for file, model in built.graphs.items():
            self.files[file] = write_file(self.folder / file, model.SerializeToString(deterministic=True))

    def _check_sizes(self) -> None:
        """GPUs multiply by whole groups of quantised weights."""
        if self.options.gpu_weights == 16 or not set(self.options.targets) & set(_CACHE_TYPES):
            return
        for what, size in _inputs_of_matrices(self.source.config):
            if size % self.group:
                raise ExportError(
                    f"--gpu-weights {self.options.gpu_weights}: the {what} of {size} is not a multiple of the group "
                    f"of {self.group}"
                )


def _check_operators(model: ModelProto, file: str, has_scatter: bool) -> None:
    """All are for DirectML; CoreML has nothing that appends to a cache."""
    for provider in (operators.DIRECTML, *(() if has_scatter else (operators.COREML,))):
        operators.check(model, file, provider)


def _inputs_of_matrices(config: ModelConfig) -> list[tuple[str, int]]:
    return [
        ("hidden size", config.hidden_size),
        ("size of all heads", config.q_size),
        ("intermediate size", config.intermediate_size),
    ]


def _with_weights(model: ModelProto, writer: WeightWriter) -> ModelProto:
    model.graph.initializer.extend(writer.take())
    return model
