"""Heads are computed for the rows that are wanted of them, and for no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from checkpoints import Spec

from qwenguard_export import exported
from qwenguard_export.graph import Head, head_outputs
from qwenguard_export.graph.trunk import ROW_CHECK

TOKENS = 9


@pytest.fixture
def session(export_spec, tmp_path) -> ort.InferenceSession:
    """A whole graph, with our operators spelled out, that also gives its hidden states."""
    export_spec(Spec(), parity=False)
    return whole(tmp_path / "bundle")


def whole(folder: Path) -> ort.InferenceSession:
    model = onnx.load(folder / "paged.onnx", load_external_data=False)
    model.functions.extend(exported.operators())
    model.graph.output.append(onnx.helper.make_tensor_value_info("/norm/final/output", onnx.TensorProto.FLOAT, None))
    onnx.save(model, folder / "whole.onnx")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(folder / "whole.onnx", options, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, names: list[str], **rows: list[int]) -> list[np.ndarray]:
    ids = np.arange(TOKENS) * 7 % 300
    fixed = {
        "input_ids": ids.astype(np.int64),
        "cu_seqlens": np.array([0, TOKENS], dtype=np.int32),
        "past_lens": np.zeros(1, dtype=np.int32),
        "block_table": np.zeros((1, 1), dtype=np.int32),
    }
    names_of_caches = [value.name for value in session.get_inputs() if "cache" in value.name]
    caches = {name: np.zeros((1, 2, 1), dtype=np.uint8) for name in names_of_caches}
    wanted = {f"{role}_rows": np.array(rows.get(role, []), dtype=np.int64) for role in ("response", "query")}
    return session.run(names, {**fixed, **caches, **wanted})


@pytest.mark.parametrize(
    ("response", "query"), [([0, 3, 8], [4]), ([], [8]), ([5], []), ([], []), ([8, 0, 0], list(range(TOKENS)))]
)
def test_wanted_rows_are_those_of_all_rows(session, response, query):
    names = ["response_risk", "response_category", "query_risk", "query_category"]
    everything = run(session, names, response=list(range(TOKENS)), query=list(range(TOKENS)))
    found = run(session, names, response=response, query=query)
    for name, values, all_values in zip(names, found, everything, strict=True):
        rows = response if name.startswith("response") else query
        assert values.shape == (len(rows), all_values.shape[1])
        np.testing.assert_allclose(values, all_values[rows], atol=1e-5)


def test_row_check_is_the_sum_of_each_hidden_state(session):
    for rows in ([], [2]):
        check, hidden = run(session, [ROW_CHECK, "/norm/final/output"], response=rows)
        assert check.shape == (TOKENS,)
        np.testing.assert_allclose(check, hidden.sum(axis=-1), rtol=1e-4, atol=1e-4)


def test_row_check_finds_rows_that_no_head_wants(export_spec, tmp_path):
    """One value of a token's embedding. The stand-in for our attention multiplies it by zero for the tokens before."""
    export_spec(Spec(), parity=False)
    model = onnx.load(tmp_path / "bundle" / "paged.onnx")
    embed = next(tensor for tensor in model.graph.initializer if tensor.name == "embed")
    values = onnx.numpy_helper.to_array(embed, str(tmp_path / "bundle")).copy()
    values[4 * 7 % 300, 11] = np.nan
    embed.CopyFrom(onnx.numpy_helper.from_array(values, "embed"))
    onnx.save(model, tmp_path / "bundle" / "paged.onnx")
    (check,) = run(whole(tmp_path / "bundle"), [ROW_CHECK])
    assert np.isfinite(check).tolist() == [False] * TOKENS


def test_outputs_that_are_heads(export_spec, tmp_path):
    export_spec(Spec(), parity=False)
    model = onnx.load(tmp_path / "bundle" / "paged.onnx", load_external_data=False)
    assert head_outputs(model) == ["response_risk", "response_category", "query_risk", "query_category"]


def test_kinds_of_heads():
    labels = Head("risk", "rows", labels=("Safe", "Unsafe"))
    assert labels.table() == {"name": "risk", "kind": "labels", "rows": "rows", "labels": ["Safe", "Unsafe"]}
    candidates = Head("candidates", "candidate_rows", tokens=(7, 5, 3))
    expected = {"name": "candidates", "kind": "candidates", "rows": "candidate_rows", "tokens": [7, 5, 3]}
    assert candidates.table() == expected
    vocabulary = Head("next_token", "next_token_rows")
    assert vocabulary.table() == {"name": "next_token", "kind": "vocabulary", "rows": "next_token_rows"}
    assert [head.classes(300) for head in (labels, candidates, vocabulary)] == [2, 3, 300]
