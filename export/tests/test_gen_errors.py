"""Whatever is wrong with a Gen checkpoint: one line that names the file and the field, and nothing left behind."""

from __future__ import annotations

import json

import numpy as np
import pytest
from checkpoints import GEN_TEMPLATE, TEMPLATE, Spec, gen_config, gen_spec, random_tensors, save, small_config
from test_gen_bundle import with_copy

from qwenguard_export.cli import main

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


@pytest.fixture
def fails(tmp_path, capsys):
    """Exports a checkpoint and expects a message with all the given words."""

    def check(spec: Spec, *words: str, damage=None, arguments: tuple[str, ...] = ("--no-parity",)) -> None:
        checkpoint = spec.write(tmp_path / "checkpoint")
        if damage:
            damage(checkpoint)
        before = sorted(tmp_path.iterdir())
        assert main([str(checkpoint), str(tmp_path / "bundle"), *arguments]) == 1
        message = capsys.readouterr().err
        assert message.startswith("qwenguard-export: ") and message.count("\n") == 1
        assert "should not happen" not in message and len(message) < 2500
        for word in words:
            assert word in message
        assert sorted(tmp_path.iterdir()) == before

    return check


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, ["architectures", "LlamaForCausalLM", "Qwen3ForCausalLM"]),
        ({"architectures": ["Qwen3ForCausalLM", "Qwen3ForGuardModel"]}, ["architectures"]),
        ({"architectures": None}, ["architectures", "missing"]),
        ({"tie_word_embeddings": "yes"}, ["tie_word_embeddings"]),
        ({"tie_word_embeddings": 1}, ["tie_word_embeddings"]),
        ({"vocab_size": 0}, ["vocab_size"]),
        ({"eos_token_id": "end"}, ["eos_token_id", "end"]),
        ({"eos_token_id": [257, None]}, ["eos_token_id"]),
        ({"eos_token_id": -1}, ["eos_token_id"]),
        ({"eos_token_id": True}, ["eos_token_id"]),
        ({"eos_token_id": 300}, ["eos_token_id", "300"]),
        ({"eos_token_id": list(range(17))}, ["eos_token_id", "17 tokens"]),
        ({"max_position_embeddings": 300}, ["max_position_embeddings", "300"]),
    ],
)
def test_config(fails, changes, words):
    fails(gen_spec(**changes), "config.json", *words)


@pytest.mark.parametrize("content", ["[]", "{", '{"eos_token_id": {}}', '{"eos_token_id": 4000}'])
def test_generation_config(fails, content):
    fails(
        gen_spec(),
        "generation_config.json",
        damage=lambda folder: (folder / "generation_config.json").write_text(content),
    )


def tensors(change, **config) -> Spec:
    spec = gen_spec(**config)
    spec.tensors = random_tensors(spec.config)
    change(spec.tensors)
    return spec


def test_an_untied_head_that_is_missing(fails):
    fails(tensors(lambda t: t.pop(HEAD), tie_word_embeddings=False), f"missing tensor {HEAD}")
    fails(tensors(lambda t: t.pop(HEAD), tie_word_embeddings=None), f"missing tensor {HEAD}")


def test_a_head_of_another_shape(fails):
    fails(
        tensors(lambda t: t.update({HEAD: t[HEAD][:, :40]}), tie_word_embeddings=False), HEAD, "[300, 40]", "[300, 48]"
    )


@pytest.mark.parametrize("place", [(0, 0), (299, 47)])
def test_a_tied_head_with_another_copy(fails, place):
    head = random_tensors(gen_config())[EMBEDDING].copy()
    head[place] += 1
    fails(with_copy(head), HEAD, f"differs from {EMBEDDING}", "tie_word_embeddings")


def test_a_tied_head_with_a_copy_of_another_kind(fails):
    fails(with_copy(random_tensors(gen_config())[EMBEDDING].astype(np.float16)), HEAD, "differs")
    fails(with_copy(np.zeros((2, 2), np.float32)), HEAD, "differs")


@pytest.mark.parametrize(
    "name", ["risk_level_head.weight", "lm_head.bias", "model.layers.3.mlp.up_proj.weight", "score.weight"]
)
def test_unexpected_tensors(fails, name):
    fails(tensors(lambda t: t.update({name: np.zeros((3, 48), np.float32)})), f"unexpected tensor {name}")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_head_that_is_not_finite(fails, precision, tied):
    name = EMBEDDING if tied else HEAD

    def damage(tensors):
        tensors[name][271, 5] = np.nan

    arguments = ("--no-parity", "--precision", precision)
    fails(tensors(damage, tie_word_embeddings=tied), name, "not finite", arguments=arguments)


def test_a_stream_checkpoint_that_says_it_is_gen(fails):
    spec = Spec(config=small_config(architectures=["Qwen3ForCausalLM"], max_position_embeddings=1024))
    spec.template = GEN_TEMPLATE
    fails(spec, "unexpected tensor category_head.weight")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, ["tokenizer_config.json", "chat_template", "missing"]),
        (" \n", ["chat_template.jinja", "empty"]),
        (TEMPLATE, ["does not open the assistant's turn", "not one of a Gen model"]),
        (GEN_TEMPLATE.replace("Unsafe", "Bad"), ["'Unsafe'", "--answer"]),
        (GEN_TEMPLATE.replace("PII", "data"), ["'PII'", "response mode", "--answer"]),
        (GEN_TEMPLATE.replace(", Jailbreak", ""), ["'Jailbreak'", "prompt mode", "--answer"]),
        (GEN_TEMPLATE.replace("message.content", "message.role"), ["leaves out a message of the user"]),
        ("{%- if messages[-1].role == 'assistant' %}{{ raise_exception('none') }}{% endif %}" + GEN_TEMPLATE, ["none"]),
        (GEN_TEMPLATE + "{{ messages|map('length') }}", ["differently"]),
    ],
)
def test_template(fails, template, words):
    spec = gen_spec()
    spec.template = template
    fails(spec, *words)


def merge(*pairs: tuple[str, str]):
    """Gives the tokenizer merges, whose new tokens take the ids after all others."""

    def damage(folder):
        path = folder / "tokenizer.json"
        document = json.loads(path.read_text())
        model = document["model"]
        for left, right in pairs:
            model["vocab"][left + right] = 260 + len(model["merges"])
            model["merges"].append([left, right])
        path.write_text(json.dumps(document))

    return damage


@pytest.mark.parametrize(
    ("answer", "pairs", "words"),
    [
        ('[categories]\nseparator = " +"\nbefore = "+ "\n', (("+", "+"),), ["has other tokens than its pieces"]),
        (
            '[safety]\nbegin = "S:"\n[safety.labels]\nSafe = "!"\nUnsafe = "?"\n',
            ((":", "!"),),
            ["'S:!", "other tokens"],
        ),
        ("", (("Ċ", "Ċ"), ("+", "+")), []),
    ],
)
def test_an_answer_whose_pieces_merge(tmp_path, fails, answer, pairs, words):
    (tmp_path / "answer.toml").write_text(answer)
    arguments = ("--no-parity", "--answer", str(tmp_path / "answer.toml"))
    if words:
        fails(gen_spec(), "tokenizer.json", *words, damage=merge(*pairs), arguments=arguments)
    else:
        checkpoint = gen_spec().write(tmp_path / "checkpoint")
        assert main([str(checkpoint), str(tmp_path / "bundle"), *arguments]) == 0


def test_a_piece_of_too_many_tokens(tmp_path, fails):
    (tmp_path / "answer.toml").write_text(f'[categories]\nresponse = ["{"x" * 80}"]\n')
    fails(gen_spec(), "tokenizer.json", "81 tokens", arguments=("--answer", str(tmp_path / "answer.toml")))


def test_a_file_of_answers(tmp_path, fails):
    fails(gen_spec(), "missing.toml", arguments=("--answer", str(tmp_path / "missing.toml")))
    (tmp_path / "answer.toml").write_text("")
    fails(Spec(), "answer.toml", "Stream checkpoint", arguments=("--answer", str(tmp_path / "answer.toml")))


def test_a_head_of_a_stream_checkpoint_is_still_ignored(tmp_path):
    checkpoint = Spec(config=small_config(tie_word_embeddings=False)).write(tmp_path / "checkpoint")
    path = checkpoint / "model.safetensors"
    head = random_tensors(small_config()) | {HEAD: np.zeros((1, 1), np.int8)}
    save(path, head)
    assert main([str(checkpoint), str(tmp_path / "bundle"), "--no-parity"]) == 0


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_weights_whose_logits_overflow(fails, precision):
    """Every weight is finite, and no answer rests on a number."""

    def damage(tensors):
        tensors["model.norm.weight"][:] = 3e38

    arguments = ("--precision", precision)
    fails(tensors(damage), "parity: the checkpoint gives logits that are not finite", arguments=arguments)
