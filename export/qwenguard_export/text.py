"""The tokenizer and chat template of a checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import limits
from .answer import Grammar, Pieces
from .errors import ExportError
from .files import read_bytes, require_file
from .text_check import TEMPLATE_FILE, Message, Tokens

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"

_RUN = "import sys; sys.path[:] = sys.argv[1:]; from qwenguard_export.text_check import main; main()"


@dataclass(frozen=True)
class Text:
    """What the bundle takes over, and what was found in it."""

    tokenizer: bytes
    template: str
    files: list[Path]
    tokens: Tokens
    samples: list[list[int]]
    # Of a Gen model: what it answers, and the ids of the pieces.
    grammar: Grammar | None = None
    pieces: Pieces | None = None


def read_text(
    folder: Path,
    tokenizer_path: Path,
    vocab_size: int,
    conversations: list[list[Message]],
    grammar: Grammar | None = None,
    grammar_is_given: bool = False,
) -> Text:
    """Reads and checks both, and encodes the given conversations."""
    template_path, limit = _template_path(folder)
    contents = [read_bytes(tokenizer_path, limits.TOKENIZER_BYTES), read_bytes(template_path, limit)]
    request = {
        "tokenizer": str(tokenizer_path),
        "template": str(template_path),
        "sizes": [len(content) for content in contents],
        "vocab_size": vocab_size,
        "conversations": conversations,
        "answer": grammar.request() if grammar else None,
        "answer_is_given": grammar_is_given,
    }
    found, tokenizer = _ask(request, contents)
    return Text(
        tokenizer,
        found["template"],
        [tokenizer_path, template_path],
        found["tokens"],
        found["samples"],
        grammar,
        found.get("pieces"),
    )


def _template_path(folder: Path) -> tuple[Path, int]:
    """The template file wins over the tokenizer's configuration, as in transformers."""
    path = folder / TEMPLATE_FILE
    if os.path.lexists(path):
        return require_file(path), limits.TEMPLATE_BYTES
    path = folder / TOKENIZER_CONFIG_FILE
    if not os.path.lexists(path):
        raise ExportError(f"{folder}: no chat template: neither {TEMPLATE_FILE} nor {TOKENIZER_CONFIG_FILE} found")
    return require_file(path), limits.TOKENIZER_CONFIG_BYTES


def _ask(request: dict[str, Any], contents: list[bytes]) -> tuple[dict[str, Any], bytes]:
    """Runs `text_check` in a process of its own."""
    # One thread: a thread takes more address space than the tokenizer.
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    try:
        process = subprocess.run(
            [sys.executable, "-c", _RUN, *sys.path],
            input=b"".join([json.dumps(request).encode(), b"\n", *contents]),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=2 * limits.TEXT_SECONDS,
            env=environment,
        )
        output, problem = process.stdout, "reading it needs too much memory or time"
    except subprocess.TimeoutExpired as error:
        output, problem = error.stdout or b"", f"reading it takes longer than {2 * limits.TEXT_SECONDS} seconds"
    reading = request["tokenizer"]
    while output:
        line, _, output = output.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise ExportError(answer["error"])
        if "reading" not in answer:
            return answer, output
        reading = answer["reading"]
    raise ExportError(f"{reading}: {problem}")
