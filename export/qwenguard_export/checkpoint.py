"""Reads a Hugging Face checkpoint's tensors, a slice at a time.

The safetensors files are read with plain file reads rather than mapped: pages of a mapping count as memory of the
process, and a file that shrinks under a mapping kills it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from . import limits
from .config import STREAM, ModelConfig
from .errors import ExportError, naming
from .files import is_plain_name, open_regular, parse_json, read_bytes, read_up_to, require_file, shown

# How many rows of two tensors are compared at a time.
_COMPARED_ROWS = 1024

DTYPES = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
}

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"

HEADS = {
    "response_risk": "risk_level_head.weight",
    "response_category": "category_head.weight",
    "query_risk": "query_risk_level_head.weight",
    "query_category": "query_category_head.weight",
}

EMBEDDING = "model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"

_METADATA = "__metadata__"


@dataclass(frozen=True)
class TensorInfo:
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Checkpoint(Protocol):
    """Named tensors that can be read in slices of rows, as stored."""

    tensors: dict[str, TensorInfo]

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray: ...


def read(checkpoint: Checkpoint, name: str) -> np.ndarray:
    """A whole tensor, as stored."""
    return checkpoint.read_rows(name, 0, checkpoint.tensors[name].shape[0])


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor the graph is made of, in the order in which the graph uses them."""
    hidden, head_dim = config.hidden_size, config.head_dim
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, hidden)}
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (hidden,),
            f"{prefix}.self_attn.q_proj.weight": (config.q_size, hidden),
            f"{prefix}.self_attn.k_proj.weight": (config.kv_size, hidden),
            f"{prefix}.self_attn.v_proj.weight": (config.kv_size, hidden),
            f"{prefix}.self_attn.q_norm.weight": (head_dim,),
            f"{prefix}.self_attn.k_norm.weight": (head_dim,),
            f"{prefix}.self_attn.o_proj.weight": (hidden, config.q_size),
            f"{prefix}.post_attention_layernorm.weight": (hidden,),
            f"{prefix}.mlp.gate_proj.weight": (config.intermediate_size, hidden),
            f"{prefix}.mlp.up_proj.weight": (config.intermediate_size, hidden),
            f"{prefix}.mlp.down_proj.weight": (hidden, config.intermediate_size),
        }
    shapes["model.norm.weight"] = (hidden,)
    if config.variant == STREAM:
        return shapes | _guard_heads(config)
    return shapes if config.tied else shapes | {LM_HEAD: (config.vocab_size, hidden)}


def _guard_heads(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    hidden, inner = config.hidden_size, config.guard_inner_size
    assert inner is not None
    shapes: dict[str, tuple[int, ...]] = {}
    for role in ("", "query_"):
        shapes[f"{role}risk_level_category_pre.weight"] = (inner, hidden)
        shapes[f"{role}risk_level_category_layernorm.weight"] = (inner,)
    for labels, name in HEADS.items():
        shapes[name] = (len(config.labels[labels]), inner)
    return shapes


def head_of(config: ModelConfig) -> str:
    """The tensor that is the LM head of a Gen model."""
    return EMBEDDING if config.tied else LM_HEAD


def check_tensors(checkpoint: Checkpoint, config: ModelConfig) -> None:
    """Refuses a checkpoint whose tensors are not exactly those of the architecture."""
    expected = expected_shapes(config)
    for name, shape in expected.items():
        info = checkpoint.tensors.get(name)
        if info is None:
            raise ExportError(f"missing tensor {name}")
        if info.shape != shape:
            raise ExportError(f"tensor {name}: shape {list(info.shape)}, config.json asks for {list(shape)}")
    if 4 * sum(math.prod(shape) for shape in expected.values()) > limits.BUNDLE_BYTES:
        raise ExportError(f"the tensors have more than {limits.BUNDLE_BYTES} bytes in float32")
    if config.variant != STREAM and config.tied and LM_HEAD in checkpoint.tensors:
        _require_copy(checkpoint)
    for name in checkpoint.tensors:
        if name not in expected and name != LM_HEAD:
            # A bias or an adapter that we silently left out would give wrong verdicts.
            raise ExportError(f"unexpected tensor {shown(name)}")


def _require_copy(checkpoint: Checkpoint) -> None:
    """Of a head that is stored although it is tied, programs would take the one or the other."""
    embedding, head = checkpoint.tensors[EMBEDDING], checkpoint.tensors[LM_HEAD]
    equal = embedding == head
    for start in range(0, embedding.shape[0] if equal else 0, _COMPARED_ROWS):
        stop = min(start + _COMPARED_ROWS, embedding.shape[0])
        pair = (checkpoint.read_rows(name, start, stop).view(np.uint8) for name in (EMBEDDING, LM_HEAD))
        equal = equal and np.array_equal(*pair)
    if not equal:
        raise ExportError(f"tensor {LM_HEAD}: differs from {EMBEDDING}, but tie_word_embeddings is true")


def _is_unused(name: str) -> bool:
    return name.endswith("rotary_emb.inv_freq")


class SafetensorsCheckpoint:
    """The tensors of a checkpoint folder, in one safetensors file or in shards."""

    def __init__(self, folder: Path, has_lm_head: bool = False) -> None:
        """A guard has no use for an LM head, whatever it holds: without `has_lm_head` there is none."""
        self.tensors: dict[str, TensorInfo] = {}
        self._has_lm_head = has_lm_head
        self._places: dict[str, tuple[Path, int]] = {}
        self.files: list[Path] = []
        if os.path.lexists(folder / SINGLE_FILE):
            self._add_file(require_file(folder / SINGLE_FILE), wanted=None)
        elif os.path.lexists(folder / INDEX_FILE):
            self._add_shards(require_file(folder / INDEX_FILE))
        else:
            raise ExportError(f"{folder}: neither {SINGLE_FILE} nor {INDEX_FILE} found")

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        info = self.tensors[name]
        path, offset = self._places[name]
        row_shape = info.shape[1:]
        row_bytes = math.prod(row_shape) * info.dtype.itemsize
        raw = np.empty((stop - start) * row_bytes, dtype=np.uint8)
        with open_regular(path) as file, naming("read", path):
            file.seek(offset + start * row_bytes)
            _read_exactly(file, raw, f"{path}: tensor {name}")
        return raw.view(info.dtype).reshape(stop - start, *row_shape)

    def _add_shards(self, index_path: Path) -> None:
        index = parse_json(read_bytes(index_path, limits.INDEX_BYTES), index_path)
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(weight_map, dict) or not weight_map:
            raise ExportError(f"{index_path}: weight_map: missing or empty")
        self.files.append(index_path)
        by_shard: dict[str, set[str]] = {}
        for tensor, shard in weight_map.items():
            if not isinstance(shard, str) or not is_plain_name(shard):
                raise ExportError(f"{index_path}: weight_map: {shown(tensor)}: {shown(repr(shard))} is not a file name")
            by_shard.setdefault(shard, set()).add(tensor)
        for shard, wanted in sorted(by_shard.items()):
            path = index_path.parent / shard
            if not os.path.lexists(path):
                raise ExportError(f"missing shard {path}, named in {INDEX_FILE}")
            self._add_file(require_file(path), wanted)

    def _add_file(self, path: Path, wanted: set[str] | None) -> None:
        header, data_start = _read_header(path)
        self.files.append(path)
        for name in sorted((wanted or set()) - header.keys()):
            raise ExportError(f"{path}: missing tensor {shown(name)}, which {INDEX_FILE} places there")
        for name, entry in header.items():
            if _is_unused(name) or (name == LM_HEAD and not self._has_lm_head):
                continue
            if wanted is not None and name not in wanted:
                raise ExportError(f"{path}: tensor {shown(name)}: {INDEX_FILE} does not place it there")
            info, start = _tensor_entry(path, name, entry)
            self.tensors[name] = info
            self._places[name] = (path, data_start + start)


def _read_exactly(file: Any, buffer: np.ndarray, what: str) -> None:
    view = buffer.data
    while view:
        count = file.readinto(view)
        if not count:
            raise ExportError(f"{what}: the file ends {len(view)} bytes early")
        view = view[count:]


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    with open_regular(path) as file, naming("read", path):
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(read_up_to(file, 8), "little")
        if size < 8 or length > limits.HEADER_BYTES:
            raise ExportError(f"{path}: not a safetensors file")
        if 8 + length > size:
            raise ExportError(f"{path}: truncated inside its header")
        header = parse_json(read_up_to(file, length), path)
    if not isinstance(header, dict):
        raise ExportError(f"{path}: the safetensors header is not an object")
    metadata = header.pop(_METADATA, None)
    if metadata is not None and not isinstance(metadata, dict):
        raise ExportError(f"{path}: {_METADATA}: expected an object")
    data_start = 8 + length
    _check_places(path, header, size, data_start)
    return header, data_start


def _check_places(path: Path, header: dict[str, Any], size: int, data_start: int) -> None:
    """The format has tensors one after the other, without gaps, up to the file's end."""
    end = 0
    places = sorted((*_offsets(path, name, entry), name) for name, entry in header.items())
    for start, stop, name in places:
        if start != end:
            problem = "overlaps the one before it" if start < end else f"{start - end} bytes before it are no tensor's"
            raise ExportError(f"{path}: tensor {shown(name)}: data_offsets: {problem}")
        end = stop
    if data_start + end > size:
        raise ExportError(f"{path}: truncated: {size} bytes, its header asks for {shown(data_start + end)}")
    if data_start + end < size:
        raise ExportError(f"{path}: {size - data_start - end} bytes after the last tensor are no tensor's")


def _offsets(path: Path, name: str, entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if isinstance(offsets, list) and len(offsets) == 2 and all(map(_is_size, offsets)) and offsets[0] <= offsets[1]:
        return offsets[0], offsets[1]
    raise ExportError(f"{path}: tensor {shown(name)}: damaged data_offsets")


def _tensor_entry(path: Path, name: str, entry: dict[str, Any]) -> tuple[TensorInfo, int]:
    dtype = entry.get("dtype")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        known = ", ".join(DTYPES)
        raise ExportError(f"{path}: tensor {shown(name)}: unexpected dtype {shown(dtype)}, expected one of {known}")
    shape = entry.get("shape")
    if not isinstance(shape, list) or not 0 < len(shape) <= limits.DIMENSIONS or not all(map(_is_size, shape)):
        raise ExportError(f"{path}: tensor {shown(name)}: damaged shape")
    info = TensorInfo(tuple(shape), DTYPES[dtype])
    start, stop = _offsets(path, name, entry)
    if stop - start != info.nbytes:
        stored = f"{shown(stop - start)} bytes stored, its shape needs {shown(info.nbytes)}"
        raise ExportError(f"{path}: tensor {shown(name)}: {stored}")
    return info, start


def _is_size(value: Any) -> bool:
    """No more than files can have: also what is computed with it stays small."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
