"""The tokenizer and chat template of a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from .checkpoint import parse_json, read_bytes
from .errors import ExportError

TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"

Message = dict[str, str]
# As in guard.toml: ids, and the list of ids that "user" is encoded to.
Tokens = dict[str, Any]


@dataclass(frozen=True)
class Text:
    """What the bundle takes over unchanged, and what was found in it."""

    tokenizer: bytes
    template: str
    files: list[Path]
    tokens: Tokens
    samples: list[list[int]]


def read_text(folder: Path, tokenizer_path: Path, vocab_size: int, conversations: list[list[Message]]) -> Text:
    """Reads and checks both, and encodes the given conversations."""
    data = read_bytes(tokenizer_path)
    tokenizer = _load_tokenizer(data, tokenizer_path)
    template, template_path = _read_template(folder)
    _check_vocabulary(tokenizer, tokenizer_path, vocab_size)
    tokens = _special_tokens(tokenizer, tokenizer_path)
    rendered = [_render(template, template_path, messages) for messages in conversations]
    samples = [tokenizer.encode(text, add_special_tokens=False).ids for text in rendered]
    for ids in samples:
        _check_user_turn(ids, tokens, template_path)
    return Text(data, template, [tokenizer_path, template_path], tokens, samples)


def _load_tokenizer(data: bytes, path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises nothing narrower
        raise ExportError(f"{path}: not a usable tokenizer: {error}") from error


def _check_vocabulary(tokenizer: Tokenizer, path: Path, vocab_size: int) -> None:
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= vocab_size:
        raise ExportError(f"{path}: token id {largest} is outside the model's vocabulary of {vocab_size}")


def _special_tokens(tokenizer: Tokenizer, path: Path) -> Tokens:
    tokens: Tokens = {
        "turn_start": _required_token(tokenizer, path, "<|im_start|>"),
        "turn_end": _required_token(tokenizer, path, "<|im_end|>"),
        "user": tokenizer.encode("user", add_special_tokens=False).ids,
    }
    for key, text in (("think_start", "<think>"), ("think_end", "</think>")):
        token = tokenizer.token_to_id(text)
        if token is not None:
            tokens[key] = token
    return tokens


def _required_token(tokenizer: Tokenizer, path: Path, text: str) -> int:
    token = tokenizer.token_to_id(text)
    if token is None:
        raise ExportError(f"{path}: special token {text} is missing")
    if tokenizer.encode(text, add_special_tokens=False).ids != [token]:
        raise ExportError(f"{path}: {text} is in the vocabulary, but text is not split at it")
    return token


def _read_template(folder: Path) -> tuple[str, Path]:
    """The template file wins over the tokenizer's configuration, as in transformers."""
    path = folder / TEMPLATE_FILE
    if path.is_file():
        template = _decode(read_bytes(path), path)
    else:
        path = folder / TOKENIZER_CONFIG_FILE
        if not path.is_file():
            raise ExportError(f"{folder}: no chat template: neither {TEMPLATE_FILE} nor {TOKENIZER_CONFIG_FILE} found")
        template = _template_of(parse_json(read_bytes(path), path), path)
    if not template.strip():
        raise ExportError(f"{path}: the chat template is empty")
    return template, path


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ExportError(f"{path}: not UTF-8: {error}") from error


def _template_of(tokenizer_config: object, path: Path) -> str:
    value = tokenizer_config.get("chat_template") if isinstance(tokenizer_config, dict) else None
    if value is None:
        raise ExportError(f"{path}: chat_template: missing")
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        if "default" not in named:
            raise ExportError(f'{path}: chat_template: no template with the name "default"')
        value = named["default"]
    if not isinstance(value, str):
        raise ExportError(f"{path}: chat_template: expected a text")
    return value


def _render(template: str, path: Path, messages: list[Message]) -> str:
    # The same settings as in transformers, which templates are written for.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    try:
        return environment.from_string(template).render(
            messages=messages, tools=None, add_generation_prompt=False, enable_thinking=False
        )
    except Exception as error:  # a template is a program, and may fail in any way
        raise ExportError(f"{path}: the chat template cannot be used: {error}") from error


def _check_user_turn(ids: list[int], tokens: Tokens, path: Path) -> None:
    """Prompt verdicts are read at the end of the user turn: without one the bundle would be of no use."""
    start = [tokens["turn_start"], *tokens["user"]]
    starts = [i for i in range(len(ids)) if ids[i : i + len(start)] == start]
    if not starts or tokens["turn_end"] not in ids[starts[-1] :]:
        raise ExportError(f"{path}: the chat template does not write a user turn between <|im_start|> and <|im_end|>")
