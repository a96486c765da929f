"""The exported graph computes what the checkpoint computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from checkpoints import Spec, random_tensors, small_config

from qwenguard_export import exported, parity
from qwenguard_export.cli import main
from qwenguard_export.config import LABEL_KEYS
from qwenguard_export.errors import ExportError
from qwenguard_export.graph import trunk


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("shards", [1, 3])
def test_fp32_matches_for_every_way_of_storing(export_spec, dtype, shards):
    report = export_spec(Spec(dtype=dtype, shards=shards))
    assert report.parity.max_prob_diff < 1e-4
    assert report.parity.risk_agreement == 1
    assert report.parity.category_agreement == 1
    assert report.parity.tokens > 100


@pytest.mark.parametrize(
    "changes",
    [
        {"tie_word_embeddings": False},
        {"head_dim": 8, "num_attention_heads": 6, "num_key_value_heads": 6},
        {"num_attention_heads": 8, "num_key_value_heads": 1},
        {"num_hidden_layers": 1},
        {"rope_theta": None, "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
        {"max_position_embeddings": 40},
    ],
)
def test_fp32_matches_for_other_shapes(export_spec, changes):
    assert export_spec(Spec(config=small_config(**changes))).parity.max_prob_diff < 1e-4


@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize(("precision", "agreement"), [("int8", 0.95), ("int4", 0.65)])
def test_quantised_graph_stays_close(export_spec, precision, group, agreement):
    """Random heads decide by hairs, so that even a small error turns a label now and then."""
    report = export_spec(Spec(), precision=precision, group=group)
    assert report.parity.risk_agreement > agreement
    assert report.parity.category_agreement > agreement
    if precision == "int8":
        assert report.parity.max_prob_diff < 0.15


@pytest.mark.parametrize("group", [32, 64, 128])
def test_a_graph_with_zero_points_stays_close(export_spec, group):
    report = export_spec(Spec(), precision="int4", group=group, zero_points=True)
    assert report.parity.risk_agreement > 0.65 and report.parity.category_agreement > 0.65


@pytest.mark.parametrize(
    ("precision", "zero_points"), [("fp32", False), ("int8", False), ("int4", False), ("int4", True)]
)
def test_cut_graph_equals_whole_graph(export_spec, tmp_path, precision, zero_points):
    """The layer by layer evaluation of the parity check against one session with the whole graph."""
    export_spec(Spec(), precision=precision, zero_points=zero_points, parity=False)
    folder = tmp_path / "bundle"
    model = onnx.load(folder / "paged.onnx", load_external_data=False)
    ids = np.arange(30) * 7 % 300
    by_layer = exported.evaluate(model, folder, [ids], lambda: None)
    model.functions.extend(exported.operators(model.graph.node))
    onnx.save(model, folder / "whole.onnx")
    session = ort.InferenceSession(folder / "whole.onnx", providers=["CPUExecutionProvider"])
    risk, category = session.run(["response_risk", "response_category"], exported._graph_inputs(model, ids))
    np.testing.assert_allclose(risk, by_layer["response_risk"], atol=1e-5)
    np.testing.assert_allclose(category, by_layer["response_category"], atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "message"),
    [("fp32", "the least is 99%"), ("int8", "agree on .* labels, the least is 90%"), ("int4", "the least is 60%")],
)
def test_a_wrong_graph_is_refused(export_spec, tmp_path, monkeypatch, precision, message):
    """Also with --force: the old bundle stays as it is."""
    export_spec(Spec(), precision="int8", parity=False)
    before = {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    rows, swapped = trunk.rotary_rows, {np.cos: np.sin, np.sin: np.cos}
    monkeypatch.setattr(trunk, "rotary_rows", lambda config, function, *ends: rows(config, swapped[function], *ends))
    with pytest.raises(ExportError, match=message):
        export_spec(Spec(), precision=precision, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}


@pytest.mark.parametrize(
    ("precision", "name", "value"),
    [
        ("fp32", "model.layers.1.self_attn.k_proj.weight", np.nan),
        ("fp32", "query_category_head.weight", np.inf),
        ("int8", "model.embed_tokens.weight", np.inf),
        ("int8", "model.layers.2.mlp.up_proj.weight", np.nan),
        ("int4", "model.layers.0.self_attn.o_proj.weight", -np.inf),
        ("int4", "risk_level_category_layernorm.weight", np.nan),
    ],
)
def test_a_weight_that_is_not_finite_is_named(export_spec, tmp_path, name, precision, value):
    tensors = random_tensors(small_config(), "BF16")
    tensors[name].flat[-1] = value
    with pytest.raises(ExportError, match=f"^tensor {name}: holds values that are not finite"):
        export_spec(Spec(tensors=tensors), precision=precision, parity=False)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_weights_whose_logits_overflow_are_refused(tmp_path, capfd, precision):
    """Every weight is finite, and no verdict is a number."""
    tensors = random_tensors(small_config())
    tensors["risk_level_head.weight"] *= np.float32(3e38)
    tensors["risk_level_head.weight"][...] = np.sign(tensors["risk_level_head.weight"]) * np.float32(3e38)
    checkpoint = Spec(tensors=tensors).write(tmp_path / "checkpoint")
    assert main([str(checkpoint), str(tmp_path / "bundle"), "--precision", precision]) == 1
    message = capfd.readouterr().err
    assert message == "qwenguard-export: parity: the checkpoint gives response_risk logits that are not finite\n"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_fp32_is_exact(export_spec):
    report = export_spec(Spec())
    differing = replace(report.parity, prob_diff={"query_risk": 0.002})
    with pytest.raises(ExportError, match="fp32 graph differs from the checkpoint by 2.00e-03"):
        parity.check(differing, "fp32")
    parity.check(differing, "int8")


def test_logits_of_the_graph_that_are_not_finite_are_refused(export_spec, monkeypatch):
    evaluate = exported.evaluate

    def damaged(*arguments):
        found = evaluate(*arguments)
        found["query_risk"][0, 0] = np.nan
        return found

    monkeypatch.setattr(exported, "evaluate", damaged)
    with pytest.raises(ExportError, match="the exported graph gives query_risk values that are not finite"):
        export_spec(Spec(), precision="int4")


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("kind", ["risk", "category"])
def test_floors(precision, kind):
    def measured(share):
        agreement = {"risk_agreement": 1.0, "category_agreement": 1.0, f"{kind}_agreement": share}
        return parity.Parity(tokens=100, prob_diff={"response_risk": 0.0}, **agreement)

    parity.check(measured(parity.FLOORS[precision]), precision)
    for share in (parity.FLOORS[precision] - 0.01, float("nan")):
        with pytest.raises(ExportError, match=f"of the {kind} labels"):
            parity.check(measured(share), precision)


def test_comparison_counts_differences():
    logits = {labels: np.zeros((4, 3)) for labels in LABEL_KEYS}
    for values in logits.values():
        values[:, 0] = 1
    changed = {labels: values.copy() for labels, values in logits.items()}
    changed["query_risk"][0] = [0, 1, 0]
    names = {"risk": ["Safe", "Unsafe", "Controversial"], "category": ["PII", "Violent", "Other"]}
    result = parity.compare(logits, changed, {labels: names[labels.split("_")[1]] for labels in LABEL_KEYS})
    assert result.risk_agreement == 7 / 8
    assert result.category_agreement == 1
    assert result.prob_diff["response_risk"] == 0
    assert result.max_prob_diff == result.prob_diff["query_risk"] > 0.3


@pytest.mark.parametrize(
    ("names", "logits", "expected"),
    [
        (["Safe", "Controversial", "Unsafe"], [1, 1, 1], 2),
        (["Safe", "Unsafe", "Controversial"], [1, 0, 1], 2),
        (['"Unsafe"', '"Safe"', '"Controversial"'], [0, 1, 1], 2),
        (["Controversial", "Safe"], [0, 1], 1),
        (["PII", "Violent", "Other"], [0, 1, 1], 1),
    ],
)
def test_ties_go_to_the_graver_level_and_the_first_category(names, logits, expected):
    assert parity.likeliest(np.array([logits, logits]), names).tolist() == [expected, expected]


def test_fp32_checkpoint_keeps_its_embedding_only_in_fp32(export_spec, tmp_path):
    def embedding_type(precision: str) -> int:
        export_spec(Spec(), precision=precision, parity=False, force=True)
        model = onnx.load(tmp_path / "bundle" / "paged.onnx", load_external_data=False)
        return next(tensor.data_type for tensor in model.graph.initializer if tensor.name == "embed")

    assert embedding_type("fp32") == onnx.TensorProto.FLOAT
    assert embedding_type("int8") == onnx.TensorProto.FLOAT16


def test_embedding_beyond_float16_is_refused(export_spec):
    tensors = random_tensors(small_config())
    tensors["model.embed_tokens.weight"][3, 4] = 1e5
    with pytest.raises(ExportError, match="model.embed_tokens.weight: holds values"):
        export_spec(Spec(tensors=tensors), precision="int8")
