"""The self-test that is written into every bundle."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import onnx
import pytest
from checkpoints import Spec, random_tensors, small_config
from tokenizers import Tokenizer

from qwenguard_export import exported, reference, self_test
from qwenguard_export.checkpoint import SafetensorsCheckpoint
from qwenguard_export.config import LABEL_KEYS, parse_config
from qwenguard_export.errors import ExportError


def written(bundle: Path) -> list[dict]:
    return tomllib.loads((bundle / "guard.toml").read_text())["self_test"]


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_logits_are_those_of_the_exported_graph(export_spec, tmp_path, precision):
    """Each text on its own, at its last token; the numbers are the float32 themselves."""
    export_spec(Spec(), precision=precision, parity=False)
    bundle = tmp_path / "bundle"
    model = onnx.load(bundle / "paged.onnx", load_external_data=False)
    tests = written(bundle)
    assert len(tests) == len(self_test.TEXTS)
    for test in tests:
        logits = exported.evaluate(model, bundle, [np.array(test["ids"])], lambda: None)
        for labels in LABEL_KEYS:
            np.testing.assert_allclose(np.float32(test["logits"][labels]), logits[labels][-1], rtol=1e-5, atol=1e-6)


def test_logits_are_those_of_the_checkpoint(export_spec, tmp_path):
    export_spec(Spec(), parity=False)
    config = parse_config(small_config())
    checkpoint = SafetensorsCheckpoint(tmp_path / "checkpoint")
    for test in written(tmp_path / "bundle"):
        logits = reference.evaluate(checkpoint, config, [np.array(test["ids"])], lambda: None)
        for labels in LABEL_KEYS:
            np.testing.assert_allclose(test["logits"][labels], logits[labels][-1], atol=1e-4)


def test_parity_changes_nothing(export_spec, tmp_path):
    export_spec(Spec(), precision="int8", parity=False)
    without = written(tmp_path / "bundle")
    export_spec(Spec(), precision="int8", force=True)
    assert written(tmp_path / "bundle") == without


def test_texts_are_cut_to_what_the_tokenizer_makes_few_tokens_of(export_spec, tmp_path):
    """The tokenizer of these checkpoints has no merges: a token for every byte."""
    export_spec(Spec(config=small_config(max_position_embeddings=20)), parity=False)
    tokenizer = Tokenizer.from_file(str(tmp_path / "bundle" / "tokenizer.json"))
    for test, text in zip(written(tmp_path / "bundle"), self_test.TEXTS, strict=True):
        assert text.startswith(test["text"])
        assert 15 <= len(test["ids"]) <= 20
        assert test["ids"] == tokenizer.encode(test["text"], add_special_tokens=False).ids


def test_texts_of_the_demonstration_guard():
    """Few tokens, several scripts, and a letter that has to be composed."""
    tokenizer = (Path(__file__).parents[1] / "nano/bundle/tokenizer.json").read_bytes()
    tests = self_test.encode(tokenizer, 32)
    assert all(10 <= len(ids) <= 32 for _, ids in tests)
    assert any("\u0301" in text for text in self_test.TEXTS)


def test_texts_without_tokens_are_left_out(monkeypatch, tmp_path):
    tokenizer = Spec().write(tmp_path) / "tokenizer.json"
    monkeypatch.setattr(self_test, "TEXTS", ["", "two"])
    assert [text for text, _ in self_test.encode(tokenizer.read_bytes(), 32)] == ["two"]
    monkeypatch.setattr(self_test, "TEXTS", [""])
    with pytest.raises(ExportError, match="no tokens"):
        self_test.encode(tokenizer.read_bytes(), 32)


def test_settings_of_the_tokenizer_do_not_cut_or_pad(tmp_path):
    path = Spec().write(tmp_path) / "tokenizer.json"
    expected = self_test.encode(path.read_bytes(), 32)
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=40)
    assert self_test.encode(tokenizer.to_str().encode(), 32) == expected


def test_a_graph_that_overflows_is_refused(export_spec, tmp_path):
    tensors = random_tensors(small_config())
    tensors["query_category_head.weight"][:] = 3e38
    with pytest.raises(ExportError, match="self-test: the exported graph gives query_category values"):
        export_spec(Spec(tensors=tensors), parity=False)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
