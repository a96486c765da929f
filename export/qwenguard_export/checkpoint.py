"""Reads a Hugging Face checkpoint's tensors, a slice at a time.

The safetensors files are read with plain file reads rather than mapped: pages of a mapping count as memory of the
process, and a file that shrinks under a mapping kills it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from .config import ModelConfig
from .errors import ExportError, naming

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

# The format's own limit; a larger header is a damaged length field.
MAX_HEADER_BYTES = 100 * 1024 * 1024


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
    hidden, inner, head_dim = config.hidden_size, config.guard_inner_size, config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
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
    for role in ("", "query_"):
        shapes[f"{role}risk_level_category_pre.weight"] = (inner, hidden)
        shapes[f"{role}risk_level_category_layernorm.weight"] = (inner,)
    for labels, name in HEADS.items():
        shapes[name] = (len(config.labels[labels]), inner)
    return shapes


def check_tensors(checkpoint: Checkpoint, config: ModelConfig) -> None:
    """Refuses a checkpoint whose tensors are not exactly those of the architecture."""
    expected = expected_shapes(config)
    for name, shape in expected.items():
        info = checkpoint.tensors.get(name)
        if info is None:
            raise ExportError(f"missing tensor {name}")
        if info.shape != shape:
            raise ExportError(f"tensor {name}: shape {list(info.shape)}, config.json asks for {list(shape)}")
    for name in checkpoint.tensors:
        if name not in expected and not _is_unused(name):
            # A bias or an adapter that we silently left out would give wrong verdicts.
            raise ExportError(f"unexpected tensor {name}")


def _is_unused(name: str) -> bool:
    return name == "lm_head.weight" or name.endswith("rotary_emb.inv_freq")


class SafetensorsCheckpoint:
    """The tensors of a checkpoint folder, in one safetensors file or in shards."""

    def __init__(self, folder: Path) -> None:
        self.tensors: dict[str, TensorInfo] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        self.files: list[Path] = []
        if (folder / SINGLE_FILE).is_file():
            self._add_file(folder / SINGLE_FILE, wanted=None)
        elif (folder / INDEX_FILE).is_file():
            self._add_shards(folder / INDEX_FILE)
        else:
            raise ExportError(f"{folder}: neither {SINGLE_FILE} nor {INDEX_FILE} found")

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        info = self.tensors[name]
        path, offset = self._places[name]
        row_shape = info.shape[1:]
        row_bytes = math.prod(row_shape) * info.dtype.itemsize
        raw = np.empty((stop - start) * row_bytes, dtype=np.uint8)
        with naming("read", path), open(path, "rb", buffering=0) as file:
            file.seek(offset + start * row_bytes)
            _read_exactly(file, raw, f"{path}: tensor {name}")
        return raw.view(info.dtype).reshape(stop - start, *row_shape)

    def _add_shards(self, index_path: Path) -> None:
        index = read_json(index_path)
        weight_map = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(weight_map, dict) or not weight_map:
            raise ExportError(f"{index_path}: weight_map: missing or empty")
        self.files.append(index_path)
        by_shard: dict[str, set[str]] = {}
        for tensor, shard in weight_map.items():
            if not isinstance(shard, str) or Path(shard).name != shard:
                raise ExportError(f"{index_path}: weight_map: {tensor}: {shard!r} is not a file name")
            by_shard.setdefault(shard, set()).add(tensor)
        for shard, wanted in sorted(by_shard.items()):
            path = index_path.parent / shard
            if not path.is_file():
                raise ExportError(f"missing shard {path}, named in {INDEX_FILE}")
            self._add_file(path, wanted)

    def _add_file(self, path: Path, wanted: set[str] | None) -> None:
        header, data_start = _read_header(path)
        self.files.append(path)
        for name in sorted((wanted or set()) - header.keys()):
            raise ExportError(f"{path}: missing tensor {name}, which {INDEX_FILE} places there")
        for name, entry in header.items():
            if wanted is not None and name not in wanted:
                continue
            if _is_unused(name):
                continue
            info, start = _tensor_entry(path, name, entry)
            self.tensors[name] = info
            self._places[name] = (path, data_start + start)


def read_json(path: Path) -> Any:
    return parse_json(read_bytes(path), path)


def parse_json(data: bytes, path: Path) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise ExportError(f"{path}: not valid JSON: {error}") from error


def read_bytes(path: Path) -> bytes:
    with naming("read", path):
        return path.read_bytes()


def _read_exactly(file: Any, buffer: np.ndarray, what: str) -> None:
    view = buffer.data
    while view:
        count = file.readinto(view)
        if not count:
            raise ExportError(f"{what}: the file ends {len(view)} bytes early")
        view = view[count:]


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    with naming("read", path), open(path, "rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > MAX_HEADER_BYTES:
            raise ExportError(f"{path}: not a safetensors file")
        if 8 + length > size:
            raise ExportError(f"{path}: truncated inside its header")
        header = parse_json(file.read(length), path)
    if not isinstance(header, dict):
        raise ExportError(f"{path}: the safetensors header is not an object")
    header.pop("__metadata__", None)
    data_start = 8 + length
    ends = [_offsets(path, name, entry)[1] for name, entry in header.items()]
    if data_start + max(ends, default=0) > size:
        raise ExportError(f"{path}: truncated: {size} bytes, its header asks for {data_start + max(ends)}")
    return header, data_start


def _offsets(path: Path, name: str, entry: Any) -> tuple[int, int]:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    match offsets:
        case [int(start), int(stop)] if 0 <= start <= stop:
            return start, stop
    raise ExportError(f"{path}: tensor {name}: damaged data_offsets")


def _tensor_entry(path: Path, name: str, entry: dict[str, Any]) -> tuple[TensorInfo, int]:
    dtype = DTYPES.get(str(entry.get("dtype")))
    if dtype is None:
        known = ", ".join(DTYPES)
        raise ExportError(f"{path}: tensor {name}: unexpected dtype {entry.get('dtype')}, expected one of {known}")
    shape = entry.get("shape")
    if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise ExportError(f"{path}: tensor {name}: damaged shape")
    info = TensorInfo(tuple(shape), dtype)
    start, stop = _offsets(path, name, entry)
    if stop - start != info.nbytes:
        raise ExportError(f"{path}: tensor {name}: {stop - start} bytes stored, its shape needs {info.nbytes}")
    return info, start
