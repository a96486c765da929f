"""Writes a graph's weights: large tensors to an external file, small ones into the graph itself."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
from onnx import TensorProto

from .errors import check_interrupted, naming
from .files import create

# External tensors start on a page, so that the runtime can map them in place. A tensor smaller than that stays inline.
ALIGNMENT = 4096

_ONNX_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(ml_dtypes.bfloat16): TensorProto.BFLOAT16,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int64): TensorProto.INT64,
}


def onnx_type(dtype: np.dtype) -> int:
    return _ONNX_TYPES[np.dtype(dtype)]


class WeightWriter:
    """Streams tensors to one external data file and keeps their entries for the graphs.

    Graphs that are written one after the other share a tensor of the same name, type and shape.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: dict[tuple[str, np.dtype, tuple[int, ...]], TensorProto] = {}
        # Of the graph that is being built, by name.
        self._used: dict[str, TensorProto] = {}
        self._position = 0
        self._sha256 = hashlib.sha256()
        self._file = create(path)

    def __enter__(self) -> WeightWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with naming("write", self.path):
            self._file.close()

    def add(
        self, name: str, dtype: np.dtype, shape: Sequence[int], chunks: Iterable[np.ndarray], inline: bool = True
    ) -> TensorProto:
        """Adds a tensor, given as consecutive pieces of its values. A small one is kept in the graph if `inline`."""
        key = name, np.dtype(dtype), tuple(shape)
        if key not in self._written:
            self._written[key] = self._write_tensor(*key, chunks, inline)
        tensor = self._written[key]
        if self._used.setdefault(name, tensor) is not tensor:
            raise AssertionError(f"{name}: a graph has two tensors of this name")
        return tensor

    def add_ranges(self, table: TensorProto, step: int) -> list[str]:
        """Takes the place of a tensor in the graph: ranges of its rows, which are where they are in the file."""
        self._used.pop(table.name)
        place = {entry.key: entry.value for entry in table.external_data}
        row = int(place["length"]) // table.dims[0]
        names = []
        for start in range(0, table.dims[0], step):
            rows = min(step, table.dims[0] - start)
            name = f"{table.name}.{start}"
            piece = TensorProto(name=name, data_type=table.data_type, dims=[rows, *table.dims[1:]])
            piece.data_location = TensorProto.EXTERNAL
            offset = int(place["offset"]) + start * row
            for key, value in (("location", place["location"]), ("offset", offset), ("length", rows * row)):
                piece.external_data.add(key=key, value=str(value))
            self._used[name] = piece
            names.append(name)
        return names

    def take(self) -> list[TensorProto]:
        """The tensors that were added since the last call: those of one graph."""
        tensors, self._used = list(self._used.values()), {}
        return tensors

    def finish(self) -> tuple[int, str]:
        """Makes the file durable; returns its size and digest."""
        with naming("write", self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._position, self._sha256.hexdigest()

    def _write_tensor(
        self, name: str, dtype: np.dtype, shape: tuple[int, ...], chunks: Iterable[np.ndarray], inline: bool
    ) -> TensorProto:
        size = math.prod(shape) * dtype.itemsize
        tensor = TensorProto(name=name, data_type=_ONNX_TYPES[dtype], dims=shape)
        raw = (_bytes(chunk, dtype) for chunk in chunks)
        if inline and size < ALIGNMENT:
            tensor.raw_data = b"".join(piece.tobytes() for piece in raw)
            written = len(tensor.raw_data)
        else:
            written = self._add_external(tensor, size, raw)
        if written != size:
            raise AssertionError(f"{name}: {written} bytes given, {size} expected")
        return tensor

    def _add_external(self, tensor: TensorProto, size: int, pieces: Iterable[np.ndarray]) -> int:
        self._write(np.zeros(-self._position % ALIGNMENT, dtype=np.uint8))
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.path.name), ("offset", self._position), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        start = self._position
        for piece in pieces:
            self._write(piece)
        return self._position - start

    def _write(self, piece: np.ndarray) -> None:
        check_interrupted()
        with naming("write", self.path):
            self._file.write(piece.data)
        self._sha256.update(piece.data)
        self._position += piece.nbytes


def _bytes(chunk: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if chunk.dtype != dtype:
        raise AssertionError(f"chunk of {chunk.dtype} for a tensor of {dtype}")
    return np.ascontiguousarray(chunk).reshape(-1).view(np.uint8)
