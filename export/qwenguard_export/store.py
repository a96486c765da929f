"""Turns checkpoint tensors into the graph's weights, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from onnx import TensorProto

from .checkpoint import Checkpoint, TensorInfo, read
from .errors import ExportError
from .quantize import PANEL, pack_panels, packed_shape, panel_shapes, quantize_rows, zero_points_shape
from .weights import WeightWriter

BITS = {"int8": 8, "int4": 4}

# How much is converted at a time, counted in float32: the constant part of the exporter's memory.
_CHUNK_BYTES = 4 * 1024 * 1024

# Quantised rows, their scales, and their zero points if they have any.
_Quantized = tuple[np.ndarray, ...]

_FLOAT32 = np.dtype(np.float32)
# Of scales for CPUs: half as much to read as float32, and their exponents reach as far.
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_EXPONENT_MASKS = {np.dtype(ml_dtypes.bfloat16): 0x7F80, np.dtype(np.float16): 0x7C00}


@dataclass(frozen=True)
class Quantized:
    """Initializer names and sizes of one node that multiplies by a quantised matrix."""

    packed: str
    scales: str
    columns: int
    rows: int
    zero_points: str | None = None

    @property
    def tensors(self) -> list[str]:
        """All of them, as inputs of the node."""
        return [self.packed, self.scales, *([self.zero_points] if self.zero_points else [])]


class WeightStore:
    """Reads from a checkpoint, converts, and writes."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        writer: WeightWriter,
        precision: str,
        group: int,
        progress: Callable[[int], object],
        zero_points: bool = False,
    ) -> None:
        self.precision = precision
        self.group = group
        # Of 4-bit weights in panels.
        self._zero_points = zero_points
        self._checkpoint = checkpoint
        self._writer = writer
        self._progress = progress

    def embedding(self, name: str, source: str) -> bool:
        """Copies a table of rows. True if it is kept in 16 bit, so that the graph has to cast."""
        info = self._checkpoint.tensors[source]
        dtype = info.dtype
        if dtype == _FLOAT32 and self.precision != "fp32":
            dtype = np.dtype(np.float16)
        self._writer.add(name, dtype, info.shape, self._rows(source, dtype))
        return dtype != _FLOAT32

    def vector(self, name: str, source: str, dtype: np.dtype = _FLOAT32) -> None:
        info = self._checkpoint.tensors[source]
        self._writer.add(name, dtype, info.shape, self._rows(source, dtype))

    def table(
        self, name: str, shape: tuple[int, int], function: Callable[[int, int], np.ndarray], dtype: np.dtype = _FLOAT32
    ) -> None:
        """Stores a table that is computed: the function gives the rows from one to another, in float32."""
        step = max(1, _CHUNK_BYTES // (shape[1] * _FLOAT32.itemsize))
        pieces = (function(start, min(start + step, shape[0])) for start in range(0, shape[0], step))
        self._writer.add(name, dtype, shape, (piece.astype(dtype, copy=False) for piece in pieces))

    def constant(self, name: str, values: np.ndarray) -> None:
        """Stores a few values that no checkpoint has."""
        self._writer.add(name, values.dtype, values.shape, [values])

    def transposed(self, name: str, sources: list[str], dtype: np.dtype = _FLOAT32) -> None:
        """Stacks matrices [rows, columns] and stores them as one [columns, rows], as MatMul wants it."""
        rows, columns = self._stacked_shape(sources)
        self._writer.add(name, dtype, (columns, rows), self._transposed(sources, dtype))

    def table_rows(self, name: str, source: str, dtype: np.dtype = _FLOAT32, inline: bool = True) -> TensorProto:
        """Copies a table of rows. It is in the file, however small, if not `inline`."""
        return self._writer.add(name, dtype, self._checkpoint.tensors[source].shape, self._rows(source, dtype), inline)

    def row_ranges(self, name: str, source: str, dtype: np.dtype, step: int) -> list[str]:
        """Stores a table of rows, or finds it stored, as weights of `step` rows each; returns their names."""
        return self._writer.add_ranges(self.table_rows(name, source, dtype, inline=False), step)

    def columns(self, name: str, source: str, rows: tuple[int, ...]) -> None:
        """Stores some rows of a matrix as the columns of a float32 one, as MatMul wants it."""
        values = np.concatenate([self._checkpoint.read_rows(source, row, row + 1) for row in rows]).astype(_FLOAT32)
        _require_finite(source, values)
        self._writer.add(name, _FLOAT32, values.T.shape, [values.T])

    def quantized(self, name: str, sources: list[str], bits: int | None = None) -> Quantized:
        """Stacks matrices and quantises them; rows are independent, so that each is quantised on its own."""
        rows, columns = self._stacked_shape(sources)
        bits = bits or BITS[self.precision]
        has_zero_points = bits == 4 and self._zero_points
        zero_points_name = f"{name}.zero_points" if has_zero_points else None
        result = Quantized(f"{name}.packed", f"{name}.scales", columns, rows, zero_points_name)
        pieces = self._quantized_rows(sources, bits, _BFLOAT16, has_zero_points)
        packed_dims, scales_dims = panel_shapes(rows, columns, bits, self.group)
        pieces = (pack_panels(*piece, bits=bits) for piece in _whole_panels(pieces))
        # The packed values are written as they come. The others, a fraction of them, wait for their turn.
        scales: list[np.ndarray] = []
        zero_points: list[np.ndarray] = []
        waiting = (scales, zero_points) if has_zero_points else (scales,)
        self._writer.add(result.packed, np.dtype(np.uint8), packed_dims, _first(pieces, *waiting))
        self._writer.add(result.scales, _BFLOAT16, scales_dims, scales)
        if zero_points_name:
            dims = zero_points_shape(rows, columns, self.group)
            self._writer.add(zero_points_name, np.dtype(np.uint8), dims, zero_points)
        return result

    def groupwise(self, name: str, sources: list[str], bits: int, scale_type: np.dtype) -> Quantized:
        """Stacks matrices and quantises them as MatMulNBits of a GPU reads them, with scales of its type."""
        rows, columns = self._stacked_shape(sources)
        result = Quantized(f"{name}.packed", f"{name}.scales", columns, rows)
        packed_dims = packed_shape(rows, columns, bits, self.group)
        scales: list[np.ndarray] = []
        pieces = _first(self._quantized_rows(sources, bits, scale_type), scales)
        self._writer.add(result.packed, np.dtype(np.uint8), packed_dims, pieces)
        for piece in scales:
            _require_finite(sources[0], piece)
        self._writer.add(result.scales, scale_type, (rows * packed_dims[1],), scales)
        return result

    def _stacked_shape(self, sources: list[str]) -> tuple[int, int]:
        shapes = [self._checkpoint.tensors[source].shape for source in sources]
        return sum(rows for rows, _ in shapes), shapes[0][1]

    def _quantized_rows(
        self, sources: list[str], bits: int, scale_type: np.dtype, zero_points: bool = False
    ) -> Iterator[_Quantized]:
        for source in sources:
            for rows in self._rows(source, _FLOAT32):
                yield quantize_rows(rows, bits, self.group, scale_type, zero_points)

    def _transposed(self, sources: list[str], dtype: np.dtype) -> Iterator[np.ndarray]:
        matrices = [read(self._checkpoint, source) for source in sources]
        rows, columns = self._stacked_shape(sources)
        step = max(1, _CHUNK_BYTES // (rows * _FLOAT32.itemsize))
        for start in range(0, columns, step):
            with np.errstate(over="ignore"):
                slices = [matrix[:, start : start + step].T.astype(dtype) for matrix in matrices]
            for source, values in zip(sources, slices, strict=True):
                _require_finite(source, values)
            yield np.concatenate(slices, axis=1)
        for matrix in matrices:
            self._progress(matrix.nbytes)

    def _rows(self, source: str, dtype: np.dtype) -> Iterator[np.ndarray]:
        """A tensor's rows in the given type, some at a time."""
        info = self._checkpoint.tensors[source]
        step = rows_per_chunk(info)
        for start in range(0, info.shape[0], step):
            stored = self._checkpoint.read_rows(source, start, min(start + step, info.shape[0]))
            with np.errstate(over="ignore"):
                converted = stored.astype(dtype, copy=False)
            _require_finite(source, converted)
            yield converted
            self._progress(stored.nbytes)


def rows_per_chunk(info: TensorInfo) -> int:
    row_values = info.nbytes // info.dtype.itemsize // info.shape[0]
    return max(1, _CHUNK_BYTES // (row_values * _FLOAT32.itemsize))


def _whole_panels(pieces: Iterator[_Quantized]) -> Iterator[_Quantized]:
    """The same rows, cut where a panel ends; only the last piece may end within one."""
    rest: _Quantized | None = None
    for piece in pieces:
        if rest is not None:
            piece = tuple(np.concatenate(pair) for pair in zip(rest, piece, strict=True))
        end = len(piece[0]) - len(piece[0]) % PANEL
        if end:
            yield tuple(part[:end] for part in piece)
        rest = tuple(part[end:] for part in piece)
    if rest is not None and len(rest[0]):
        yield rest


def _first(pieces: Iterable[_Quantized], *aside: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The first of each piece's parts; the others are put aside."""
    for first, *others in pieces:
        for parts, part in zip(aside, others, strict=True):
            parts.append(part)
        yield first


def _require_finite(source: str, values: np.ndarray) -> None:
    """Damaged weights would otherwise come out as verdicts; so would float32 values beyond the range of float16."""
    mask = _EXPONENT_MASKS.get(values.dtype)
    if mask is None:
        finite = np.isfinite(values).all()
    else:
        # ml_dtypes tests values one by one; an exponent of all ones says the same.
        finite = not ((values.view(np.uint16) & mask) == mask).any()
    if not finite:
        raise ExportError(f"tensor {source}: holds values that are not finite, or too large for the bundle's type")
