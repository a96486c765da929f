"""The bundle folder: written beside its final place, and moved there when complete."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from . import __version__
from .config import ARCHITECTURE, ModelConfig
from .errors import ExportError, naming
from .parity import Parity

MANIFEST = "guard.toml"
GRAPH_FILE = "paged.onnx"
WEIGHTS_FILE = "weights.bin"

_HASH_BYTES = 1024 * 1024


@dataclass(frozen=True)
class FileRecord:
    bytes: int
    sha256: str


@contextmanager
def staging(out: Path, force: bool) -> Iterator[Path]:
    """A new folder beside `out` that takes its place if the block succeeds, and vanishes if it does not."""
    # A name such as "." has no place beside it.
    out = Path(os.path.abspath(out))
    _check_target(out, force)
    partial = out.with_name(f"{out.name}.partial-{secrets.token_hex(4)}")
    try:
        with naming("create", partial):
            partial.mkdir()
        yield partial
        with naming("write", out):
            _publish(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_file(path: Path, data: bytes) -> FileRecord:
    with naming("write", path), open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(len(data), hashlib.sha256(data).hexdigest())


def sha256_file(path: Path) -> str:
    digest = hashlib.sha256()
    with naming("read", path), open(path, "rb", buffering=0) as file:
        while piece := file.read(_HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def manifest(
    *,
    config: ModelConfig,
    precision: str,
    block: int | None,
    source_name: str,
    source_sha256: dict[str, str],
    tokens: dict[str, int | list[int]],
    files: dict[str, FileRecord],
    parity: Parity | None,
    self_test: list[dict[str, Any]],
) -> bytes:
    """The text of guard.toml."""
    document: dict[str, Any] = {"format": 1, "variant": "stream", "precision": precision}
    if block is not None:
        document["block"] = block
    document["exporter"] = f"qwenguard-export {__version__}"
    document["source"] = {"name": source_name, "sha256": source_sha256}
    document["model"] = _model_table(config)
    document["labels"] = config.labels
    document["tokens"] = tokens
    document["graphs"] = {"paged_cpu": {"file": GRAPH_FILE}}
    document["files"] = {name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in files.items()}
    if parity is not None:
        document["parity"] = {
            "tokens": parity.tokens,
            # Beyond these digits it is noise of the machine that ran the comparison.
            "max_prob_diff": float(f"{parity.max_prob_diff:.2e}"),
            "risk_agreement": round(parity.risk_agreement, 4),
            "category_agreement": round(parity.category_agreement, 4),
        }
    document["self_test"] = self_test
    return tomli_w.dumps(document).encode()


def _model_table(config: ModelConfig) -> dict[str, Any]:
    return {
        "architecture": ARCHITECTURE,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "num_kv_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.intermediate_size,
        "guard_inner_size": config.guard_inner_size,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "context": config.context,
    }


def _check_target(out: Path, force: bool) -> None:
    if not os.path.lexists(out):
        return
    if not force:
        raise ExportError(f"{out} already exists; --force replaces it")
    # --force is for bundles: a mistyped path must not cost anyone a folder of other things.
    if out.is_symlink() or not out.is_dir() or not (_is_bundle(out) or not any(out.iterdir())):
        raise ExportError(f"{out} is not a bundle, it is left as it is")


def _is_bundle(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _publish(partial: Path, out: Path) -> None:
    _sync_folder(partial)
    replaced = out.with_name(f"{out.name}.replaced-{secrets.token_hex(4)}")
    try:
        if out.exists():
            out.rename(replaced)
        partial.rename(out)
    except BaseException:
        if replaced.exists() and not out.exists():
            replaced.rename(out)
        raise
    finally:
        if replaced.exists() and out.exists():
            shutil.rmtree(replaced, ignore_errors=True)
    _sync_folder(out.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, where the system can open folders."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
