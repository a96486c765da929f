"""What is exported: a checkpoint folder, or a random model with a real tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import limits
from .checkpoint import Checkpoint, SafetensorsCheckpoint, check_tensors
from .config import ModelConfig, parse_config
from .errors import ExportError
from .files import is_text, parse_json, printable, read_bytes, require_file, stamp
from .random_model import RandomCheckpoint, random_config
from .samples import CONVERSATIONS
from .text import TOKENIZER_FILE, Text, read_text

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Source:
    name: str
    config: ModelConfig
    checkpoint: Checkpoint
    text: Text
    files: list[Path]
    # What the files were when they were opened.
    stamps: list[tuple[int, ...]]

    def check_unchanged(self) -> None:
        for path, before in zip(self.files, self.stamps, strict=True):
            if stamp(path) != before:
                raise ExportError(f"{path} was changed during the export")


@dataclass(frozen=True)
class RandomModel:
    """A request for random weights in the shapes of a real model."""

    size: str
    seed: int
    tokenizer: Path


def open_source(wanted: Path | RandomModel) -> Source:
    if isinstance(wanted, RandomModel):
        return _open_random(wanted)
    return _open_checkpoint(wanted)


def _open_checkpoint(folder: Path) -> Source:
    if not folder.is_dir():
        raise ExportError(f"{folder}: no such folder")
    config_path = require_file(folder / CONFIG_FILE)
    data = parse_json(read_bytes(config_path, limits.CONFIG_BYTES), config_path)
    config = parse_config(data, str(config_path))
    name = _name(data, folder, config_path)
    tokenizer = require_file(folder / TOKENIZER_FILE)
    checkpoint = SafetensorsCheckpoint(folder)
    check_tensors(checkpoint, config)
    text = read_text(folder, tokenizer, config.vocab_size, CONVERSATIONS)
    files = [config_path, *text.files, *checkpoint.files]
    return Source(name, config, checkpoint, text, files, list(map(stamp, files)))


def _open_random(wanted: RandomModel) -> Source:
    path = require_file(wanted.tokenizer / TOKENIZER_FILE if wanted.tokenizer.is_dir() else wanted.tokenizer)
    config = random_config(wanted.size)
    text = read_text(path.parent, path, config.vocab_size, CONVERSATIONS)
    checkpoint = RandomCheckpoint(config, wanted.seed)
    return Source(f"random-{wanted.size}", config, checkpoint, text, text.files, list(map(stamp, text.files)))


def _name(config: dict[str, object], folder: Path, path: Path) -> str:
    """The name in config.json, unless it is a path on the machine where the checkpoint was made."""
    name = config.get("_name_or_path")
    if not isinstance(name, str | None):
        raise ExportError(f"{path}: _name_or_path: expected a text")
    if not name or set(name) & set("/\\"):
        name = printable(folder.resolve().name)
    if not is_text(name) or not name.isprintable() or len(name.encode()) > limits.FILE_NAME_BYTES:
        raise ExportError(f"{path}: _name_or_path: not a name on one line")
    return name
