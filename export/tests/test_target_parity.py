"""Graphs for GPUs and portable ones compute what the checkpoint computes."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from checkpoints import Spec, gen_spec, small_config

from qwenguard_export import exported, gen_parity, parity, reference
from qwenguard_export.checkpoint import SafetensorsCheckpoint
from qwenguard_export.config import LABEL_KEYS, parse_config
from qwenguard_export.errors import ExportError
from qwenguard_export.graph import trunk
from qwenguard_export.operators_spelled_out import operators
from qwenguard_export.rounded import in_float32
from qwenguard_export.targets import TargetOptions

WHOLE_BLOCKS = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 96}
# By precision: the largest difference of a probability that the small checkpoints show, with some room.
STREAM_LIMITS = {"fp16": 0.02, "bf16": 0.15, "int8": 0.15, "int4": 1.0}


def target_options(target: str, bits: int = 16, precision: str = "fp16") -> TargetOptions:
    return TargetOptions((target,), gpu_weights=bits, portable_precision=precision, portable_contexts=(1024,))


@pytest.mark.parametrize(
    ("target", "bits", "precision"),
    [
        ("webgpu", 16, "fp16"),
        ("webgpu", 8, "int8"),
        ("webgpu", 4, "int4"),
        ("cuda", 16, "bf16"),
        ("cuda", 8, "int8"),
        ("cuda", 4, "int4"),
    ],
)
@pytest.mark.parametrize("variant", ["stream", "gen"])
def test_gpu_graphs(export_spec, target, bits, precision, variant):
    spec = Spec(config=small_config(**WHOLE_BLOCKS)) if variant == "stream" else gen_spec(**WHOLE_BLOCKS)
    report = export_spec(spec, made_for=target_options(target, bits))
    (found,) = report.parities.values()
    assert found.tokens > 100
    if variant == "stream":
        floor = parity.FLOORS[precision]
        assert min(found.risk_agreement, found.category_agreement) >= floor
        assert found.max_prob_diff < STREAM_LIMITS[precision]
    else:
        assert found.candidate_agreement >= gen_parity.FLOORS[precision]
        assert precision == "int4" or found.next_token_agreement > 0.85
    assert f"parity of paged_{target}: largest probability difference" in report.lines()[0]


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("spec", [Spec(), gen_spec(), gen_spec(tie_word_embeddings=False)], ids=["s", "tied", "own"])
def test_portable_graphs(export_spec, precision, spec):
    report = export_spec(spec, made_for=target_options("portable", precision=precision))
    found = report.parities["portable"]
    assert found.max_prob_diff < (1e-4 if precision == "fp32" else 0.02)
    if isinstance(found, gen_parity.GenParity):
        assert found.candidate_agreement > 0.97 and found.next_token_agreement > 0.95


@pytest.mark.parametrize("target", ["webgpu", "cuda", "portable"])
@pytest.mark.parametrize("variant", ["stream", "gen"])
def test_a_wrong_graph_is_refused(export_spec, tmp_path, monkeypatch, target, variant):
    """Positions are looked up as cosines and sines everywhere; of a portable graph the host does."""
    rows, swapped = trunk.rotary_rows, {np.cos: np.sin, np.sin: np.cos}

    def wrong(config, function, *ends):
        return rows(config, swapped[function], *ends)

    monkeypatch.setattr(trunk, "rotary_rows", wrong)
    monkeypatch.setattr("qwenguard_export.portable_run.rotary_rows", wrong)
    name = {"webgpu": "webgpu fp16", "cuda": "cuda bf16", "portable": "portable fp16 rows"}[target]
    with pytest.raises(ExportError, match=f"^parity: the {name} graph and the checkpoint agree on"):
        export_spec(Spec() if variant == "stream" else gen_spec(), made_for=target_options(target))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_contexts_that_hold_no_sample_text(export_spec, tmp_path):
    made_for = TargetOptions(("portable",), portable_contexts=(64,))
    with pytest.raises(ExportError, match="^--portable-context: none of the contexts holds the 64 tokens"):
        export_spec(Spec(), made_for=made_for)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    export_spec(Spec(), made_for=made_for, parity=False)


@pytest.mark.parametrize("target", ["webgpu", "cuda", "portable"])
def test_a_context_shorter_than_the_sample_texts(export_spec, target):
    """Also than those of the self-test, which come from this graph."""
    report = export_spec(Spec(config=small_config(max_position_embeddings=20)), made_for=target_options(target))
    (found,) = report.parities.values()
    assert found.tokens == 5 * 20


def gpu_graph(export_spec, tmp_path: Path, target: str, **changes) -> tuple[onnx.ModelProto, Path]:
    export_spec(Spec(config=small_config(**changes)), parity=False, made_for=target_options(target))
    return onnx.load(tmp_path / f"bundle/paged_{target}.onnx", load_external_data=False), tmp_path / "bundle"


@pytest.mark.parametrize("target", ["webgpu", "cuda"])
@pytest.mark.parametrize(
    "changes", [{}, {"num_key_value_heads": 1}, {"num_hidden_layers": 1}, {"num_key_value_heads": 4, "head_dim": 8}]
)
def test_logits_of_gpu_graphs(export_spec, tmp_path, target, changes):
    """Against the reference, which shares no code with the graph; what is left is rounding."""
    model, bundle = gpu_graph(export_spec, tmp_path, target, **changes)
    checkpoint = SafetensorsCheckpoint(tmp_path / "checkpoint")
    ids = [np.arange(40) * 7 % 300, np.arange(9) * 11 % 300]
    wanted = reference.evaluate(checkpoint, parse_config(small_config(**changes)), ids, lambda: None)
    found = exported.evaluate(model, bundle, ids, lambda: None)
    for name in LABEL_KEYS:
        scale = wanted[name].std()
        assert np.abs(found[name] - wanted[name]).max() < (0.03 if target == "webgpu" else 0.25) * scale
    assert found["row_check"].shape == (49,) and np.isfinite(found["row_check"]).all()


@pytest.mark.parametrize(("target", "dtype"), [("webgpu", np.float16), ("cuda", ml_dtypes.bfloat16)])
def test_what_nodes_give_is_rounded(export_spec, tmp_path, target, dtype):
    model, bundle = gpu_graph(export_spec, tmp_path, target, num_hidden_layers=1)
    whole = in_float32(model)
    whole.functions.extend(operators())
    halves = ["/layers.0/attn/qkv/output", "/layers.0/attn/paged/output", "/layers.0/mlp/gated/output"]
    names = [*halves, "/norm/final/output"]
    whole.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    onnx.save(whole, bundle / "whole.onnx")
    session = ort.InferenceSession(bundle / "whole.onnx", providers=["CPUExecutionProvider"])
    ids = np.arange(30) * 7 % 300
    *found, last = session.run(names, exported._graph_inputs(whole, ids))
    for values in found:
        np.testing.assert_array_equal(values.astype(dtype).astype(np.float32), values)
    assert (last.astype(dtype).astype(np.float32) != last).any()


def test_an_overflow_shows(export_spec, tmp_path):
    """A value beyond float16's range makes its row not finite, which the row check tells."""
    model, bundle = gpu_graph(export_spec, tmp_path, "webgpu")
    (embed,) = [tensor for tensor in model.graph.initializer if tensor.name == "layers.0.mlp.norm"]
    embed.raw_data = (np.full(48, 3e38, np.float32)).tobytes()
    found = exported.evaluate(model, bundle, [np.arange(5)], lambda: None)
    assert not np.isfinite(found["row_check"]).any()
