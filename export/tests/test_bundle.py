"""What is in a bundle, and what becomes of the folder it is written to."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import onnx
import pytest
from checkpoints import TEMPLATE, Spec, random_tensors, small_config, write_tokenizer

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

from qwenguard_export.config import parse_config
from qwenguard_export.errors import ExportError
from qwenguard_export.export import Options, export
from qwenguard_export.random_model import RandomCheckpoint
from qwenguard_export.source import RandomModel

FILES = ["chat_template.jinja", "guard.toml", "paged.onnx", "tokenizer.json", "weights.bin"]


def manifest(folder: Path) -> dict:
    return tomllib.loads((folder / "guard.toml").read_text())


def test_contents(export_spec, tmp_path):
    export_spec(Spec(shards=2), precision="int8", group=64)
    bundle, checkpoint = tmp_path / "bundle", tmp_path / "checkpoint"
    assert sorted(path.name for path in bundle.iterdir()) == FILES
    assert (bundle / "tokenizer.json").read_bytes() == (checkpoint / "tokenizer.json").read_bytes()
    assert (bundle / "chat_template.jinja").read_text() == TEMPLATE
    guard = manifest(bundle)
    assert guard["format"] == 2
    assert guard["variant"] == "stream"
    assert (guard["precision"], guard["group"]) == ("int8", 64)
    assert guard["source"]["name"] == "checkpoint"
    assert guard["model"] == {
        "architecture": "Qwen3ForGuardModel",
        "vocab_size": 300,
        "hidden_size": 48,
        "num_layers": 3,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 24,
        "intermediate_size": 104,
        "guard_inner_size": 24,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "context": 128,
    }
    categories = ['"Violent"', "PII", "Self-Harm", "Other"]
    assert [(head["name"], head["kind"], head["rows"]) for head in guard["heads"]] == [
        ("response_risk", "labels", "response_rows"),
        ("response_category", "labels", "response_rows"),
        ("query_risk", "labels", "query_rows"),
        ("query_category", "labels", "query_rows"),
    ]
    levels = ["Safe", "Unsafe", "Controversial"]
    assert [head["labels"] for head in guard["heads"]] == [levels, categories, levels, [*categories, "Jailbreak"]]
    assert guard["tokens"]["turn_start"] == 256
    assert guard["tokens"]["turn_end"] == 257
    assert len(guard["tokens"]["user"]) == 4
    assert (guard["tokens"]["think_start"], guard["tokens"]["think_end"]) == (258, 259)
    assert guard["graphs"] == {"paged_cpu": {"file": "paged.onnx"}}
    assert set(guard["parity"]) == {"tokens", "max_prob_diff", "risk_agreement", "category_agreement"}


@pytest.mark.parametrize("group", [32, 128])
def test_zero_points(export_spec, tmp_path, group):
    """A byte more for two groups of weights, and nothing else."""
    export_spec(Spec(), precision="int4", group=group, parity=False)
    symmetric = onnx.load(tmp_path / "bundle" / "paged.onnx", load_external_data=False)
    assert "zero_points" not in manifest(tmp_path / "bundle")
    export_spec(Spec(), precision="int4", group=group, zero_points=True, parity=False, force=True)
    model = onnx.load(tmp_path / "bundle" / "paged.onnx", load_external_data=False)
    guard = manifest(tmp_path / "bundle")
    assert (guard["precision"], guard["group"], guard["zero_points"]) == ("int4", group, True)
    shapes, others = (
        {tensor.name: tuple(tensor.dims) for tensor in one.graph.initializer} for one in (model, symmetric)
    )
    nodes = [node for node in model.graph.node if node.op_type == "MatMulInt4"]
    for node in nodes:
        scales, zero_points = node.input[2:]
        assert zero_points == scales.replace(".scales", ".zero_points")
        assert shapes.pop(zero_points) == (*shapes[scales][:2], 16)
    assert len(nodes) == 12 and shapes == others


def test_checksums(export_spec, tmp_path):
    export_spec(Spec(shards=2), precision="int8")
    guard = manifest(tmp_path / "bundle")
    assert sorted([*guard["files"], "guard.toml"]) == FILES
    for name, entry in guard["files"].items():
        data = (tmp_path / "bundle" / name).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    read = {
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    assert set(guard["source"]["sha256"]) == read
    for name, digest in guard["source"]["sha256"].items():
        assert digest == hashlib.sha256((tmp_path / "checkpoint" / name).read_bytes()).hexdigest()


def test_same_input_gives_same_bytes(export_spec, tmp_path):
    export_spec(Spec(), precision="int8")
    first = {name: (tmp_path / "bundle" / name).read_bytes() for name in FILES}
    export_spec(Spec(), precision="int8", force=True)
    assert first == {name: (tmp_path / "bundle" / name).read_bytes() for name in FILES}


def test_graph_interface(export_spec, tmp_path):
    export_spec(Spec(), precision="int8")
    model = onnx.load(tmp_path / "bundle" / "paged.onnx", load_external_data=False)
    caches = [f"{kind}_cache.{layer}" for layer in range(3) for kind in ("key", "value")]
    assert [value.name for value in model.graph.input] == [
        "input_ids", "cu_seqlens", "past_lens", "block_table", "response_rows", "query_rows", *caches,
    ]  # fmt: skip
    assert [value.name for value in model.graph.output] == [
        "response_risk", "response_category", "query_risk", "query_category", "row_check",
        *[name.replace("cache", "cache_out") for name in caches],
    ]  # fmt: skip
    assert model.ir_version == 10
    assert {entry.domain: entry.version for entry in model.opset_import} == {
        "": 21,
        "com.microsoft": 1,
        "ai.qwenguard": 1,
    }
    prefixes = {node.name.split("/")[1] for node in model.graph.node}
    assert prefixes == {"embed", "layers.0", "layers.1", "layers.2", "norm", "heads"}
    attention = next(node for node in model.graph.node if node.op_type == "PagedAttention")
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in attention.attribute}
    assert attributes["scale"] == pytest.approx(24**-0.5)
    assert (attributes["num_heads"], attributes["kv_num_heads"], attributes["head_dim"]) == (4, 2, 24)
    quantized = [node for node in model.graph.node if node.op_type == "MatMulInt8"]
    assert len(quantized) == 4 * 3
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in quantized[0].attribute}
    assert attributes == {"K": 48, "N": (4 + 2 * 2) * 24, "group": 32}
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert [shapes[name] for name in quantized[0].input[1:]] == [[6, 64 // 4, 32, 4], [6, 2, 32]]


def test_int4_takes_half_the_bytes(export_spec, tmp_path):
    export_spec(Spec(), precision="int4", parity=False)
    model = onnx.load(tmp_path / "bundle" / "paged.onnx", load_external_data=False)
    quantized = [node for node in model.graph.node if node.op_type == "MatMulInt4"]
    assert len(quantized) == 4 * 3
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert [shapes[name] for name in quantized[0].input[1:]] == [[6, 64 // 8, 32, 4], [6, 2, 32]]


def test_external_data_is_aligned(export_spec, tmp_path):
    export_spec(Spec(), precision="int8")
    model = onnx.load(tmp_path / "bundle" / "paged.onnx", load_external_data=False)
    places = []
    for tensor in model.graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            assert place["location"] == "weights.bin"
            places.append((int(place["offset"]), int(place["length"])))
        else:
            assert len(tensor.raw_data) < 4096
    assert places
    assert all(offset % 4096 == 0 and length >= 4096 for offset, length in places)
    assert places == sorted(places)
    assert sum(places[-1]) == (tmp_path / "bundle" / "weights.bin").stat().st_size


@pytest.mark.parametrize(
    "chat_template",
    [TEMPLATE, [{"name": "tools", "template": "no"}, {"name": "default", "template": TEMPLATE}]],
)
def test_template_from_tokenizer_config(export_spec, tmp_path, chat_template):
    export_spec(Spec(template=None, tokenizer_config={"chat_template": chat_template}), parity=False)
    assert (tmp_path / "bundle" / "chat_template.jinja").read_text() == TEMPLATE
    assert "tokenizer_config.json" in manifest(tmp_path / "bundle")["source"]["sha256"]


def test_template_file_wins(export_spec, tmp_path):
    export_spec(Spec(tokenizer_config={"chat_template": "other"}), parity=False)
    assert (tmp_path / "bundle" / "chat_template.jinja").read_text() == TEMPLATE


def test_think_tokens_are_optional(export_spec, tmp_path):
    export_spec(Spec(special_tokens=["<|im_start|>", "<|im_end|>"]), parity=False)
    assert set(manifest(tmp_path / "bundle")["tokens"]) == {"turn_start", "turn_end", "user"}


@pytest.mark.parametrize(
    ("given", "name"), [("Guard-Tiny", "Guard-Tiny"), ("/home/me/guard", "checkpoint"), ("", "checkpoint")]
)
def test_source_name(export_spec, tmp_path, given, name):
    export_spec(Spec(config=small_config(_name_or_path=given)), parity=False)
    assert manifest(tmp_path / "bundle")["source"]["name"] == name


def test_fp32_bundle_has_no_group(export_spec, tmp_path):
    export_spec(Spec(), parity=False)
    guard = manifest(tmp_path / "bundle")
    assert "group" not in guard
    assert "parity" not in guard


def test_existing_folder_is_kept_without_force(export_spec, tmp_path):
    (tmp_path / "bundle").mkdir()
    with pytest.raises(ExportError, match="already exists"):
        export_spec(Spec())
    assert not list((tmp_path / "bundle").iterdir())


def test_force_replaces_only_bundles(export_spec, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "letters.txt").write_text("dear")
    with pytest.raises(ExportError, match="not a bundle"):
        export_spec(Spec(), force=True)
    assert (tmp_path / "bundle" / "letters.txt").exists()


def test_failed_replacement_keeps_the_old_bundle(export_spec, tmp_path):
    export_spec(Spec(), precision="int8")
    before = (tmp_path / "bundle" / "guard.toml").read_bytes()
    tensors = random_tensors(small_config())
    tensors["model.norm.weight"][0] = float("nan")
    with pytest.raises(ExportError, match="model.norm.weight: holds values"):
        export_spec(Spec(tensors=tensors), force=True)
    assert (tmp_path / "bundle" / "guard.toml").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]


def test_random_rows_do_not_depend_on_slicing():
    config = parse_config(small_config(vocab_size=3000))
    checkpoint = RandomCheckpoint(config, seed=3)
    name = "model.embed_tokens.weight"
    whole = checkpoint.read_rows(name, 0, 3000)
    assert (checkpoint.read_rows(name, 1300, 1450) == whole[1300:1450]).all()
    assert (RandomCheckpoint(config, seed=4).read_rows(name, 0, 5) != whole[:5]).any()
    assert abs(whole.astype("f4").std() - 0.02) < 0.001


def test_random_export(tmp_path, monkeypatch):
    """--random with its shapes made small."""
    monkeypatch.setattr("qwenguard_export.source.random_config", lambda size, _: parse_config(small_config()))
    write_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    wanted = RandomModel("0.6B", seed=5, tokenizer=tmp_path / "tokenizer.json")
    report = export(Options(wanted, tmp_path / "bundle"))
    assert report.parity.max_prob_diff < 0.05
    guard = manifest(tmp_path / "bundle")
    assert guard["source"]["name"] == "random-0.6B"
    assert set(guard["source"]["sha256"]) == {"tokenizer.json", "chat_template.jinja"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are UTF-8")
def test_a_tokenizer_with_any_name(tmp_path, monkeypatch):
    monkeypatch.setattr("qwenguard_export.source.random_config", lambda size, _: parse_config(small_config()))
    write_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    tokenizer = (tmp_path / "tokenizer.json").rename(tmp_path / os.fsdecode(b"t\xff\n.json"))
    export(Options(RandomModel("0.6B", seed=5, tokenizer=tokenizer), tmp_path / "bundle", parity=False))
    assert set(manifest(tmp_path / "bundle")["source"]["sha256"]) == {"t??.json", "chat_template.jinja"}
