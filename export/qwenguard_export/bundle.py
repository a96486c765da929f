"""The files of a bundle, and what guard.toml says of them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from . import __version__, limits
from .config import GEN, ModelConfig
from .errors import ExportError, naming
from .files import create, open_regular
from .graph import Head
from .publish import MANIFEST as MANIFEST
from .publish import staging as staging
from .text import TEMPLATE_FILE, TOKENIZER_FILE

GRAPH_FILE = "paged.onnx"
WEIGHTS_FILE = "weights.bin"

_HASH_BYTES = 1024 * 1024

# The library refuses larger ones.
_MOST_BYTES = {
    MANIFEST: limits.MANIFEST_BYTES,
    TOKENIZER_FILE: limits.TOKENIZER_BYTES,
    TEMPLATE_FILE: limits.TEMPLATE_BYTES,
}


@dataclass(frozen=True)
class FileRecord:
    bytes: int
    sha256: str


def write_file(path: Path, data: bytes) -> FileRecord:
    most = limits.GRAPH_BYTES if path.suffix == ".onnx" else _MOST_BYTES.get(path.name, len(data))
    if len(data) > most:
        raise ExportError(f"{path.name}: {len(data)} bytes, a bundle's has at most {most}")
    with create(path) as file, naming("write", path):
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(len(data), hashlib.sha256(data).hexdigest())


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file, naming("read", path):
        while piece := file.read(_HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def manifest(
    *,
    config: ModelConfig,
    heads: list[Head],
    answer: dict[str, Any] | None,
    precision: str,
    group: int | None,
    zero_points: bool,
    source_name: str,
    source_sha256: dict[str, str],
    tokens: dict[str, int | list[int]],
    graphs: dict[str, dict[str, Any]],
    files: dict[str, FileRecord],
    parity: dict[str, Any],
    self_test: list[dict[str, Any]],
) -> bytes:
    """The text of guard.toml."""
    document: dict[str, Any] = {"format": 2, "variant": config.variant, "precision": precision}
    if group is not None:
        document["group"] = group
    if zero_points:
        document["zero_points"] = True
    document["exporter"] = f"qwenguard-export {__version__}"
    document["source"] = {"name": source_name, "sha256": source_sha256}
    document["model"] = _model_table(config)
    document["heads"] = [head.table() for head in heads]
    if answer is not None:
        document["answer"] = answer
    document["tokens"] = tokens
    document["graphs"] = graphs
    document["files"] = {name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in files.items()}
    if parity:
        document["parity"] = parity
    document["self_test"] = self_test
    return tomli_w.dumps(document).encode()


def _model_table(config: ModelConfig) -> dict[str, Any]:
    return {
        "architecture": config.architecture,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "num_kv_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        **_own_sizes(config),
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "context": config.context,
    }


def _own_sizes(config: ModelConfig) -> dict[str, Any]:
    if config.variant == GEN:
        return {"tie_word_embeddings": config.tied}
    return {"guard_inner_size": config.guard_inner_size}
