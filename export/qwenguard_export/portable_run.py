"""Runs a portable graph on stock ONNX Runtime, one layer at a time, as a host does: it looks up embeddings and rotary
rows, makes the mask, and keeps the caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, shape_inference

from . import exported
from .config import GEN, ModelConfig
from .errors import ExportError
from .graph.lm_head import NEXT_TOKEN
from .graph.targets.portable import HIDDEN, MASKED, SCATTER, TYPES, Variant
from .graph.trunk import rotary_rows

_Values = dict[str, np.ndarray]
_CACHES = ("past_", "new_", "present_")


@dataclass(frozen=True)
class _Step:
    """Up to S new tokens of each slot: the tokens before them, and how many are new."""

    past: np.ndarray
    new: np.ndarray
    values: _Values


@dataclass(frozen=True)
class PortableRun:
    folder: Path
    model: ModelProto
    # The graph of the vocabulary's head, of a Gen model.
    vocabulary: ModelProto | None
    config: ModelConfig
    variant: Variant
    precision: str
    # The file with the weights, and where in it the embedding is.
    weights: str
    embedding_offset: int

    def evaluate(
        self,
        sequences: list[np.ndarray],
        progress: Callable[[], object],
        next_token_rows: list[np.ndarray] | None = None,
    ) -> _Values:
        """As `exported.evaluate`: logits [tokens, classes] of each head, and the row check, of all sequences."""
        count = self.variant.slots
        batches = [sequences[start : start + count] for start in range(0, len(sequences), count)]
        steps = [list(self._steps(batch)) for batch in batches]
        for nodes in self.parts():
            for batch in self._run(nodes, steps):
                for step, values in batch:
                    step.values.update(values)
            progress()
        found = self._joined(batches, steps)
        if self.vocabulary is not None:
            hidden = np.split(found.pop(HIDDEN), np.cumsum([len(ids) for ids in sequences])[:-1])
            rows = [one[wanted.astype(int)] for one, wanted in zip(hidden, next_token_rows or [], strict=False)]
            wanted = np.concatenate(rows) if rows else np.zeros((0, self.config.hidden_size), np.float32)
            found[NEXT_TOKEN] = self._next_tokens(self.vocabulary, wanted)
        return found

    def _next_tokens(self, model: ModelProto, rows: np.ndarray) -> np.ndarray:
        """What the vocabulary's head says, a piece of its matrix at a time, of as many rows as there are."""
        rows, pieces = rows.astype(TYPES[self.precision]), []
        for node in (node for node in model.graph.node if node.op_type == "Gemm"):
            (weight,) = [tensor for tensor in model.graph.initializer if tensor.name == node.input[1]]
            values = [
                helper.make_tensor_value_info(name, weight.data_type, [None, size])
                for name, size in ((HIDDEN, rows.shape[1]), (node.output[0], weight.dims[0]))
            ]
            graph = helper.make_graph([node], "piece", values[:1], values[1:], [weight])
            piece = helper.make_model(graph, ir_version=model.ir_version, opset_imports=model.opset_import)
            pieces += exported.open_session(piece, self.folder, is_basic=True).run(None, {HIDDEN: rows})
        return np.concatenate(pieces, axis=1).astype(np.float32)

    def parts(self) -> list[list[NodeProto]]:
        """The nodes of each layer, and those before and after."""
        return [list(nodes) for _, nodes in groupby(self.model.graph.node, key=lambda node: node.name.split("/")[1])]

    @cached_property
    def _values(self) -> dict[str, ValueInfoProto]:
        graph = shape_inference.infer_shapes(self.model).graph
        return {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}

    @property
    def _wanted(self) -> list[str]:
        return [value.name for value in self.model.graph.output if not value.name.startswith(_CACHES)]

    def _run(self, nodes: list[NodeProto], batches: list[list[_Step]]) -> Iterator[list[tuple[_Step, _Values]]]:
        """Runs a part on the steps of all batches; a layer's caches are its own."""
        names = {value.name for value in self._values.values()}
        produced = {name for node in nodes for name in node.output}
        inputs = ({name for node in nodes for name in node.input} & names) - produced
        read = {name for node in self.model.graph.node if node not in nodes for name in node.input}
        outputs = sorted(name for name in produced if name in read or name in self._wanted or name.startswith(_CACHES))
        session = self._open(nodes, sorted(inputs), outputs)
        for steps in batches:
            caches = self._empty_caches([name for name in inputs if name.startswith(_CACHES)])
            yield [(step, self._run_step(session, step, caches, inputs, outputs)) for step in steps]

    def _run_step(
        self, session: ort.InferenceSession, step: _Step, caches: _Values, inputs: set[str], outputs: list[str]
    ) -> _Values:
        feed = caches | {name: step.values[name] for name in inputs if name not in caches}
        found = dict(zip(outputs, session.run(outputs, feed), strict=True))
        for name in caches:
            if self.variant.append == SCATTER:
                caches[name] = found.pop(name.replace("past_", "present_"))
                continue
            rows = found.pop(name.replace("past_", "new_"))
            for slot, (past, new) in enumerate(zip(step.past, step.new, strict=True)):
                caches[name][slot, :, past : past + new] = rows[slot, :, :new]
        return found

    def _open(self, nodes: list[NodeProto], inputs: list[str], outputs: list[str]) -> ort.InferenceSession:
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "part",
            [self._values[name] for name in inputs],
            [self._values[name] for name in outputs],
            [tensor for tensor in self.model.graph.initializer if tensor.name in used],
        )
        model = helper.make_model(graph, ir_version=self.model.ir_version, opset_imports=self.model.opset_import)
        try:
            return exported.open_session(model, self.folder, is_basic=True)
        except Exception as error:  # the runtime's exceptions have no narrower base
            raise ExportError(f"ONNX Runtime fails on {nodes[0].name} of {self.variant.file}: {error}") from error

    def _empty_caches(self, names: list[str]) -> _Values:
        variant, config = self.variant, self.config
        shape = (variant.slots, config.num_kv_heads, variant.context, config.head_dim)
        return {name: np.zeros(shape, TYPES[self.precision]) for name in names}

    def _steps(self, batch: list[np.ndarray]) -> Iterator[_Step]:
        lengths = np.zeros(self.variant.slots, dtype=int)
        lengths[: len(batch)] = [len(ids) for ids in batch]
        for start in range(0, lengths.max(), self.variant.new_tokens):
            past = np.minimum(start, lengths)
            new = np.minimum(lengths - past, self.variant.new_tokens)
            yield _Step(past, new, self._inputs(batch, past, new))

    def _inputs(self, batch: list[np.ndarray], past: np.ndarray, new: np.ndarray) -> _Values:
        variant, config = self.variant, self.config
        embeds = np.zeros((variant.slots, variant.new_tokens, config.hidden_size), np.float32)
        for slot, ids in enumerate(batch):
            embeds[slot, : new[slot]] = self._rows(ids[past[slot] : past[slot] + new[slot]])
        # Slots whose text has ended have no new tokens: all others begin at the same one.
        start = int(past.max())
        shape = (variant.slots, 1, variant.new_tokens, config.head_dim)
        rotary = {
            name: np.broadcast_to(np.tile(rotary_rows(config, function, start, start + variant.new_tokens), 2), shape)
            for name, function in (("cos", np.cos), ("sin", np.sin))
        }
        mask = np.where(np.arange(variant.context) < past[:, None], 0, MASKED)[:, None, None]
        values = {"embeds": embeds, **rotary, "mask": mask.astype(TYPES[self.precision])}
        if variant.append == SCATTER:
            values["slots"] = self._slots(past, new)
        return values

    def _slots(self, past: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Where new rows go: those of padding to the last slot, which no text reaches."""
        variant, steps = self.variant, np.arange(self.variant.new_tokens)
        to = np.where(steps < new[:, None], past[:, None] + steps, variant.context - 1)
        slots, heads = np.arange(variant.slots)[:, None, None], np.arange(self.config.num_kv_heads)[None, :, None]
        return np.stack(np.broadcast_arrays(slots, heads, to[:, None]), axis=-1).astype(np.int64)

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """Rows of the embedding, from the file."""
        dtype, size = TYPES[self.precision], self.config.hidden_size
        rows = np.empty((len(ids), size), np.float32)
        with open(self.folder / self.weights, "rb") as file:
            for row, token in enumerate(ids):
                file.seek(self.embedding_offset + int(token) * size * dtype.itemsize)
                rows[row] = np.frombuffer(file.read(size * dtype.itemsize), dtype)
        return rows

    def _joined(self, batches: list[list[np.ndarray]], steps: list[list[_Step]]) -> _Values:
        """The rows of new tokens, sequence by sequence."""
        names = [name for name in self._wanted if name != HIDDEN or self.config.variant == GEN]
        return {
            name: np.concatenate(
                [
                    step.values[name][slot, : step.new[slot]]
                    for batch, taken in zip(batches, steps, strict=True)
                    for slot in range(len(batch))
                    for step in taken
                ]
            )
            for name in names
        }


def longest(config: ModelConfig, variant: Variant) -> int:
    """How many tokens of a text the graph takes."""
    return min(config.context, variant.context - (variant.append == SCATTER))
