"""Whatever is wrong with a checkpoint: one line that names the file and the field, exit code 1, nothing left behind."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import TEMPLATE, Spec, labels, small_config

from qwenguard_export import limits, text
from qwenguard_export.cli import main
from qwenguard_export.errors import ExportError

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX files")

Damage = Callable[[Path], object]
Refuse = Callable[..., str]

HUGE = int("9" * 400)
DEEP = 200_000


@pytest.fixture
def refuse(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Refuse:
    """Damages a good checkpoint, and expects a message with all the given words."""

    def check(damage: Damage, *words: str, spec: Spec | None = None) -> str:
        checkpoint = (spec or Spec()).write(tmp_path / "checkpoint")
        damage(checkpoint)
        before = sorted(tmp_path.iterdir())
        code = main([str(checkpoint), str(tmp_path / "bundle"), "--no-parity"])
        message = capfd.readouterr().err
        assert code == 1, message
        assert message.count("\n") == 1 and len(message) < 2500 and message.rstrip("\n").isprintable()
        assert message.startswith("qwenguard-export: ")
        assert "should not happen" not in message
        for word in words:
            assert word in message
        assert sorted(tmp_path.iterdir()) == before
        return message

    return check


def changed(name: str, **changes: Any) -> Damage:
    """Sets keys of a JSON file, None removes one."""

    def damage(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        document.update(changes)
        (folder / name).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))

    return damage


def written(name: str, content: str | bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


# Configuration


SIZES = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "guard_inner_size",
    "max_position_embeddings",
    "num_risk_level",
    "num_category",
    "num_query_risk_level",
    "num_query_category",
]
NO_SIZES = [0, -1, 1.0, 1e400, "3", True, [], {}, [[3]], 1 << 31, 1 << 63, 10**9 + 8, HUGE, -HUGE]


@pytest.mark.parametrize("key", SIZES)
def test_sizes(refuse, key):
    for value in NO_SIZES:
        refuse(changed("config.json", **{key: value}), "config.json", key if value != 1e400 else "Infinity")


@pytest.mark.parametrize("key", ["rms_norm_eps", "rope_theta"])
def test_numbers(refuse, key):
    for value in [0, -1e-6, "1", True, [], {}, 1e-40, 1e30, HUGE]:
        refuse(changed("config.json", **{key: value}), "config.json", key)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_numbers_that_are_none(refuse, text):
    config = json.dumps(small_config(rope_theta=0.125)).replace("0.125", text)
    refuse(written("config.json", config), "config.json")


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("architectures", ["Qwen3ForGuardModel", [], [["Qwen3ForGuardModel"]], {}, 1]),
        ("model_type", [["qwen3"], 3, {}, "qwen\x1b[31m3\n"]),
        ("hidden_act", [True, ["silu"]]),
        ("attention_bias", ["false", 0, [], {}, "", True]),
        ("mlp_bias", ["false", 0, True]),
        ("use_sliding_window", ["no", 0, True]),
        ("tie_word_embeddings", ["yes", 1, []]),
        ("quantization_config", [{}, [], "none", 0]),
        ("layer_types", [{}, "full_attention", ["full_attention"] * 2, [["full_attention"]] * 3, 3]),
        ("rope_scaling", [[], "default", 1, {"rope_type": "yarn"}, {"rope_type": {}}, {"type": ["default"]}]),
        ("rope_parameters", [[], 1, {"rope_theta": 5}, {"full_attention": {"rope_theta": 10000}}]),
        ("partial_rotary_factor", [0.5, "1", True, [], HUGE]),
        ("_name_or_path", [1, [], {}, "a\ud800", "a\nb", "x" * 300]),
    ],
)
def test_other_keys(refuse, key, values):
    for value in values:
        refuse(changed("config.json", **{key: value}), "config.json", key)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (labels("Safe", "Unsafe", "Safe"), "twice"),
        (labels("Safe", '"Safe"', "Unsafe"), "twice"),
        (labels("Unsafe", "Controversial", "Mild"), "level"),
        (labels("Safe", "Unsafe", "Controversial\ud800"), "surrogates"),
        (["Safe", "Unsafe", "Controversial"], "object"),
        ({"0": "Safe", "1": "Unsafe", "02": "Controversial"}, '"2"'),
        ({"0": "Safe", "1": "Unsafe", "2": ["Controversial"]}, "non-empty string"),
        ("Safe", "object"),
    ],
)
@pytest.mark.parametrize("key", ["response_risk_level_map", "query_risk_level_map"])
def test_risk_labels(refuse, key, wrong, word):
    refuse(changed("config.json", **{key: wrong}), "config.json", key, word)


def test_a_single_risk(refuse):
    one = changed("config.json", num_risk_level=1, response_risk_level_map=labels("Safe"))
    refuse(one, "response_risk_level_map", "level above")


@pytest.mark.parametrize(
    ("label", "word"),
    [("PII", "twice"), ("", "empty"), (" \t", "empty"), (None, "empty"), (7, "empty"), ("\ud800", "surrogates"),
     ("\udfff\ud800x", "surrogates"), ("a\nb", "control"), ("a\x1b[2Jb", "control"), ("a\0b", "control"),
     ("ß" * 129, "258 bytes")],
)  # fmt: skip
@pytest.mark.parametrize("key", ["response_category_map", "query_category_map"])
def test_category_labels(refuse, key, label, word):
    table = small_config()[key] | {"3": label}
    refuse(changed("config.json", **{key: table}), "config.json", key, word)


def test_too_many_categories(refuse):
    many = {"num_category": 17, "response_category_map": labels(*map(str, range(17)))}
    refuse(changed("config.json", **many), "config.json", "num_category", "at most 16")


# JSON


JSON_FILES = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"]


def spec_of(name: str) -> Spec:
    return Spec(template=None) if name == "tokenizer_config.json" else Spec(shards=2 if "index" in name else 1)


@pytest.mark.parametrize("name", JSON_FILES)
def test_what_is_no_json(refuse, name):
    for content in (
        b"",
        b"{",
        b"\xff\xfe{}",
        b"\x00",
        b"nul",
        b"[" * DEEP,
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'{"x": NaN}',
        b'{"x": 1, "x": 1}',
        b'{"x": ' + b"9" * 5000 + b"}",
    ):
        refuse(written(name, content), name, "JSON", spec=spec_of(name))


@pytest.mark.parametrize("name", JSON_FILES)
def test_json_of_another_shape(refuse, name):
    for content in (b"[]", b"3", b"null", b'"text"', b"{}", b"[{}]", b'{"": {}}'):
        refuse(written(name, content), name, spec=spec_of(name))


@pytest.mark.parametrize("name", ["chat_template.jinja", *JSON_FILES, "model.safetensors"])
def test_absurd_sizes(refuse, name):
    """A file that is mostly a hole: it would be read for hours, or fill the memory."""

    def damage(folder: Path) -> None:
        with open(folder / name, "r+b") as file:
            file.truncate(1 << 40)

    refuse(damage, name, "bytes", spec=spec_of(name))


@posix
@pytest.mark.parametrize("name", ["chat_template.jinja", *JSON_FILES, "model.safetensors"])
@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: os.symlink("/dev/zero", path),
        lambda path: os.symlink("/dev/stdin", path),
        lambda path: os.symlink(path.name, path),
        lambda path: os.symlink("nowhere", path),
    ],
    ids=["fifo", "folder", "device", "terminal", "loop", "nowhere"],
)
def test_what_is_no_file(refuse, name, make):
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    refuse(damage, name, spec=spec_of(name))


# Weights


Header = dict[str, Any]


def header_of(path: Path) -> tuple[Header, bytes]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(change: Callable[[Header], object], data: Callable[[bytes], bytes] = lambda data: data) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        header, tensors = header_of(path)
        text = change(header)
        text = text if isinstance(text, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data(tensors))

    return damage


NORM = "model.norm.weight"


def at(header: Header, name: str = NORM) -> Header:
    return header[name]


def moved(start: int, stop: int) -> Damage:
    def change(header: Header) -> None:
        offsets = at(header)["data_offsets"]
        at(header)["data_offsets"] = [offsets[0] + start, offsets[1] + stop]

    return with_header(change)


def overlapping(header: Header) -> None:
    at(header, "model.layers.1.input_layernorm.weight")["data_offsets"] = at(header)["data_offsets"]


def twice(header: Header) -> bytes:
    text = json.dumps(header)
    return (text[:-1] + f', "{NORM}": {json.dumps(at(header))}}}').encode()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (moved(-4, -4), ["data_offsets", "overlaps"]),
        (moved(4, 4), ["data_offsets"]),
        (moved(1 << 40, 1 << 40), ["data_offsets"]),
        (moved(1 << 62, 1 << 62), ["data_offsets"]),
        (moved(1 << 64, 1 << 64), ["data_offsets"]),
        (moved(-(1 << 40), -(1 << 40)), ["data_offsets"]),
        (moved(8, 0), [NORM]),
        (moved(200, 0), ["damaged data_offsets"]),
        (with_header(overlapping), ["data_offsets"]),
        (with_header(twice), [NORM, "twice"]),
        (with_header(lambda header: at(header).update(data_offsets=[0])), [NORM, "data_offsets"]),
        (with_header(lambda header: at(header).update(data_offsets=[0, 1, 2])), [NORM, "data_offsets"]),
        (with_header(lambda header: at(header).update(data_offsets=[False, True])), [NORM, "data_offsets"]),
        (with_header(lambda header: at(header).update(data_offsets=["0", "192"])), [NORM, "data_offsets"]),
        (with_header(lambda header: at(header).update(data_offsets=[0.0, 192.0])), [NORM, "data_offsets"]),
        (with_header(lambda header: at(header).update(data_offsets=None)), [NORM, "data_offsets"]),
        (with_header(lambda header: at(header).update(data_offsets=[HUGE, HUGE])), [NORM, "data_offsets"]),
        (with_header(lambda header: at(header).update(shape=[47])), [NORM, "192 bytes"]),
        (with_header(lambda header: at(header).update(shape=[-48])), [NORM, "shape"]),
        (with_header(lambda header: at(header).update(shape=[48.0])), [NORM, "shape"]),
        (with_header(lambda header: at(header).update(shape=[True] * 48)), [NORM, "shape"]),
        (with_header(lambda header: at(header).update(shape="48")), [NORM, "shape"]),
        (with_header(lambda header: at(header).update(shape=[])), [NORM, "shape"]),
        (with_header(lambda header: at(header).update(shape=[1, 48])), [NORM, "[1, 48]", "[48]"]),
        (with_header(lambda header: at(header).update(shape=[HUGE])), [NORM, "shape"]),
        (with_header(lambda header: at(header).update(shape=[1 << 62] * 100_000)), [NORM, "shape"]),
        (with_header(lambda header: at(header).update(dtype="F64")), [NORM, "dtype F64"]),
        (with_header(lambda header: at(header).update(dtype="I32")), [NORM, "dtype I32"]),
        (with_header(lambda header: at(header).update(dtype="BF16")), [NORM, "192 bytes"]),
        (with_header(lambda header: at(header).update(dtype=["F32"])), [NORM, "dtype"]),
        (with_header(lambda header: at(header).update(dtype=None)), [NORM, "dtype"]),
        (with_header(lambda header: at(header).update(dtype="x" * 100_000)), [NORM, "dtype"]),
        (with_header(lambda header: header.update({NORM: 3})), [NORM]),
        (with_header(lambda header: header.update({NORM: None})), [NORM]),
        (with_header(lambda header: header.pop(NORM)), ["no tensor's"]),
        (with_header(lambda header: header.update({"\ud800": at(header)})), ["overlaps"]),
        (with_header(lambda header: header.update({"a\x1b[31m\nb": header.pop(NORM)})), [NORM]),
        (with_header(lambda header: header.update({"x" * 100_000: header.pop(NORM)})), [NORM]),
        (with_header(lambda header: header.update({"__metadata__": 3})), ["__metadata__"]),
        (with_header(lambda header: b"[]"), ["header"]),
        (with_header(lambda header: b"{}"), ["no tensor's"]),
        (with_header(lambda header: b"[" * DEEP), ["nested"]),
        (with_header(lambda header: b"\xff"), ["JSON"]),
        (with_header(lambda header: None, lambda data: data + b"\0"), ["1 bytes after the last tensor"]),
        (with_header(lambda header: None, lambda data: data[:-1]), ["truncated"]),
        (with_header(lambda header: None, lambda data: b""), ["truncated"]),
    ],
)
def test_safetensors(refuse, damage, words):
    refuse(damage, *words)


@pytest.mark.parametrize("length", [0, 1, 1 << 20, limits.HEADER_BYTES + 1, 1 << 40, (1 << 64) - 1])
def test_length_of_the_header(refuse, length):
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])

    refuse(damage, "model.safetensors")


def test_order_in_the_header_does_not_matter(tmp_path):
    """The format's own reader sorts tensors by place as well."""

    def reverse(header: Header) -> bytes:
        return json.dumps(dict(reversed(header.items()))).encode()

    checkpoint = Spec().write(tmp_path / "checkpoint")
    assert main([str(checkpoint), str(tmp_path / "first"), "--no-parity"]) == 0
    with_header(reverse)(checkpoint)
    assert main([str(checkpoint), str(tmp_path / "second"), "--no-parity"]) == 0
    assert (tmp_path / "first/weights.bin").read_bytes() == (tmp_path / "second/weights.bin").read_bytes()


@pytest.mark.parametrize(
    "shard",
    ["../model-00001-of-00002.safetensors", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "C:x", "a\0b", "a\nb",
     "\ud800", "x" * 256, 3, None, [], {}, True],
)  # fmt: skip
def test_shards_elsewhere(refuse, shard):
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        index["weight_map"][NORM] = shard
        path.write_text(json.dumps(index))

    refuse(damage, "model.safetensors.index.json", "weight_map", NORM, "not a file name", spec=Spec(shards=2))


@pytest.mark.parametrize("weight_map", [[], {}, 3, "x", [NORM], {NORM: "nowhere.safetensors"}])
def test_weight_maps(refuse, weight_map):
    damage = changed("model.safetensors.index.json", weight_map=weight_map)
    refuse(damage, "model.safetensors.index.json", spec=Spec(shards=2))


def test_a_tensor_that_the_index_does_not_name(refuse):
    """Other programs load all of a shard: what we left out would be missing."""

    def damage(folder: Path) -> None:
        path = folder / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        del index["weight_map"][NORM]
        path.write_text(json.dumps(index))

    refuse(damage, ".safetensors", NORM, "does not place it", spec=Spec(shards=2))


def test_a_tensor_in_two_shards(refuse):
    def damage(folder: Path) -> None:
        first, second = sorted(folder.glob("*.safetensors"))
        header, data = header_of(first)
        name = next(name for name in header if name != "__metadata__")
        other, tensors = header_of(second)
        size = header[name]["data_offsets"][1] - header[name]["data_offsets"][0]
        other[name] = header[name] | {"data_offsets": [len(tensors), len(tensors) + size]}
        text = json.dumps(other).encode()
        second.write_bytes(struct.pack("<Q", len(text)) + text + tensors + data[:size])

    refuse(damage, "-of-00002.safetensors", "does not place it", spec=Spec(shards=2))


# Tokenizer


def tokenizer_with(change: Callable[[dict[str, Any]], object]) -> Damage:
    def damage(folder: Path) -> None:
        document = json.loads((folder / "tokenizer.json").read_text())
        change(document)
        (folder / "tokenizer.json").write_text(json.dumps(document))

    return damage


PADDING = {
    "strategy": {"Fixed": 10**11},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "!",
}
TRUNCATION = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}


@pytest.mark.parametrize(
    "on", [{"padding": PADDING}, {"truncation": TRUNCATION}, {"padding": 10**11, "truncation": [1]}]
)
def test_truncation_and_padding_are_switched_off(tmp_path, on):
    checkpoint = Spec().write(tmp_path / "checkpoint")
    original = json.loads((checkpoint / "tokenizer.json").read_text())
    tokenizer_with(lambda document: document.update(on))(checkpoint)
    assert main([str(checkpoint), str(tmp_path / "bundle")]) == 0
    assert json.loads((tmp_path / "bundle/tokenizer.json").read_text()) == original
    assert original["truncation"] is None and original["padding"] is None


REPLACE = {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.update(normalizer={"type": "Sequence", "normalizers": [REPLACE] * 8}), ["normalizer", "Replace"]),
        (lambda t: t.update(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 9}), ["9 steps"]),
        (lambda t: t.update(normalizer=[]), ["normalizer"]),
        (lambda t: t.update(normalizer={"type": ["NFC"]}), ["normalizer"]),
        (lambda t: t.update(normalizer={"type": "NFC", "x": "y" * 70_000}), ["normalizer", "bytes"]),
        (lambda t: t.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a*)*b"}}), ["Split.pattern"]),
        (lambda t: t.update(pre_tokenizer={"type": "Sequence", "pretokenizers": 3}), ["pre_tokenizer"]),
        (lambda t: t.update(pre_tokenizer={"type": "Metaspace"}), ["pre_tokenizer", "Metaspace"]),
        (lambda t: t.update(added_tokens={}), ["added_tokens"]),
        (lambda t: t.update(added_tokens=[3]), ["added_tokens"]),
        (lambda t: t["added_tokens"].append(t["added_tokens"][0]), ["added_tokens", "twice"]),
        (lambda t: t["added_tokens"][2].update(content=""), ["added_tokens"]),
        (lambda t: t["added_tokens"][2].update(content="\ud800"), ["tokenizer.json"]),
        (lambda t: t["added_tokens"][2].update(content="x" * 5000), ["added_tokens", "5000 bytes"]),
        (lambda t: t["added_tokens"][0].update(special=False), ["<|im_start|>", "special"]),
        (lambda t: t["added_tokens"][0].update(special="yes"), ["tokenizer.json"]),
        (lambda t: t["added_tokens"][0].update(id=-1), ["tokenizer.json"]),
        (lambda t: t["added_tokens"].extend({"content": str(n)} for n in range(5000)), ["added_tokens", "5004"]),
        (lambda t: t.update(model=None), ["model"]),
        (lambda t: t["model"].update(type="WordPiece"), ["model.type"]),
        (lambda t: t["model"].update(dropout=0.5), ["model.dropout"]),
        (lambda t: t["model"].update(continuing_subword_prefix="##"), ["model.continuing_subword_prefix"]),
        (lambda t: t["model"].update(vocab=[]), ["model.vocab"]),
        (lambda t: t["model"].update(merges={}), ["model.merges"]),
        (lambda t: t["model"].update(merges=[["a", "b"]]), ["tokenizer.json", "not a usable tokenizer"]),
        (lambda t: t["model"].update(merges=["\ud800"]), ["tokenizer.json"]),
        (lambda t: t["model"]["vocab"].update({"q1": -1}), ["model.vocab", "token id"]),
        (lambda t: t["model"]["vocab"].update({"q1": 1.5}), ["model.vocab", "token id"]),
        (lambda t: t["model"]["vocab"].update({"q1": True}), ["model.vocab", "token id"]),
        (lambda t: t["model"]["vocab"].update({"q1": 2**40}), ["token id", "vocabulary"]),
        (lambda t: t["model"]["vocab"].update({"q1": 7}), ["model.vocab", "twice"]),
        (lambda t: t["model"]["vocab"].update({"q" * 5000: 299}), ["model.vocab", "5000 bytes"]),
        (lambda t: t["model"]["vocab"].update({"\ud800": 299}), ["tokenizer.json"]),
        (lambda t: t["model"].update(vocab={}), ["tokenizer.json"]),
    ],
)
def test_tokenizer(refuse, change, words):
    refuse(tokenizer_with(change), "tokenizer.json", *words)


def answer_of(script: str) -> subprocess.CompletedProcess[bytes]:
    """Runs the process that reads tokenizer and template, with something in it replaced."""
    request = {"tokenizer": "t.json", "template": "x.jinja", "sizes": [0, 0]}
    command = [sys.executable, "-c", f"from qwenguard_export import limits, text_check\n{script}\ntext_check.main()"]
    return subprocess.run(command, input=json.dumps(request).encode() + b"\n", capture_output=True)


def test_a_library_that_panics_is_an_error():
    """A panic in Rust is no Exception in Python."""
    result = answer_of("def panic(*_): raise BaseException('called unwrap on None')\ntext_check._check = panic")
    assert json.loads(result.stdout) == {"error": "t.json: cannot be used: called unwrap on None"}


# Template


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 1" + "\n+1" * 28_000 + " }}", ["words and signs"]),
        ("{{ " + "not\n" * 28_000 + "x }}", ["words and signs"]),
        ("{% if a %}" + "{% elif b %}\n" * 20_000 + "{% endif %}", ["nested"]),
        ("{% if a %}" * 100 + "{% endif %}" * 100, ["nested"]),
        ("{% set x %}" * 60 + "{% endset %}" * 60, ["nested"]),
        ("{{ " + "(" * 50 + "1" + ")" * 50 + " }}", ["brackets"]),
        ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", ["fuel"]),
        ("{{ 'x'|indent(99999999999) }}", ["cannot be used"]),
        ("{{ 'x'.center(10) }}", ["cannot be used"]),
        ("{{ '{:>9999999999}'.format(1) }}", ["method format"]),
        ("{{ 'x' * 99999999999 }}", ["chat_template.jinja"]),
        ("{{ 'x' * 2000000 }}", ["2000000 characters"]),
        ("{{ 9 ** 9 ** 9 ** 9 }}", ["chat_template.jinja"]),
        ("{{ messages[0].__class__.__mro__ }}", ["chat_template.jinja"]),
        ("{% include 'x' %}", ["cannot be used"]),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ["cannot be used"]),
        ("{{ raise_exception('no\x1b[31m\n') }}", ["cannot be used", "no"]),
        (TEMPLATE + "{{ messages|map('length') }}", ["differently"]),
        ("{{ undefined_name.attribute }}", ["cannot be used"]),
        ("\ud800", ["UTF-8"]),
        ("x" * (limits.TEMPLATE_BYTES + 1), ["bytes"]),
        (TEMPLATE.replace("user", "u").replace("message.role", "'u'"), ["user turn"]),
    ],
)
def test_template(refuse, template, words):
    damage = written("chat_template.jinja", template.encode("utf-8", "surrogatepass"))
    refuse(damage, "chat_template.jinja", *words)


@pytest.mark.parametrize(
    "value",
    [3, True, {}, [], [3], [{"name": "default"}], [{"name": "default", "template": TEMPLATE}] * 2, "\ud800", "",
     [{"name": ["default"], "template": TEMPLATE}], "x" * (limits.TEMPLATE_BYTES + 1)],
)  # fmt: skip
def test_template_in_the_configuration(refuse, value):
    spec = Spec(template=None, tokenizer_config={"chat_template": value})
    refuse(lambda _: None, "tokenizer_config.json", "chat", spec=spec)


@posix
def test_what_no_limit_of_the_engine_sees_is_limited():
    """It ends the process that reads the template, and only that."""
    limited = "limits.TEXT_SECONDS, limits.TEXT_MEMORY_BYTES = 1, 256 << 20\ntext_check._check = check"
    result = answer_of(f"def check(*_):\n    while True: pass\n{limited}")
    assert result.returncode < 0 and not result.stdout
    if sys.platform == "linux":
        result = answer_of(f"def check(*_): bytes(1 << 30)\n{limited}")
        assert json.loads(result.stdout) == {"error": "t.json: needs more than 256 MiB to be read"}


def test_a_process_that_dies_is_an_error(tmp_path, monkeypatch):
    checkpoint = Spec().write(tmp_path / "checkpoint")
    monkeypatch.setattr(text, "_RUN", 'import os; print(\'{"reading": "that.jinja"}\', flush=True); os.abort()')
    with pytest.raises(ExportError, match="that.jinja: reading it needs too much memory or time"):
        text.read_text(checkpoint, checkpoint / "tokenizer.json", 300, [])


def test_the_checkpoints_of_the_tests_are_good(tmp_path):
    """Else all of the above would be refused for another reason."""
    for shards in (1, 2):
        checkpoint = Spec(shards=shards).write(tmp_path / str(shards))
        assert main([str(checkpoint), str(tmp_path / f"bundle-{shards}"), "--no-parity"]) == 0
