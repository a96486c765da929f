"""What is exported: a checkpoint folder, or a random model with a real tokenizer."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from . import limits
from .answer import MODES, Grammar, read_grammar
from .checkpoint import LM_HEAD, Checkpoint, SafetensorsCheckpoint, check_tensors
from .config import GEN, STREAM, ModelConfig, end_tokens, parse_config
from .errors import ExportError
from .files import is_text, parse_json, printable, read_bytes, require_file, stamp
from .random_model import RandomCheckpoint, random_config
from .samples import CONVERSATIONS, JUDGED
from .text import TOKENIZER_FILE, Text, read_text

CONFIG_FILE = "config.json"
GENERATION_CONFIG_FILE = "generation_config.json"


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
    variant: str = STREAM


def open_source(wanted: Path | RandomModel, answer: Path | None = None) -> Source:
    """`answer` is a file with the texts of a Gen model's answer, where they are not Qwen3Guard-Gen's."""
    if isinstance(wanted, RandomModel):
        return _open_random(wanted, answer)
    return _open_checkpoint(wanted, answer)


def _open_checkpoint(folder: Path, answer: Path | None) -> Source:
    if not folder.is_dir():
        raise ExportError(f"{folder}: no such folder")
    config_path = require_file(folder / CONFIG_FILE)
    data = parse_json(read_bytes(config_path, limits.CONFIG_BYTES), config_path)
    config = parse_config(data, str(config_path))
    name = _name(data, folder, config_path)
    tokenizer = require_file(folder / TOKENIZER_FILE)
    files = [config_path]
    if config.variant == GEN:
        config, generation = _end_tokens(folder, config)
        files += generation
    checkpoint = SafetensorsCheckpoint(folder, has_lm_head=config.variant == GEN)
    check_tensors(checkpoint, config)
    if config.tied:
        # The copy that some checkpoints have of a tied head.
        checkpoint.tensors.pop(LM_HEAD, None)
    text = _read_text(folder, tokenizer, config, answer)
    files += [*text.files, *checkpoint.files]
    return Source(name, config, checkpoint, text, files, list(map(stamp, files)))


def _open_random(wanted: RandomModel, answer: Path | None) -> Source:
    path = require_file(wanted.tokenizer / TOKENIZER_FILE if wanted.tokenizer.is_dir() else wanted.tokenizer)
    config = random_config(wanted.size, wanted.variant)
    text = _read_text(path.parent, path, config, answer)
    checkpoint = RandomCheckpoint(config, wanted.seed)
    name = f"random-{wanted.size}" if wanted.variant == STREAM else f"random-gen-{wanted.size}"
    return Source(name, config, checkpoint, text, text.files, list(map(stamp, text.files)))


def _read_text(folder: Path, tokenizer: Path, config: ModelConfig, answer: Path | None) -> Text:
    if config.variant == GEN:
        grammar = read_grammar(answer) if answer else Grammar()
        text = read_text(folder, tokenizer, config.vocab_size, JUDGED, grammar, answer is not None)
        _check_room(text, config, folder)
        return text
    if answer:
        raise ExportError(f"{answer}: an answer's texts are for Gen checkpoints, and this is a Stream checkpoint")
    return read_text(folder, tokenizer, config.vocab_size, CONVERSATIONS)


def _check_room(text: Text, config: ModelConfig, folder: Path) -> None:
    """A context that hardly holds the template's instructions would judge nothing."""
    assert text.grammar and text.pieces
    answers = (text.grammar.answers(mode) for mode in MODES)
    longest = max(sum(len(text.pieces[piece]) for piece in answer) for answer in chain.from_iterable(answers))
    needed = max(map(len, text.samples)) + longest + 1
    if needed > config.context:
        raise ExportError(
            f"{folder / CONFIG_FILE}: max_position_embeddings: {config.context}, but the chat template makes "
            f"{needed} tokens of a short conversation with its answer"
        )


def _end_tokens(folder: Path, config: ModelConfig) -> tuple[ModelConfig, list[Path]]:
    """generation_config.json goes before config.json, as for transformers."""
    path, files = folder / GENERATION_CONFIG_FILE, []
    if os.path.lexists(path):
        found = end_tokens(parse_json(read_bytes(require_file(path), limits.CONFIG_BYTES), path), str(path))
        config = replace(config, end_tokens=found or config.end_tokens)
        files.append(path)
    for token in config.end_tokens:
        if token >= config.vocab_size:
            where = files[-1] if files else folder / CONFIG_FILE
            raise ExportError(
                f"{where}: eos_token_id: {token} is outside the model's vocabulary of {config.vocab_size}"
            )
    return config, files


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
