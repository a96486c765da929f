"""The exported graph computes what the checkpoint computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from checkpoints import Spec, random_tensors, small_config

from qwenguard_export import exported, parity
from qwenguard_export.config import LABEL_KEYS
from qwenguard_export.errors import ExportError


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


@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize(("precision", "agreement"), [("int8", 0.95), ("int4", 0.65)])
def test_quantised_graph_stays_close(export_spec, precision, block, agreement):
    """Random heads decide by hairs, so that even a small error turns a label now and then."""
    report = export_spec(Spec(), precision=precision, block=block)
    assert report.parity.risk_agreement > agreement
    assert report.parity.category_agreement > agreement
    if precision == "int8":
        assert report.parity.max_prob_diff < 0.15


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_cut_graph_equals_whole_graph(export_spec, tmp_path, precision):
    """The layer by layer evaluation of the parity check against one session with the whole graph."""
    export_spec(Spec(), precision=precision, parity=False)
    folder = tmp_path / "bundle"
    model = onnx.load(folder / "paged.onnx", load_external_data=False)
    ids = np.arange(30) * 7 % 300
    by_layer = exported.evaluate(model, folder, [ids], lambda: None)
    model.functions.extend(exported.operators())
    onnx.save(model, folder / "whole.onnx")
    session = ort.InferenceSession(folder / "whole.onnx", providers=["CPUExecutionProvider"])
    risk, category = session.run(["risk_logits", "category_logits"], exported._graph_inputs(model, ids))
    np.testing.assert_allclose(risk, by_layer["response_risk"], atol=1e-5)
    np.testing.assert_allclose(category, by_layer["response_category"], atol=1e-5)


def test_wrong_fp32_graph_is_refused(export_spec, tmp_path, monkeypatch):
    from qwenguard_export import graph

    tables = graph.rotary_tables
    monkeypatch.setattr(graph, "rotary_tables", lambda config: tables(config)[::-1])
    with pytest.raises(ExportError, match="fp32 graph differs"):
        export_spec(Spec())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


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
