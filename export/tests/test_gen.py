"""Exported Gen bundles against what transformers says of the same conversations: tests/golden/README.md."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer

from qwenguard_export import exported
from qwenguard_export.decoding import Annotation, annotate, mode_of
from qwenguard_export.export import Options, export
from qwenguard_export.source import Source, open_source
from qwenguard_export.text_check import GEN_SETTINGS, render

GOLDEN = Path(__file__).parents[2] / "tests/golden/gen"
NAMES = ["tied-bf16", "untied-fp16", "copied-bf16", "trained-bf16"]
TALKS = {
    one["id"]: one["messages"] for one in map(json.loads, (GOLDEN / "conversations.jsonl").read_text().splitlines())
}
Known = dict[tuple[int, ...], np.ndarray]


def expected(name: str) -> list[dict]:
    return json.loads((GOLDEN / f"expected/{name}.json").read_text())["conversations"]


@cache
def source(name: str) -> Source:
    answer = GOLDEN / "checkpoints" / name / "answer.toml"
    return open_source(GOLDEN / "checkpoints" / name, answer if answer.exists() else None)


class Bundle:
    """An exported checkpoint, and its graph on stock operators."""

    def __init__(self, name: str, precision: str, folder: Path) -> None:
        answer = GOLDEN / "checkpoints" / name / "answer.toml"
        answer = answer if answer.exists() else None
        export(Options(GOLDEN / "checkpoints" / name, folder, precision, parity=False, answer=answer))
        self.folder = folder
        self.text = source(name).text
        self.model = onnx.load(folder / "paged.onnx", load_external_data=False)
        self.end = self.text.tokens["turn_end"]
        self.candidates = self.text.grammar.candidates(self.text.pieces, self.end)

    def logits(self, sequences: list[list[int]], rows: list[np.ndarray] | None = None) -> dict[str, np.ndarray]:
        return exported.evaluate(self.model, self.folder, [np.array(ids) for ids in sequences], lambda: None, rows)

    def start(self, entry: dict) -> tuple:
        annotation = Annotation(entry["prompt_ids"])
        return annotation, annotate(annotation, self.text.grammar, self.text.pieces, entry["mode"], self.end)

    def decode(self, entries: list[dict]) -> list[Annotation]:
        """All answers at once. What is asked along the expected answers is known from one run."""
        known: Known = {}
        self.learn(known, [[*entry["prompt_ids"], *entry["constrained"]["answer_ids"]] for entry in entries])
        running = [self.start(entry) for entry in entries]
        asked = {index: next(asking) for index, (_, asking) in enumerate(running)}
        while asked:
            unknown = [list(ids) for ids in asked.values() if ids not in known]
            if unknown:
                self.learn(known, unknown)
            for index, ids in list(asked.items()):
                try:
                    values = map(float, known[ids])
                    asked[index] = running[index][1].send(dict(zip(self.candidates, values, strict=True)))
                except StopIteration:
                    del asked[index]
        return [annotation for annotation, _ in running]

    def learn(self, known: Known, sequences: list[list[int]]) -> None:
        found = self.logits(sequences)["candidates"]
        for ids, rows in zip(sequences, np.split(found, np.cumsum([len(ids) for ids in sequences])[:-1]), strict=True):
            for end in range(100, len(ids) + 1):
                known[tuple(ids[:end])] = rows[end - 1]


@pytest.mark.parametrize("name", NAMES)
def test_prompts_have_the_references_tokens(name):
    """The exporter renders as the library does; special tokens that a message spells are the library's own affair."""
    text = source(name).text
    tokenizer = Tokenizer.from_buffer(text.tokenizer)
    entries = [entry for entry in expected(name) if entry["id"] not in ("ask-markers", "reply-code")]
    for entry in entries:
        messages = TALKS[entry["id"]]
        assert mode_of(messages) == entry["mode"]
        rendered = render(text.template, Path("template"), messages, GEN_SETTINGS)
        assert tokenizer.encode(rendered, add_special_tokens=False).ids == entry["prompt_ids"], entry["id"]


@pytest.mark.parametrize("name", NAMES)
def test_fp32_gives_the_references_answers(name, tmp_path):
    bundle, entries = Bundle(name, "fp32", tmp_path / "bundle"), expected(name)
    labels = list(bundle.text.grammar.safety.labels)
    for entry, found in zip(entries, bundle.decode(entries), strict=True):
        wanted = entry["constrained"]
        assert (found.label, found.categories, found.refusal) == (
            wanted["risk"], wanted["categories"], wanted["refusal"],
        )  # fmt: skip
        assert found.answer == [*wanted["answer_ids"], bundle.end]
        assert entry["label_only"]["risk_probs"] == wanted["risk_probs"]
        near(found.probabilities[0], wanted["risk_probs"], labels)
        if wanted["category_probs"] is None:
            assert found.label == "Safe" and not found.categories
        else:
            names = bundle.text.grammar.categories.names(entry["mode"])
            near(found.probabilities[1], wanted["category_probs"], ["None", *names])
        if wanted["refusal"] is None:
            assert entry["mode"] == "prompt" and wanted["refusal_prob"] is None
        else:
            assert found.probabilities[-1][0] == pytest.approx(wanted["refusal_prob"], abs=1e-4)


def near(found: np.ndarray, wanted: dict[str, float], names: list[str]) -> None:
    assert list(wanted) == names
    np.testing.assert_allclose(found, list(wanted.values()), atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_fp32_writes_the_references_free_answers(name, tmp_path):
    """Greedily: every token of such an answer is the likeliest after those before it."""
    bundle = Bundle(name, "fp32", tmp_path / "bundle")
    ends = {bundle.end, *source(name).config.end_tokens}
    entries = [entry for entry in expected(name) if "free" in entry]
    assert len(entries) > 1
    sequences = [[*entry["prompt_ids"], *entry["free"]["answer_ids"]] for entry in entries]
    rows = [
        np.arange(len(entry["prompt_ids"]) - 1, len(ids)) for entry, ids in zip(entries, sequences, strict=True)
    ]
    found = bundle.logits(sequences, rows)["next_token"].argmax(axis=-1)
    for entry, likeliest in zip(entries, np.split(found, np.cumsum([len(one) for one in rows])[:-1]), strict=True):
        wanted = entry["free"]
        assert likeliest[:-1].tolist() == wanted["answer_ids"], entry["id"]
        assert (likeliest[-1] in ends) == wanted["ended"] or len(wanted["answer_ids"]) == 128


@pytest.mark.parametrize(
    ("name", "share"), [("tied-bf16", 0.85), ("untied-fp16", 0.85), ("copied-bf16", 0.85), ("trained-bf16", 0.97)]
)
def test_int8_agrees_on_labels(name, share, tmp_path):
    bundle, entries = Bundle(name, "int8", tmp_path / "bundle"), expected(name)
    equal = [
        found.label == entry["constrained"]["risk"]
        for entry, found in zip(entries, bundle.decode(entries), strict=True)
    ]
    assert np.mean(equal) >= share
