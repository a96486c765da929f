"""What is exported: a checkpoint folder, or a random model with a real tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .checkpoint import Checkpoint, SafetensorsCheckpoint, check_tensors, parse_json, read_bytes
from .config import ModelConfig, parse_config
from .errors import ExportError
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
    config_path = _required(folder / CONFIG_FILE)
    data = parse_json(read_bytes(config_path), config_path)
    config = parse_config(data, str(config_path))
    text = read_text(folder, _required(folder / TOKENIZER_FILE), config.vocab_size, CONVERSATIONS)
    checkpoint = SafetensorsCheckpoint(folder)
    check_tensors(checkpoint, config)
    return Source(_name(data, folder), config, checkpoint, text, [config_path, *text.files, *checkpoint.files])


def _open_random(wanted: RandomModel) -> Source:
    path = _required(wanted.tokenizer / TOKENIZER_FILE if wanted.tokenizer.is_dir() else wanted.tokenizer)
    config = random_config(wanted.size)
    text = read_text(path.parent, path, config.vocab_size, CONVERSATIONS)
    return Source(f"random-{wanted.size}", config, RandomCheckpoint(config, wanted.seed), text, text.files)


def _required(path: Path) -> Path:
    if not path.is_file():
        raise ExportError(f"{path}: missing")
    return path


def _name(config: dict[str, object], folder: Path) -> str:
    """The name in config.json, unless it is a path on the machine where the checkpoint was made."""
    name = config.get("_name_or_path")
    if isinstance(name, str) and name and not set(name) & set("/\\"):
        return name
    return folder.resolve().name
