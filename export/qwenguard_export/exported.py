"""Runs an exported paged graph on stock ONNX Runtime, one layer at a time.

Operators that its CPU provider does not know are given as model-local functions, added to a copy of the graph in
memory. Graphs for GPUs are run as float32 graphs that round where the GPU would: see `rounded`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from .errors import ExportError, check_interrupted
from .graph import head_outputs
from .graph.lm_head import NEXT_TOKEN, VOCABULARY_NODES
from .graph.trunk import ROW_CHECK
from .operators_spelled_out import operators as operators
from .quantize import PANEL
from .rounded import in_float32, is_for_gpu

VOCABULARY_ROWS = f"{NEXT_TOKEN}_rows"

# How many weights of a vocabulary's head are unpacked at a time.
_PIECE_VALUES = 1 << 24

# What fails is reported once, by us.
_LOG_FATAL = 4

_Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Part:
    """A run of nodes that is evaluated on its own."""

    nodes: list[NodeProto]
    inputs: set[str]
    outputs: set[str]
    needed_later: set[str]


def evaluate(
    model: ModelProto,
    folder: Path,
    sequences: list[np.ndarray],
    progress: Callable[[], object],
    next_token_rows: list[np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Logits [tokens, classes] of each head, and the row check, for all sequences one after the other.

    A head of the whole vocabulary is computed for `next_token_rows` only, the tokens of each sequence.
    """
    if is_for_gpu(model):
        model = in_float32(model)
    values = [_graph_inputs(model, ids) for ids in sequences]
    if VOCABULARY_ROWS in values[0]:
        for known, rows in zip(values, next_token_rows or [np.zeros(0)] * len(values), strict=True):
            known[VOCABULARY_ROWS] = rows.astype(np.int64)
    for part in _parts(model):
        try:
            run = _run_vocabulary if NEXT_TOKEN in part.outputs else _run
            values = run(model, folder, part, values)
        except Exception as error:  # the runtime's exceptions have no narrower base
            raise ExportError(f"ONNX Runtime fails on {part.nodes[0].name}: {error}") from error
        progress()
    return {name: np.concatenate([known[name] for known in values]) for name in _wanted(model)}


def require_finite(outputs: dict[str, np.ndarray], stage: str) -> None:
    for name, values in outputs.items():
        if not np.isfinite(values).all():
            raise ExportError(f"{stage}: the exported graph gives {name} values that are not finite")


def count_parts(model: ModelProto) -> int:
    return len(_parts(model))


def _run(model: ModelProto, folder: Path, part: _Part, values: list[_Values]) -> list[_Values]:
    """Runs a part on each sequence; returns what the parts after it need."""
    session, names = open_session(_cut(model, part), folder), sorted(part.outputs)
    outputs = [session.run(names, {name: known[name] for name in part.inputs}) for known in values]
    return [
        _after(part, known, dict(zip(names, found, strict=True))) for known, found in zip(values, outputs, strict=True)
    ]


def _run_vocabulary(model: ModelProto, folder: Path, part: _Part, values: list[_Values]) -> list[_Values]:
    """The same for the head of the whole vocabulary, piece by piece: unpacked it would fill the memory."""
    (source,) = part.inputs
    inputs = [known[source] for known in values]
    rows = np.concatenate(inputs)
    pieces = [
        open_session(piece, folder).run([NEXT_TOKEN], {source: rows})[0]
        for piece in _vocabulary_pieces(model, part)
        if len(rows)
    ]
    size = next(output for output in model.graph.output if output.name == NEXT_TOKEN).type.tensor_type.shape.dim[1]
    logits = np.concatenate(pieces, axis=1) if pieces else np.zeros((0, size.dim_value), np.float32)
    found = np.split(logits, np.cumsum([len(rows) for rows in inputs])[:-1])
    return [_after(part, known, {NEXT_TOKEN: piece}) for known, piece in zip(values, found, strict=True)]


def _after(part: _Part, known: _Values, outputs: _Values) -> _Values:
    return {name: value for name, value in {**known, **outputs}.items() if name in part.needed_later}


def _vocabulary_pieces(model: ModelProto, part: _Part) -> Iterator[ModelProto]:
    """The head cut along its classes, which lie one after the other: in panels, or in rows."""
    used = {name for node in part.nodes for name in node.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in used]
    unit = PANEL if any(node.op_type == "MatMulInt8" for node in part.nodes) else 1
    # Scales may be all on one axis, some for every unit.
    units = min(tensor.dims[0] for tensor in weights)
    values = max(math.prod(tensor.dims) for tensor in weights)
    step = max(1, _PIECE_VALUES * units // values)
    for start in range(0, units, step):
        stop = min(start + step, units)
        nodes = [_narrowed(node, start * unit, stop * unit) for node in part.nodes]
        cut = _Part(nodes, part.inputs, part.outputs, part.needed_later)
        yield _cut(model, cut, [_slice(tensor, units, start, stop) for tensor in weights])


def _narrowed(node: NodeProto, start: int, stop: int) -> NodeProto:
    """A node for some of its classes."""
    result = NodeProto()
    result.CopyFrom(node)
    for attribute in result.attribute:
        if attribute.name == "N":
            attribute.i = min(stop, attribute.i) - start
    return result


def _slice(tensor: TensorProto, units: int, start: int, stop: int) -> TensorProto:
    """Some rows of a tensor, wherever it lies: those of some of the units."""
    result = TensorProto()
    result.CopyFrom(tensor)
    start, stop = (end * tensor.dims[0] // units for end in (start, stop))
    result.dims[0] = stop - start
    places = {entry.key: entry for entry in result.external_data}
    size = int(places["length"].value) if places else len(tensor.raw_data)
    row = size // tensor.dims[0]
    if places:
        places["offset"].value = str(int(places["offset"].value) + start * row)
        places["length"].value = str((stop - start) * row)
    else:
        result.raw_data = tensor.raw_data[start * row : stop * row]
    return result


def _wanted(model: ModelProto) -> list[str]:
    return [*head_outputs(model), ROW_CHECK]


def _parts(model: ModelProto) -> list[_Part]:
    """Splits the graph by the first component of its node names: /embed, /layers.0, ..., /norm, /heads. The head of a
    vocabulary is a part of its own."""
    weights = {tensor.name for tensor in model.graph.initializer}
    needed = set(_wanted(model))
    parts = []
    groups = [list(nodes) for _, nodes in groupby(model.graph.node, key=_part_name)]
    for nodes in reversed(groups):
        produced = {name for node in nodes for name in node.output}
        consumed = {name for node in nodes for name in node.input} - produced - weights
        parts.append(_Part(nodes, consumed, produced & needed, needed))
        needed = (needed - produced) | consumed
    return parts[::-1]


def _part_name(node: NodeProto) -> str:
    return NEXT_TOKEN if node.name.startswith(VOCABULARY_NODES) else node.name.split("/")[1]


def _cut(model: ModelProto, part: _Part, weights: list[TensorProto] | None = None) -> ModelProto:
    used = {name for node in part.nodes for name in node.input}
    known = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    if weights is not None:
        # A piece has fewer classes than the output, and any number of rows.
        for name in (NEXT_TOKEN, *part.inputs):
            known.pop(name, None)
    else:
        weights = [tensor for tensor in model.graph.initializer if tensor.name in used]
    graph = helper.make_graph(
        part.nodes,
        "part",
        [known.get(name) or _hidden(name) for name in sorted(part.inputs)],
        [known.get(name) or _hidden(name) for name in sorted(part.outputs)],
        weights,
    )
    return helper.make_model(
        graph,
        ir_version=model.ir_version,
        opset_imports=model.opset_import,
        functions=operators(part.nodes),
    )


def _hidden(name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["tokens", None])


def open_session(model: ModelProto, folder: Path, is_basic: bool = False) -> ort.InferenceSession:
    """`is_basic` leaves out the optimisations that replace what a graph says by something else."""
    check_interrupted()
    options = ort.SessionOptions()
    if is_basic:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = _LOG_FATAL
    options.enable_cpu_mem_arena = False
    # Weights are unpacked once, when the graph is loaded, and not for every sequence.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Where the weights file is, for a graph that has no path of its own.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _graph_inputs(model: ModelProto, ids: np.ndarray) -> _Values:
    inputs: _Values = {
        "input_ids": ids.astype(np.int64),
        "cu_seqlens": np.array([0, len(ids)], dtype=np.int32),
        "past_lens": np.zeros(1, dtype=np.int32),
        "block_table": np.zeros((1, 1), dtype=np.int32),
    }
    for value in model.graph.input:
        if value.name.endswith("_rows"):
            inputs[value.name] = np.arange(len(ids), dtype=np.int64)
        elif value.name not in inputs:
            inputs[value.name] = _no_cache(value)
    return inputs


def _no_cache(value: ValueInfoProto) -> np.ndarray:
    """Attention spelled out does not read it."""
    kind = value.type.tensor_type
    shape = [dimension.dim_value or 1 for dimension in kind.shape.dim]
    return np.zeros(shape, dtype=helper.tensor_dtype_to_np_dtype(kind.elem_type))
