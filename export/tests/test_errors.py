"""Every failure is one line that names the culprit, exit code 1, and nothing left behind."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import TEMPLATE, Spec, labels, random_tensors, save, small_config, write_tokenizer

from qwenguard_export import export, files, publish, weights
from qwenguard_export.cli import main
from qwenguard_export.errors import Interrupted, forget_interrupts, interrupt
from qwenguard_export.weights import WeightWriter

Damage = Callable[[Path], object]


@pytest.fixture
def fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Exports a checkpoint and expects a failure that mentions all the given words."""

    def check(spec: Spec, *words: str, damage: Damage | None = None, out: Path | None = None) -> None:
        checkpoint = spec.write(tmp_path / "checkpoint")
        if damage:
            damage(checkpoint)
        before = sorted(tmp_path.iterdir())
        assert main([str(checkpoint), str(out or tmp_path / "bundle")]) == 1
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert message.startswith("qwenguard-export: ")
        for word in words:
            assert word in message
        assert sorted(tmp_path.iterdir()) == before

    return check


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, ["architectures", "LlamaForCausalLM"]),
        ({"model_type": "llama"}, ["model_type", "llama"]),
        ({"hidden_act": "gelu"}, ["hidden_act", "gelu"]),
        ({"attention_bias": True}, ["attention_bias"]),
        ({"use_sliding_window": True}, ["use_sliding_window"]),
        ({"layer_types": ["full_attention", "sliding_attention"]}, ["layer_types"]),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, ["rope_scaling", "yarn"]),
        ({"rope_theta": None, "rope_parameters": {"rope_type": "llama3", "rope_theta": 1e6}}, ["rope_parameters"]),
        ({"rope_theta": None}, ["rope_theta", "missing"]),
        ({"quantization_config": {"quant_method": "gptq"}}, ["quantization_config"]),
        ({"head_dim": None}, ["head_dim", "missing"]),
        ({"head_dim": 20}, ["head_dim", "multiple of 8"]),
        ({"guard_inner_size": None}, ["guard_inner_size", "missing"]),
        ({"num_hidden_layers": "3"}, ["num_hidden_layers"]),
        ({"hidden_size": -1}, ["hidden_size"]),
        ({"rms_norm_eps": 0}, ["rms_norm_eps"]),
        ({"num_key_value_heads": 3}, ["num_key_value_heads"]),
        ({"query_category_map": None}, ["query_category_map", "missing"]),
        ({"num_category": 5}, ["response_category_map", "num_category"]),
        ({"response_risk_level_map": {"0": "Safe", "1": "Unsafe", "3": "Odd"}}, ["response_risk_level_map", '"2"']),
        ({"query_risk_level_map": labels("Safe", "", "Odd")}, ["query_risk_level_map", '"1"']),
    ],
)
def test_config(fails, changes, words):
    spec = Spec(tensors=random_tensors(small_config()), config=small_config(**changes))
    fails(spec, "config.json", *words)


def test_config_not_json(fails):
    fails(Spec(), "config.json", "JSON", damage=lambda folder: (folder / "config.json").write_text("{"))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file(fails, name):
    fails(Spec(), name, damage=lambda folder: (folder / name).unlink())


def test_missing_checkpoint(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere"), str(tmp_path / "bundle")]) == 1
    assert "nowhere: no such folder" in capsys.readouterr().err


def test_missing_tensor(fails):
    tensors = random_tensors(small_config())
    del tensors["model.layers.1.mlp.up_proj.weight"]
    fails(Spec(tensors=tensors), "missing tensor model.layers.1.mlp.up_proj.weight")


def test_wrong_shape(fails):
    tensors = random_tensors(small_config())
    tensors["category_head.weight"] = np.zeros((7, 24), np.float32)
    fails(Spec(tensors=tensors), "tensor category_head.weight", "[7, 24]", "[4, 24]")


def test_unexpected_dtype(fails):
    tensors = random_tensors(small_config())
    tensors["model.norm.weight"] = np.zeros(48, np.int8)
    fails(Spec(tensors=tensors), "model.safetensors", "model.norm.weight", "dtype I8")


def test_unexpected_tensor(fails):
    tensors = random_tensors(small_config())
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(80, np.float32)
    fails(Spec(tensors=tensors), "unexpected tensor model.layers.0.self_attn.q_proj.bias")


@pytest.mark.parametrize("kept", [3, 100, -1])
def test_truncated_file(fails, kept):
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:kept])

    fails(Spec(), "model.safetensors", damage=damage)


def test_damaged_header(fails):
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes().replace(b'"data_offsets"', b'"data_offsetz"', 1))

    fails(Spec(), "model.safetensors", "data_offsets", damage=damage)


def test_missing_shard(fails):
    name = "model-00002-of-00003.safetensors"
    fails(Spec(shards=3), "missing shard", name, damage=lambda folder: (folder / name).unlink())


def test_shard_without_its_tensor(fails):
    name = "model-00002-of-00003.safetensors"
    fails(
        Spec(shards=3),
        name,
        "missing tensor",
        damage=lambda folder: save(folder / name, {"other": np.zeros(1, np.float32)}),
    )


def test_index_without_map(fails):
    def damage(folder: Path) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}}))

    fails(Spec(shards=2), "model.safetensors.index.json", "weight_map", damage=damage)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (Spec(template=None), ["tokenizer_config.json", "chat_template", "missing"]),
        (Spec(template=" \n"), ["chat_template.jinja", "empty"]),
        (Spec(template="{% for %}"), ["chat_template.jinja", "cannot be used"]),
        (Spec(template="{{ messages[7].content }}"), ["chat_template.jinja", "cannot be used"]),
        (Spec(template="{{ messages[0].content }}"), ["chat_template.jinja", "user turn"]),
        (Spec(template=None, tokenizer_config={"chat_template": []}), ["tokenizer_config.json", "default"]),
    ],
)
def test_template(fails, spec, words):
    fails(spec, *words)


@pytest.mark.parametrize("token", ["<|im_start|>", "<|im_end|>"])
def test_missing_special_token(fails, token):
    kept = [text for text in ("<|im_start|>", "<|im_end|>") if text != token]
    fails(Spec(special_tokens=kept), "tokenizer.json", token)


def test_damaged_tokenizer(fails):
    fails(Spec(), "tokenizer.json", "tokenizer", damage=lambda folder: (folder / "tokenizer.json").write_text("{}"))


def test_tokenizer_larger_than_model(fails):
    fails(Spec(config=small_config(vocab_size=258)), "tokenizer.json", "259", "258")


def test_disk_full(fails, monkeypatch):
    created = files.create

    class FullDisk(io.FileIO):
        def write(self, data: object) -> int:
            if self.tell() > 20000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr(weights, "create", lambda path: created(path) and FullDisk(path, "r+"))
    fails(Spec(), "weights.bin", "No space left on device")


def test_out_not_writable(fails, tmp_path):
    (tmp_path / "file").write_text("")
    fails(Spec(), "cannot create", "Not a directory", out=tmp_path / "file" / "bundle")


def test_out_without_parent(fails, tmp_path):
    fails(Spec(), "cannot create", "No such file", out=tmp_path / "missing" / "bundle")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_checkpoint_that_changes_meanwhile(fails, monkeypatch, name):
    """Its digests would be those of other weights than the bundle's."""
    build = export._build

    def changing(source, *arguments):
        (source.files[0].parent / name).touch()
        return build(source, *arguments)

    monkeypatch.setattr(export, "_build", changing)
    fails(Spec(), name, "was changed during the export")


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")
@pytest.mark.parametrize(
    ("redirected", "code", "message"),
    [
        (">/dev/full", 1, b"its report cannot be written"),
        ("| true", 0, b""),
        (">&- 2>&- <&-", 0, b""),
        ("2>/dev/full", 0, b""),
    ],
)
def test_streams_that_cannot_be_written(tmp_path, redirected, code, message):
    """The bundle is whole, and no message is in one of its files."""
    Spec().write(tmp_path / "checkpoint")
    script = f'cd "$1" && "$0" -m qwenguard_export checkpoint bundle {redirected}'
    result = subprocess.run(["sh", "-c", script, sys.executable, str(tmp_path)], capture_output=True)
    assert result.returncode == code
    assert message in result.stderr and b"Traceback" not in result.stderr and result.stderr.count(b"\n") <= 1
    publish._own_files(tmp_path / "bundle")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are UTF-8")
def test_names_that_are_not_utf8(tmp_path, capfd):
    Spec().write(tmp_path / "checkpoint")
    folder = (tmp_path / "checkpoint").rename(tmp_path / os.fsdecode(b"guard-\xff\x1b[31m"))
    assert main([str(folder), str(tmp_path / "bundle")]) == 0
    assert 'name = "guard-??[31m"' in (tmp_path / "bundle/guard.toml").read_text()
    assert main([str(folder), str(folder)]) == 1
    found = capfd.readouterr()
    assert found.err.count("\n") == 1 and found.err[:-1].isprintable() and "\x1b" not in found.out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["only-one"],
        ["a", "b", "c"],
        ["a", "b", "--precision", "int3"],
        ["a", "b", "--group", "33"],
        ["a", "b", "--precision", "fp32", "--group", "32"],
        ["a", "b", "--seed", "1"],
        ["--random", "0.6B", "out"],
        ["--random", "0.6B", "in", "out", "--tokenizer", "t"],
        ["--random", "7B", "out", "--tokenizer", "t"],
    ],
)
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt(tmp_path, number, code):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    write_tokenizer(source)
    (source / "chat_template.jinja").write_text(TEMPLATE)
    command = [sys.executable, "-m", "qwenguard_export", "--random", "0.6B", str(target / "bundle")]
    process = subprocess.Popen(
        [*command, "--tokenizer", str(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A test run in the background of a script has the signal ignored, and so would its children.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    try:
        _wait_for(lambda: list(target.glob("bundle.partial-*/weights.bin")), process)
        process.send_signal(number)
        _, message = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == code
    assert message == b"qwenguard-export: interrupted\n"
    assert not list(target.iterdir())


def _wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_interrupt_that_a_destructor_swallows_still_ends_the_run(tmp_path):
    forget_interrupts()
    with WeightWriter(tmp_path / "weights.bin") as writer:
        with pytest.raises(Interrupted):
            interrupt(signal.SIGTERM)
        with pytest.raises(Interrupted):
            writer.add("tensor", np.dtype(np.float32), [2048], [np.zeros(2048, dtype=np.float32)])
    forget_interrupts()
