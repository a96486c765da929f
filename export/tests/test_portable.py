"""Every portable graph, run as a host runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from checkpoints import Spec, gen_spec, small_config

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

from qwenguard_export import reference
from qwenguard_export.checkpoint import SafetensorsCheckpoint
from qwenguard_export.config import LABEL_KEYS, parse_config
from qwenguard_export.graph.targets.portable import TYPES, Variant, variants
from qwenguard_export.portable_run import PortableRun
from qwenguard_export.targets import TargetOptions

# Of several lengths: texts that end in the middle of a step, with one, and long before another's.
SEQUENCES = [np.arange(70) * 7 % 300, np.arange(16) * 11 % 300, np.arange(3), np.arange(33) * 13 % 300]


def made(export_spec, spec: Spec, precision: str, slots: int) -> None:
    made_for = TargetOptions(
        ("portable",), portable_precision=precision, portable_contexts=(128,), portable_slots=(slots,)
    )
    export_spec(spec, parity=False, made_for=made_for)


def runs(bundle: Path, config: dict) -> list[PortableRun]:
    table = tomllib.loads((bundle / "guard.toml").read_text())["graphs"]["portable"]
    head = bundle / "portable_next_token.onnx"
    return [
        PortableRun(
            bundle,
            onnx.load(bundle / one["file"], load_external_data=False),
            onnx.load(head, load_external_data=False) if head.exists() else None,
            parse_config(config),
            Variant(**{key: value for key, value in one.items() if key != "file"}),
            table["cache"],
            table["weights"],
            table["embedding"]["offset"],
        )
        for one in table["variants"]
    ]


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-4), ("fp16", 0.05)])
@pytest.mark.parametrize("slots", [1, 3])
def test_logits_of_every_variant(export_spec, tmp_path, precision, limit, slots):
    made(export_spec, Spec(), precision, slots)
    wanted = reference.evaluate(
        SafetensorsCheckpoint(tmp_path / "checkpoint"), parse_config(small_config()), SEQUENCES, lambda: None
    )
    found = runs(tmp_path / "bundle", small_config())
    assert len(found) == 6
    for run in found:
        logits = run.evaluate(SEQUENCES, lambda: None)
        for name in LABEL_KEYS:
            np.testing.assert_allclose(logits[name], wanted[name], atol=limit, err_msg=run.variant.file)
        assert logits["row_check"].shape == (122,) and np.isfinite(logits["row_check"]).all()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("tied", [True, False])
def test_heads_of_a_gen_model(export_spec, tmp_path, precision, tied):
    spec = gen_spec(tie_word_embeddings=tied)
    made(export_spec, spec, precision, 2)
    tokens = tomllib.loads((tmp_path / "bundle/guard.toml").read_text())["heads"][0]["tokens"]
    for run in runs(tmp_path / "bundle", spec.config):
        rows = [np.arange(len(ids)) for ids in SEQUENCES]
        found = run.evaluate(SEQUENCES, lambda: None, rows)
        assert set(found) == {"candidates", "row_check", "next_token"}
        assert found["next_token"].shape == (122, 300)
        limit = 1e-4 if precision == "fp32" else 0.02
        np.testing.assert_allclose(found["candidates"], found["next_token"][:, tokens], atol=limit)
        some = run.evaluate(SEQUENCES, lambda: None, [np.array([3]), np.array([]), np.array([0, 2]), np.array([])])
        np.testing.assert_allclose(some["next_token"], found["next_token"][[3, 86, 88]], atol=limit)


def test_parts_are_the_whole_graph(export_spec, tmp_path):
    """The layer by layer run against one session with the whole graph, on one step."""
    made(export_spec, Spec(), "fp32", 1)
    (run,) = [
        one for one in runs(tmp_path / "bundle", small_config()) if one.variant.file == "portable_rows_n16_c128.onnx"
    ]
    ids = np.arange(11) * 7 % 300
    (step,) = run._steps([ids])
    session = ort.InferenceSession(tmp_path / "bundle/portable_rows_n16_c128.onnx", providers=["CPUExecutionProvider"])
    feed = {value.name: step.values.get(value.name) for value in session.get_inputs()}
    feed |= {name: np.zeros((1, 2, 128, 24), np.float32) for name in feed if name.startswith("past_")}
    names = [*LABEL_KEYS, "row_check"]
    whole = dict(zip(names, session.run(names, feed), strict=True))
    found = run.evaluate([ids], lambda: None)
    for name in names:
        np.testing.assert_allclose(found[name], whole[name][0, :11], atol=1e-5)


def test_a_whole_vocabulary_is_joined(export_spec, tmp_path, monkeypatch):
    """The head of more than one piece, as one graph, against the embedding."""
    monkeypatch.setattr("qwenguard_export.graph.targets.portable._VOCABULARY_PIECE", 128)
    for precision in ("fp32", "fp16"):
        made_for = TargetOptions(("portable",), portable_precision=precision, portable_contexts=(64,))
        export_spec(gen_spec(), parity=False, force=True, made_for=made_for)
        bundle = tmp_path / "bundle"
        head = onnx.load(bundle / "portable_next_token.onnx", load_external_data=False)
        assert [list(tensor.dims) for tensor in head.graph.initializer] == [[128, 48], [128, 48], [44, 48]]
        dtype = TYPES[precision]
        table = np.frombuffer((bundle / f"weights_{precision}.bin").read_bytes()[: 300 * 48 * dtype.itemsize], dtype)
        hidden = np.random.default_rng(4).standard_normal((1, 48)).astype(dtype)
        session = ort.InferenceSession(bundle / "portable_next_token.onnx", providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"hidden": hidden})
        wanted = hidden.astype(np.float32) @ table.reshape(300, 48).astype(np.float32).T
        np.testing.assert_allclose(found, wanted, atol=1e-4 if precision == "fp32" else 0.01)


@pytest.mark.parametrize(
    ("context", "asked", "contexts"),
    [
        (32768, (1024, 4096), [1024, 4096]),
        (2048, (1024, 4096), [1024, 2112]),
        (2047, (1024, 4096), [1024, 2048]),
        (1024, (1024, 4096), [1024, 1088]),
        (128, (1024, 4096), [192]),
        (40, (1024, 4096), [64]),
        (40, (64,), [64]),
    ],
)
def test_contexts(context, asked, contexts):
    """A text that fills the context leaves a row for padding."""
    config = parse_config(small_config(max_position_embeddings=context))
    found = variants(config, asked, (1,))
    assert sorted({one.context for one in found}) == contexts
    assert len(found) == 2 * 3 * len(contexts) == len({one.file for one in found})


def test_names_of_files():
    assert Variant("rows", 16, 1024, 1).file == "portable_rows_n16_c1024.onnx"
    assert Variant("scatter", 1, 4096, 8).file == "portable_scatter_n1_c4096_b8.onnx"
