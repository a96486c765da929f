"""Checkpoints with random damage: exported, or refused in one line; never anything else."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from checkpoints import Spec, gen_spec

from qwenguard_export import text, text_check
from qwenguard_export.answer import Grammar, read_grammar
from qwenguard_export.cli import main
from qwenguard_export.errors import ExportError

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 8, 24, 255, 256, 300, 65536, 2**31, 2**32, 2**53 + 1, 2**63, 2**64, 10**30,
    0.0, -0.0, 0.5, 1.0, 1e-320, 1e308, float("nan"), float("inf"), "", "0", "Safe", "PII", "\ud800", "\x1b[2J", "../x",
    "x" * 5000, [], {}, [[]], [0], {"0": 1}, {"": None}, ["full_attention"], "F16", "model.safetensors",
]  # fmt: skip


def mutate(value: Any, random: random.Random) -> Any:
    """One change somewhere in a JSON value."""
    if isinstance(value, (dict, list)) and value and random.random() < 0.9:
        copy: Any = value.copy()
        key = random.choice(list(copy)) if isinstance(copy, dict) else random.randrange(len(copy))
        kind = random.random()
        if kind < 0.6:
            copy[key] = mutate(copy[key], random)
        elif kind < 0.7:
            del copy[key]
        elif kind < 0.8:
            other = random.choice(list(copy)) if isinstance(copy, dict) else random.randrange(len(copy))
            copy[key], copy[other] = copy[other], copy[key]
        elif isinstance(copy, dict):
            copy[random.choice(["", "\ud800", f"{key}2", "0", "17", "__metadata__"])] = copy[key]
        else:
            copy.append(copy[key])
        return copy
    if isinstance(value, int) and random.random() < 0.5:
        return value + random.choice([-8, -1, 1, 4, 8, 1 << 20, 1 << 40])
    if isinstance(value, str) and value and random.random() < 0.5:
        place = random.randrange(len(value))
        return value[:place] + random.choice(["", "\0", "\ud800", "ß", value]) + value[place + 1 :]
    return random.choice(VALUES)


def mutate_bytes(data: bytes, random: random.Random) -> bytes:
    place, length = random.randrange(len(data) + 1), random.choice([0, 1, 1, 8, 1000])
    inserted = random.choice(
        [b"", bytes([random.randrange(256)]), b"[" * 5000, b'"', b"\xff\xfe", data[:100], b"9" * 500]
    )
    return data[:place] + inserted + data[place + length :]


def damage(folder: Path, name: str, random: random.Random) -> None:
    data = (folder / name).read_bytes()
    if random.random() < 0.2:
        (folder / name).write_bytes(mutate_bytes(data, random))
        return
    start = 8 if name.endswith(".safetensors") else 0
    end = start + struct.unpack("<Q", data[:8])[0] if start else len(data)
    value = json.loads(data[start:end])
    for _ in range(random.choice([1, 1, 2, 5])):
        value = mutate(value, random)
    header = json.dumps(value).encode()
    (folder / name).write_bytes((struct.pack("<Q", len(header)) if start else b"") + header + data[end:])


@pytest.fixture
def in_this_process(monkeypatch, capfd):
    """Tokenizer and template are read here: hundreds of processes would take minutes. Others test the process."""

    def ask(request: dict[str, Any], contents: list[bytes]) -> tuple[dict[str, Any], bytes]:
        class Ignored:
            write = flush = lambda *_: None

        where = [Path(request["tokenizer"])]
        try:
            found, data = text_check._check(request, *contents, where, Ignored())
        except ExportError:
            raise
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, AssertionError, TypeError, AttributeError, KeyError)):
                raise
            capfd.readouterr()  # a panic prints
            raise ExportError(f"{where[-1]}: cannot be used: {error}") from error
        return json.loads(json.dumps(found)), data

    monkeypatch.setattr(text, "_ask", ask)


@pytest.mark.parametrize(
    ("name", "cases", "shards"),
    [
        ("config.json", 150, 1),
        ("model.safetensors", 150, 1),
        ("tokenizer.json", 150, 1),
        ("model.safetensors.index.json", 60, 2),
        ("tokenizer_config.json", 40, 1),
    ],
)
def test_mutations(tmp_path, capfd, in_this_process, name, cases, shards):
    spec = Spec(shards=shards, template=None if name == "tokenizer_config.json" else Spec.template)
    if spec.template is None:
        spec.tokenizer_config = {"chat_template": [{"name": "default", "template": Spec.template}]}
    check_mutations(tmp_path, capfd, spec, name, cases)


@pytest.mark.parametrize(
    ("name", "cases"), [("config.json", 100), ("tokenizer.json", 60), ("generation_config.json", 60)]
)
def test_mutations_of_gen(tmp_path, capfd, in_this_process, name, cases):
    check_mutations(tmp_path, capfd, gen_spec(), name, cases)


def test_mutations_of_answers(tmp_path):
    """A grammar, or an error in one line."""
    path = tmp_path / "answer.toml"
    original = tomli_w.dumps(Grammar().request()).encode()
    refused = 0
    for seed in range(300):
        path.write_bytes(mutate_bytes(original, random.Random(f"answer {seed}")))
        try:
            assert isinstance(read_grammar(path), Grammar)
        except ExportError as error:
            refused += 1
            message = " ".join(str(error).split())
            assert "answer.toml" in message and len(message) < 2500, (seed, message)
    assert refused > 100


def check_mutations(tmp_path, capfd, spec: Spec, name: str, cases: int) -> None:
    checkpoint = spec.write(tmp_path / "checkpoint")
    if name == "generation_config.json":
        (checkpoint / name).write_text('{"eos_token_id": [257, 3], "do_sample": true, "top_k": 20}')
    original = (checkpoint / name).read_bytes()
    refused = 0
    for seed in range(cases):
        (checkpoint / name).write_bytes(original)
        damage(checkpoint, name, random.Random(f"{name} {seed}"))
        code = main([str(checkpoint), str(tmp_path / "bundle"), "--no-parity", "--force"])
        message = capfd.readouterr().err
        assert "should not happen" not in message, (seed, message)
        if code:
            refused += 1
            assert code == 1 and message.count("\n") == 1 and len(message) < 2500, (seed, message)
            assert message.startswith("qwenguard-export: ") and message[:-1].isprintable(), (seed, message)
        else:
            assert not message, (seed, message)
    assert refused > cases / 3
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoint", "bundle"}
