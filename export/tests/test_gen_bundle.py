"""What is in a Gen bundle: its grammar, its two heads, and the table that a tied head shares with the embedding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from checkpoints import Spec, gen_config, gen_spec, random_tensors

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

from qwenguard_export import exported
from qwenguard_export.errors import ExportError
from qwenguard_export.export import Options, export
from qwenguard_export.graph import trunk
from qwenguard_export.source import RandomModel


def manifest(bundle: Path) -> dict:
    return tomllib.loads((bundle / "guard.toml").read_text())


def graph_of(bundle: Path) -> onnx.ModelProto:
    return onnx.load(bundle / "paged.onnx", load_external_data=False)


def initializers(model: onnx.ModelProto) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}


def operators(model: onnx.ModelProto, prefix: str) -> list[str]:
    return [node.op_type for node in model.graph.node if node.name.startswith(prefix)]


def with_copy(head: np.ndarray | None = None) -> Spec:
    spec = gen_spec()
    tensors = random_tensors(spec.config)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] if head is None else head
    spec.tensors = tensors
    return spec


def test_contents(export_spec, tmp_path):
    export_spec(gen_spec(eos_token_id=257), precision="int8")
    guard = manifest(tmp_path / "bundle")
    assert (guard["format"], guard["variant"], guard["precision"]) == (2, "gen", "int8")
    assert guard["model"]["architecture"] == "Qwen3ForCausalLM"
    assert guard["model"]["tie_word_embeddings"] is True
    assert "guard_inner_size" not in guard["model"] and "labels" not in guard
    candidates, vocabulary = guard["heads"]
    assert {key: candidates[key] for key in ("name", "kind", "rows")} == {
        "name": "candidates", "kind": "candidates", "rows": "candidate_rows",
    }  # fmt: skip
    assert vocabulary == {"name": "next_token", "kind": "vocabulary", "rows": "next_token_rows"}
    assert len(set(candidates["tokens"])) == len(candidates["tokens"])
    answer = guard["answer"]
    pieces = [answer["categories"]["separator"], answer["refusal"]["begin"]]
    assert {257, *(piece["ids"][0] for piece in pieces)} < set(candidates["tokens"])
    parity = guard["parity"]
    assert parity["label_agreement"] > 0.8 and parity["candidate_agreement"] > 0.9 and parity["max_prob_diff"] < 0.2
    assert parity["texts"] == 7 and 0 <= parity["outside_grammar"] <= 1
    for test in guard["self_test"]:
        assert set(test["logits"]) == {"candidates"}
        assert len(test["logits"]["candidates"]) == len(candidates["tokens"])


def test_the_answer(export_spec, tmp_path):
    """The tokenizer of these checkpoints has a token for every byte."""
    export_spec(gen_spec(eos_token_id=[257, 3]), parity=False)
    answer = manifest(tmp_path / "bundle")["answer"]
    assert answer["end_tokens"] == [257, 3]
    assert answer["prompt"]["lines"] == ["safety", "categories"]
    assert answer["response"]["lines"] == ["safety", "categories", "refusal"]
    assert answer["prompt"]["categories"] == [*answer["response"]["categories"], "Jailbreak"]
    assert len(answer["prompt"]["categories"]) == 9
    names = answer["categories"]["names"]
    assert [name["name"] for name in names] == answer["prompt"]["categories"]
    assert [label["name"] for label in answer["safety"]["labels"]] == ["Safe", "Unsafe", "Controversial"]
    texts = {
        piece["text"]: len(piece["ids"]) for piece in [*names, *answer["safety"]["labels"], *answer["refusal"].values()]
    }
    texts |= {answer[line]["begin"]["text"]: len(answer[line]["begin"]["ids"]) for line in ("safety", "categories")}
    texts |= {answer["categories"][key]["text"]: len(answer["categories"][key]["ids"]) for key in ("none", "separator")}
    assert texts["Safety:"] == 7 and texts["\nCategories:"] == 12 and texts[" PII"] == 4 and texts["\nRefusal:"] == 9
    assert all(len(text.encode()) == count for text, count in texts.items())


def test_end_tokens_of_the_generation_config_go_first(export_spec, tmp_path):
    spec = gen_spec(eos_token_id=257)
    spec.write(tmp_path / "checkpoint")
    (tmp_path / "checkpoint/generation_config.json").write_text('{"eos_token_id": [5, 257], "do_sample": true}')
    export(Options(tmp_path / "checkpoint", tmp_path / "bundle", "fp32", parity=False))
    guard = manifest(tmp_path / "bundle")
    assert guard["answer"]["end_tokens"] == [257, 5]
    assert "generation_config.json" in guard["source"]["sha256"]


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("tied", [True, False])
def test_heads(export_spec, tmp_path, precision, tied):
    """A tied head is the embedding's table, and no other."""
    export_spec(gen_spec(tie_word_embeddings=tied), precision=precision, parity=False)
    model = graph_of(tmp_path / "bundle")
    caches = [f"{kind}_cache.{layer}" for layer in range(3) for kind in ("key", "value")]
    inputs = [value.name for value in model.graph.input]
    assert inputs == [
        "input_ids", "cu_seqlens", "past_lens", "block_table", "candidate_rows", "next_token_rows", *caches,
    ]  # fmt: skip
    assert [value.name for value in model.graph.output][:3] == ["candidates", "next_token", "row_check"]
    table = "embed" if tied else "heads.next_token"
    (matmul,) = [node for node in model.graph.node if "next_token" in node.output]
    weights = initializers(model)
    if precision == "fp32":
        assert (matmul.op_type, list(matmul.input)[1:]) == ("Gemm", [table])
        assert weights[table] == [300, 48]
    else:
        assert (matmul.op_type, list(matmul.input)[1:]) == ("MatMulInt8", [f"{table}.packed", f"{table}.scales"])
        assert weights[f"{table}.packed"] == [10, 16, 32, 4] and weights[f"{table}.scales"] == [10, 2, 32]
    assert operators(model, "/embed") == (["GatherInt8"] if tied and precision != "fp32" else embedding(precision))
    assert ("heads.next_token" in str(weights)) is not tied
    (candidates,) = [node for node in model.graph.node if "candidates" in node.output]
    assert candidates.op_type == "MatMul" and weights[candidates.input[1]][0] == 48


@pytest.mark.parametrize("tied", [True, False])
def test_tables_of_8_bits_have_no_zero_points(export_spec, tmp_path, tied):
    spec = gen_spec(tie_word_embeddings=tied)
    report = export_spec(spec, precision="int4", zero_points=True)
    assert report.parity.candidate_agreement > 0.5
    model = graph_of(tmp_path / "bundle")
    by_operator = {node.op_type: len(node.input) for node in model.graph.node if node.domain == "ai.qwenguard"}
    assert by_operator["MatMulInt8"] == 3 and by_operator["MatMulInt4"] == 4
    assert not any(name.startswith(("embed.z", "heads.next_token.z")) for name in initializers(model))


def embedding(precision: str) -> list[str]:
    return ["Gather"] if precision == "fp32" else ["Gather", "Cast"]


def evaluate(bundle: Path, ids: list[np.ndarray], rows: list[list[int]]) -> dict[str, np.ndarray]:
    wanted = [np.array(one, dtype=np.int64) for one in rows]
    return exported.evaluate(graph_of(bundle), bundle, ids, lambda: None, wanted)


IDS = [np.arange(20) * 7 % 300, np.arange(11) * 13 % 300]


@pytest.mark.parametrize("tied", [True, False])
def test_candidates_are_columns_of_the_whole_head(export_spec, tmp_path, tied):
    export_spec(gen_spec(tie_word_embeddings=tied), parity=False)
    tokens = manifest(tmp_path / "bundle")["heads"][0]["tokens"]
    found = evaluate(tmp_path / "bundle", IDS, [range(20), range(11)])
    assert found["next_token"].shape == (31, 300) and found["candidates"].shape == (31, len(tokens))
    np.testing.assert_allclose(found["candidates"], found["next_token"][:, tokens], atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_vocabulary_in_pieces_and_on_some_rows(export_spec, tmp_path, monkeypatch, precision, tied):
    """Also weights that lie in the graph itself, and a last panel that is not full."""
    export_spec(gen_spec(tie_word_embeddings=tied), precision=precision, parity=False)
    whole = evaluate(tmp_path / "bundle", IDS, [range(20), range(11)])["next_token"]
    monkeypatch.setattr(exported, "_PIECE_VALUES", 64 * 64)
    pieces = evaluate(tmp_path / "bundle", IDS, [[3, 19], []])["next_token"]
    np.testing.assert_allclose(pieces, whole[[3, 19]], atol=1e-4)
    assert evaluate(tmp_path / "bundle", IDS, [[], []])["next_token"].shape == (0, 300)


@pytest.mark.parametrize("group", [32, 64])
def test_a_shared_table_gives_the_rows_that_it_holds(export_spec, tmp_path, group):
    """GatherInt8 against the packed values, read by their layout."""
    export_spec(gen_spec(), precision="int8", group=group, parity=False)
    model = onnx.load(tmp_path / "bundle/paged.onnx")
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    packed, scales = values["embed.packed"], values["embed.scales"]
    levels = packed.transpose(0, 2, 1, 3).reshape(len(packed) * 32, -1).astype(np.float32) - 128
    rows = levels * np.repeat(scales.transpose(0, 2, 1).reshape(len(levels), -1), group, axis=1)
    part = exported._parts(model)[0]
    session = exported.open_session(exported._cut(model, part), tmp_path / "bundle")
    ids = np.array([0, 299, 31, 32, 33, 250, 0])
    (found,) = session.run([part.nodes[0].output[0]], {"input_ids": ids})
    np.testing.assert_array_equal(found, rows[ids, :48])
    original = random_tensors(gen_config())["model.embed_tokens.weight"]
    assert np.abs(found - original[ids]).max() < 0.01


def test_a_copy_of_a_tied_head_changes_nothing(export_spec, tmp_path):
    export_spec(gen_spec(), precision="int8", parity=False)
    weights = (tmp_path / "bundle/weights.bin").read_bytes()
    export_spec(with_copy(), precision="int8", force=True)
    assert (tmp_path / "bundle/weights.bin").read_bytes() == weights


def test_an_answer_of_its_own(export_spec, tmp_path):
    answer = tmp_path / "answer.toml"
    answer.write_text(
        '[safety]\nbegin = "L:"\n[safety.labels]\nUnsafe = " bad"\nSafe = " fine"\n'
        '[categories]\nprompt = ["A", "B"]\nresponse = ["B"]\n[refusal]\nmodes = []\n'
    )
    export_spec(gen_spec(), answer=answer)
    found = manifest(tmp_path / "bundle")["answer"]
    assert [(label["name"], label["text"]) for label in found["safety"]["labels"]] == [
        ("Unsafe", " bad"),
        ("Safe", " fine"),
    ]
    assert found["prompt"] == {"lines": ["safety", "categories"], "categories": ["A", "B"]}
    assert found["response"] == {"lines": ["safety", "categories"], "categories": ["B"]}
    assert "refusal" not in found and found["categories"]["begin"]["text"] == "\nCategories:"


def test_random_weights(tmp_path, monkeypatch):
    from qwenguard_export.config import parse_config

    gen_spec().write(tmp_path / "tokenizer")
    monkeypatch.setattr("qwenguard_export.source.random_config", lambda *_: parse_config(gen_config()))
    export(Options(RandomModel("tiny", 3, tmp_path / "tokenizer", "gen"), tmp_path / "bundle", "int8", parity=False))
    guard = manifest(tmp_path / "bundle")
    assert (guard["variant"], guard["source"]["name"]) == ("gen", "random-gen-tiny")


def test_shapes_of_the_published_models():
    from qwenguard_export.random_model import random_config

    small, large = random_config("0.6B", "gen"), random_config("8B", "gen")
    assert (small.variant, small.tied, small.context, small.hidden_size) == ("gen", True, 32768, 1024)
    assert (large.variant, large.tied, large.num_layers, large.hidden_size) == ("gen", False, 36, 4096)


@pytest.mark.parametrize(
    ("precision", "message"),
    [("fp32", "the least is 99%"), ("int8", "agree on .* candidates, the least is 90%"), ("int4", "the least is 50%")],
)
def test_a_wrong_graph_is_refused(export_spec, tmp_path, monkeypatch, precision, message):
    rows, swapped = trunk.rotary_rows, {np.cos: np.sin, np.sin: np.cos}
    monkeypatch.setattr(trunk, "rotary_rows", lambda config, function, *ends: rows(config, swapped[function], *ends))
    with pytest.raises(ExportError, match=message):
        export_spec(gen_spec(), precision=precision)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(("precision", "agreement"), [("fp32", 1.0), ("int8", 0.93), ("int4", 0.5)])
@pytest.mark.parametrize("tied", [True, False])
def test_parity(export_spec, precision, agreement, tied):
    report = export_spec(gen_spec(tie_word_embeddings=tied), precision=precision).parity
    assert report.texts == 7 and report.tokens > 2000
    assert report.candidate_agreement >= agreement
    if precision == "fp32":
        assert report.max_prob_diff < 1e-4
        assert report.label_agreement == report.answer_agreement == report.next_token_agreement == 1


def test_a_trained_model_stays_in_its_grammar(tmp_path):
    checkpoint = Path(__file__).parents[2] / "tests/golden/gen/checkpoints/trained-bf16"
    report = export(Options(checkpoint, tmp_path / "bundle", "int8")).parity
    assert report.outside_grammar < 0.1
    assert report.label_agreement == report.answer_agreement == 1


def test_an_unlikely_difference_is_refused(export_spec):
    report = replace(export_spec(gen_spec()).parity, max_prob_diff=0.002)
    with pytest.raises(ExportError, match="fp32 graph differs from the checkpoint by 2.00e-03"):
        report.check("fp32")
    report.check("int8")
    with pytest.raises(ExportError, match="nan% of the likeliest candidates"):
        replace(report, candidate_agreement=float("nan")).check("int4")
