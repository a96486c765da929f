"""Runs an exported graph on stock ONNX Runtime, one layer at a time.

ONNX Runtime does not know our operators. Here they are given as model-local functions of standard operators, added to a
copy of the graph in memory: attention of one sequence from its beginning, without a cache, the gate of a feed-forward
layer, and multiplication by unpacked weights. The real one also rounds activations, to 15 bits, which is far less than
what the weights lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper
from onnx.parser import parse_function

from .errors import ExportError, check_interrupted
from .graph import head_outputs
from .graph.lm_head import NEXT_TOKEN
from .graph.trunk import ROW_CHECK
from .quantize import PANEL

VOCABULARY_ROWS = f"{NEXT_TOKEN}_rows"

# How many weights of a vocabulary's head are unpacked at a time.
_PIECE_VALUES = 1 << 24

# What fails is reported once, by us.
_LOG_FATAL = 4

_Values = dict[str, np.ndarray]

_PAGED_ATTENTION = """
<domain: "ai.qwenguard", opset_import: ["" : 21]>
PagedAttention <layer, num_heads, kv_num_heads, head_dim, scale, epsilon>
(qkv, key_cache, value_cache, cu_seqlens, past_lens, block_table, cos, sin, q_norm, k_norm)
=> (attended, key_cache_out, value_cache_out)
{
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    all = Constant <value_ints = [-1]> ()
    heads_scalar = Constant <value_int: int = @num_heads> ()
    kv_heads_scalar = Constant <value_int: int = @kv_num_heads> ()
    size_scalar = Constant <value_int: int = @head_dim> ()
    heads = Reshape (heads_scalar, one)
    kv_heads = Reshape (kv_heads_scalar, one)
    size = Reshape (size_scalar, one)

    split_shape = Concat <axis = 0> (zero, all, size)
    split_sizes = Concat <axis = 0> (heads, kv_heads, kv_heads)
    rows = Reshape (qkv, split_shape)
    q, k, v = Split <axis = 1> (rows, split_sizes)

    eps = Constant <value_float: float = @epsilon> ()
    q_squares = Mul (q, q)
    q_mean = ReduceMean (q_squares, all)
    q_variance = Add (q_mean, eps)
    q_deviation = Sqrt (q_variance)
    q_unit = Div (q, q_deviation)
    q_normed = Mul (q_unit, q_norm)
    k_squares = Mul (k, k)
    k_mean = ReduceMean (k_squares, all)
    k_variance = Add (k_mean, eps)
    k_deviation = Sqrt (k_variance)
    k_unit = Div (k, k_deviation)
    k_normed = Mul (k_unit, k_norm)

    tokens = Shape <start = 0, end = 1> (qkv)
    cos_rows = Slice (cos, zero, tokens, zero)
    sin_rows = Slice (sin, zero, tokens, zero)
    cos_heads = Unsqueeze (cos_rows, one)
    sin_heads = Unsqueeze (sin_rows, one)
    q_first, q_second = Split <axis = -1, num_outputs = 2> (q_normed)
    k_first, k_second = Split <axis = -1, num_outputs = 2> (k_normed)
    q_a = Mul (q_first, cos_heads)
    q_b = Mul (q_second, sin_heads)
    q_c = Mul (q_second, cos_heads)
    q_d = Mul (q_first, sin_heads)
    q_low = Sub (q_a, q_b)
    q_high = Add (q_c, q_d)
    q_rotated = Concat <axis = -1> (q_low, q_high)
    k_a = Mul (k_first, cos_heads)
    k_b = Mul (k_second, sin_heads)
    k_c = Mul (k_second, cos_heads)
    k_d = Mul (k_first, sin_heads)
    k_low = Sub (k_a, k_b)
    k_high = Add (k_c, k_d)
    k_rotated = Concat <axis = -1> (k_low, k_high)

    grouped_shape = Concat <axis = 0> (kv_heads, all, tokens, size)
    q_by_head = Transpose <perm = [1, 0, 2]> (q_rotated)
    q_grouped = Reshape (q_by_head, grouped_shape)
    k_by_head = Transpose <perm = [1, 2, 0]> (k_rotated)
    k_grouped = Unsqueeze (k_by_head, one)
    v_by_head = Transpose <perm = [1, 0, 2]> (v)
    v_grouped = Unsqueeze (v_by_head, one)

    factor = Constant <value_float: float = @scale> ()
    products = MatMul (q_grouped, k_grouped)
    scores = Mul (products, factor)
    blocked = Constant <value_float = -3.0e38> ()
    square_shape = Concat <axis = 0> (tokens, tokens)
    square = Expand (blocked, square_shape)
    diagonal = Constant <value_int = 1> ()
    future = Trilu <upper = 1> (square, diagonal)
    masked = Add (scores, future)
    weights = Softmax <axis = -1> (masked)
    mixed = MatMul (weights, v_grouped)

    head_shape = Concat <axis = 0> (heads, tokens, size)
    by_head = Reshape (mixed, head_shape)
    by_token = Transpose <perm = [1, 0, 2]> (by_head)
    flat_shape = Concat <axis = 0> (tokens, all)
    attended = Reshape (by_token, flat_shape)
    key_cache_out = Identity (key_cache)
    value_cache_out = Identity (value_cache)
}
"""


_MATMUL_INT8 = """
<domain: "ai.qwenguard", opset_import: ["" : 21]>
MatMulInt8 <K, N, block> (a, packed, scales) => (y)
{
    zeros = Constant <value_ints = [0, 0]> ()
    one = Constant <value_ints = [1]> ()
    all = Constant <value_ints = [-1]> ()
    columns_scalar = Constant <value_int: int = @K> ()
    rows_scalar = Constant <value_int: int = @N> ()
    columns = Reshape (columns_scalar, one)
    rows = Reshape (rows_scalar, one)
    panels = Shape <start = 0, end = 1> (packed)
    panel = Shape <start = 2, end = 3> (packed)
    padded_rows = Mul (panels, panel)
    matrix_shape = Concat <axis = 0> (padded_rows, all)

    packed_rows = Transpose <perm = [0, 2, 1, 3]> (packed)
    padded = Reshape (packed_rows, matrix_shape)
    ends = Concat <axis = 0> (rows, columns)
    levels = Slice (padded, zeros, ends)
    scale_rows = Transpose <perm = [0, 2, 1]> (scales)
    padded_scales = Reshape (scale_rows, matrix_shape)
    zero = Constant <value_ints = [0]> ()
    row_scales = Slice (padded_scales, zero, rows)
    offset = Constant <value = uint8 {128}> ()
    scales_shape = Shape (row_scales)
    offsets = Expand (offset, scales_shape)
    weight = DequantizeLinear <axis = 1, block_size: int = @block> (levels, row_scales, offsets)
    y = Gemm <transB = 1> (a, weight)
}
"""


_GATHER_INT8 = """
<domain: "ai.qwenguard", opset_import: ["" : 21]>
GatherInt8 <K, N, block> (packed, scales, ids) => (rows)
{
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    all = Constant <value_ints = [-1]> ()
    columns_scalar = Constant <value_int: int = @K> ()
    columns = Reshape (columns_scalar, one)
    block_scalar = Constant <value_int: int = @block> ()
    block_size = Reshape (block_scalar, one)
    panel = Shape <start = 2, end = 3> (packed)
    count = Shape (ids)

    panel_index = Div (ids, panel)
    lane_index = Mod (ids, panel)
    lane = Unsqueeze (lane_index, one)
    level_panels = Gather <axis = 0> (packed, panel_index)
    levels_by_lane = Transpose <perm = [0, 2, 1, 3]> (level_panels)
    levels = GatherND <batch_dims = 1> (levels_by_lane, lane)
    scale_panels = Gather <axis = 0> (scales, panel_index)
    scales_by_lane = Transpose <perm = [0, 2, 1]> (scale_panels)
    row_scales = GatherND <batch_dims = 1> (scales_by_lane, lane)

    blocked_shape = Concat <axis = 0> (count, all, block_size)
    level_blocks = Reshape (levels, blocked_shape)
    level_floats = Cast <to = 1> (level_blocks)
    offset = Constant <value_float = 128.0> ()
    centred = Sub (level_floats, offset)
    last = Constant <value_ints = [2]> ()
    scale_blocks = Unsqueeze (row_scales, last)
    values = Mul (centred, scale_blocks)
    flat_shape = Concat <axis = 0> (count, all)
    padded = Reshape (values, flat_shape)
    rows = Slice (padded, zero, columns, one)
}
"""


_SWIGLU = """
<domain: "ai.qwenguard", opset_import: ["" : 21]>
SwiGlu (both) => (gated)
{
    gate, values = Split <axis = 1, num_outputs = 2> (both)
    sigmoid = Sigmoid (gate)
    swish = Mul (gate, sigmoid)
    gated = Mul (swish, values)
}
"""


def operators() -> list[FunctionProto]:
    """Our operators as functions of standard ones."""
    return [parse_function(text) for text in (_PAGED_ATTENTION, _MATMUL_INT8, _GATHER_INT8, _SWIGLU)]


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
    session, names = _open(_cut(model, part), folder), sorted(part.outputs)
    outputs = [session.run(names, {name: known[name] for name in part.inputs}) for known in values]
    return [
        _after(part, known, dict(zip(names, found, strict=True))) for known, found in zip(values, outputs, strict=True)
    ]


def _run_vocabulary(model: ModelProto, folder: Path, part: _Part, values: list[_Values]) -> list[_Values]:
    """The same for the head of the whole vocabulary, piece by piece: unpacked it would fill the memory."""
    node = part.nodes[0]
    inputs = [known[node.input[0]] for known in values]
    rows = np.concatenate(inputs)
    pieces = [
        _open(piece, folder).run([NEXT_TOKEN], {node.input[0]: rows})[0]
        for piece in _vocabulary_pieces(model, part)
        if len(rows)
    ]
    size = next(output for output in model.graph.output if output.name == NEXT_TOKEN).type.tensor_type.shape.dim[1]
    logits = np.concatenate(pieces, axis=1) if pieces else np.zeros((0, size.dim_value), np.float32)
    found = np.split(logits, np.cumsum([len(values) for values in inputs])[:-1])
    return [_after(part, known, {NEXT_TOKEN: piece}) for known, piece in zip(values, found, strict=True)]


def _after(part: _Part, known: _Values, outputs: _Values) -> _Values:
    return {name: value for name, value in {**known, **outputs}.items() if name in part.needed_later}


def _vocabulary_pieces(model: ModelProto, part: _Part) -> Iterator[ModelProto]:
    """The head cut along its classes, which lie one after the other: in panels, or in rows."""
    node = part.nodes[0]
    weights = [tensor for name in node.input[1:] for tensor in model.graph.initializer if tensor.name == name]
    unit = PANEL if node.op_type == "MatMulInt8" else 1
    units, columns = weights[0].dims[0], math.prod(weights[0].dims[1:]) // unit
    step = max(1, _PIECE_VALUES // (columns * unit))
    classes = next((attribute.i for attribute in node.attribute if attribute.name == "N"), units)
    for start in range(0, units, step):
        stop = min(start + step, units)
        piece = NodeProto()
        piece.CopyFrom(node)
        for attribute in piece.attribute:
            if attribute.name == "N":
                attribute.i = min(stop * unit, classes) - start * unit
        cut = _Part([piece], part.inputs, part.outputs, part.needed_later)
        yield _cut(model, cut, [_slice(tensor, start, stop) for tensor in weights])


def _slice(tensor: TensorProto, start: int, stop: int) -> TensorProto:
    """Some rows of a tensor, wherever it lies."""
    result = TensorProto()
    result.CopyFrom(tensor)
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
    return NEXT_TOKEN if NEXT_TOKEN in node.output else node.name.split("/")[1]


def _cut(model: ModelProto, part: _Part, weights: list[TensorProto] | None = None) -> ModelProto:
    used = {name for node in part.nodes for name in node.input}
    known = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    if weights is not None:
        # A piece has fewer classes than the output.
        known.pop(NEXT_TOKEN)
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
        functions=operators(),
    )


def _hidden(name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["tokens", None])


def _open(model: ModelProto, folder: Path) -> ort.InferenceSession:
    check_interrupted()
    options = ort.SessionOptions()
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
            heads = value.type.tensor_type.shape.dim[1].dim_value
            inputs[value.name] = np.zeros((1, heads, 1), dtype=np.uint8)
    return inputs
