#!/usr/bin/env python3
"""Make the golden vectors: small random guards, and what the reference says about conversations.jsonl.

    make.py                     remake checkpoints/ and expected/, and check that they are worth testing against
    make.py --random SEED OUT   write a checkpoint of a random small shape to OUT, a new folder
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch
import transformers
from reference import Expected, Reference, read_json_lines
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).parent
VOCABULARY = 640  # rows of the embedding; like the real models, a few more than the tokenizer has tokens

RISKS = ("Safe", "Unsafe", "Controversial")
CATEGORIES = (
    '"Violent"',  # with inner quotation marks, as the official evaluation script has it
    "Sexual Content or Sexual Acts",
    "Suicide & Self-Harm",
    "Politically Sensitive Topics",
    "PII",
    "Copyright Violation",
    "Non-violent Illegal Acts",
    "Unethical Acts",
)


@dataclass(frozen=True)
class Spec:
    """The shape of one checkpoint. The defaults are what the real models have in common."""

    name: str
    seed: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    guard_inner: int
    dtype: torch.dtype
    lm_head: bool = False  # untied embeddings: a tensor that a guard must ignore
    shards: int = 1
    context: int = 2048
    rope_theta: float = 1e6
    rope_parameters: bool = False  # the key of transformers 5 in place of `rope_theta`
    shuffled_keys: bool = False  # label maps whose JSON keys are out of order
    template_file: bool = False  # chat_template.jinja in place of the key in tokenizer_config.json
    risks: tuple[str, ...] = RISKS
    query_risks: tuple[str, ...] = RISKS
    categories: tuple[str, ...] = CATEGORIES
    query_categories: tuple[str, ...] = (*CATEGORIES, "Jailbreak")


SPECS = (
    Spec(
        "grouped-bf16", 1, hidden=96, layers=2, heads=4, kv_heads=2, head_dim=32, intermediate=128, guard_inner=48,
        dtype=torch.bfloat16,
    ),
    Spec(
        "multiquery-fp32", 22, hidden=64, layers=2, heads=8, kv_heads=1, head_dim=16, intermediate=80, guard_inner=32,
        dtype=torch.float32, shuffled_keys=True, template_file=True,
        risks=("Controversial", "Safe", "Unsafe"), query_risks=("Unsafe", "Controversial", "Safe"),
        categories=CATEGORIES[::-1], query_categories=("Jailbreak", *CATEGORIES[4:], *CATEGORIES[:4]),
    ),
    Spec(
        "sharded-fp16", 3, hidden=64, layers=2, heads=2, kv_heads=2, head_dim=64, intermediate=96, guard_inner=64,
        dtype=torch.float16, lm_head=True, shards=3, template_file=True,
    ),
    Spec(
        "odd-bf16", 4, hidden=72, layers=4, heads=4, kv_heads=2, head_dim=16, intermediate=100, guard_inner=20,
        dtype=torch.bfloat16, context=512, rope_theta=5e3, rope_parameters=True, shuffled_keys=True,
        categories=CATEGORIES[:5], query_categories=(*CATEGORIES[2:], "Jailbreak", "Spam"),
    ),
    Spec(
        "deep-untied-bf16", 5, hidden=64, layers=3, heads=4, kv_heads=4, head_dim=16, intermediate=64, guard_inner=40,
        dtype=torch.bfloat16, lm_head=True, shards=2, rope_theta=5e5, risks=("Controversial", "Safe", "Unsafe"),
    ),
)


# Tokenizer ------------------------------------------------------------------------------------------------------------

# Qwen's pre-tokenisation.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
OTHER_ADDED_TOKENS = ("<tool_call>", "</tool_call>", "<think>", "</think>")


def train_tokenizer(more: Sequence[str] = ()) -> Tokenizer:
    """A byte-level BPE of Qwen's kind, small enough to commit, trained on the samples and on `more`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    byte_level = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(**byte_level)]
    )
    tokenizer.post_processor = processors.ByteLevel(**byte_level)
    tokenizer.decoder = decoders.ByteLevel(**byte_level)
    lines = (HERE / "samples.txt").read_text("utf-8").splitlines()
    text = ["\n".join(lines), "\n\n".join(lines), *["user", "assistant", "system"] * 20, *more]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 16,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in OTHER_ADDED_TOKENS])
    for word in ("user", "assistant", "system", "\n", "\n\n"):
        assert len(tokenizer.encode(word).ids) == 1, f"{word!r} is not one token"
    return tokenizer


def tokenizer_config(tokenizer: Tokenizer) -> dict:
    added = tokenizer.get_added_tokens_decoder()
    fields = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(id): {field: getattr(token, field) for field in fields} for id, token in sorted(added.items())
        },
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


# Weights --------------------------------------------------------------------------------------------------------------


def random_weights(spec: Spec) -> dict[str, torch.Tensor]:
    """Weights whose activations keep their size and whose attention picks few tokens, so that mistakes show."""
    generator = torch.Generator().manual_seed(spec.seed)

    def linear(rows: int, columns: int, gain: float) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) * gain / math.sqrt(columns)

    def norm(size: int, mean: float = 1.0) -> torch.Tensor:
        return mean * (1 + 0.2 * torch.randn(size, generator=generator))

    queries, keys = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    weights = {"model.embed_tokens.weight": 0.5 * torch.randn(VOCABULARY, spec.hidden, generator=generator)}
    for layer in range(spec.layers):
        prefix = f"model.layers.{layer}."
        weights |= {
            f"{prefix}input_layernorm.weight": norm(spec.hidden),
            f"{prefix}self_attn.q_proj.weight": linear(queries, spec.hidden, 1.0),
            f"{prefix}self_attn.k_proj.weight": linear(keys, spec.hidden, 1.0),
            f"{prefix}self_attn.v_proj.weight": linear(keys, spec.hidden, 1.2),
            f"{prefix}self_attn.o_proj.weight": linear(spec.hidden, queries, 1.2),
            f"{prefix}self_attn.q_norm.weight": norm(spec.head_dim, 1.2),
            f"{prefix}self_attn.k_norm.weight": norm(spec.head_dim, 1.2),
            f"{prefix}post_attention_layernorm.weight": norm(spec.hidden),
            f"{prefix}mlp.gate_proj.weight": linear(spec.intermediate, spec.hidden, 1.5),
            f"{prefix}mlp.up_proj.weight": linear(spec.intermediate, spec.hidden, 1.0),
            f"{prefix}mlp.down_proj.weight": linear(spec.hidden, spec.intermediate, 1.0),
        }
    weights["model.norm.weight"] = norm(spec.hidden)
    for role, risks, categories in (
        ("", spec.risks, spec.categories),
        ("query_", spec.query_risks, spec.query_categories),
    ):
        weights |= {
            f"{role}risk_level_category_pre.weight": linear(spec.guard_inner, spec.hidden, 1.0),
            f"{role}risk_level_category_layernorm.weight": norm(spec.guard_inner),
            f"{role}risk_level_head.weight": linear(len(risks), spec.guard_inner, 1.5),
            f"{role}category_head.weight": linear(len(categories), spec.guard_inner, 1.5),
        }
    if spec.lm_head:
        weights["lm_head.weight"] = linear(VOCABULARY, spec.hidden, 1.0)
    return {name: weight.to(spec.dtype) for name, weight in weights.items()}


def write_weights(folder: Path, spec: Spec, weights: dict[str, torch.Tensor]) -> None:
    if spec.shards == 1:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return
    names = list(weights)
    shards, index = -(-len(names) // spec.shards), {}
    for number in range(spec.shards):
        file = f"model-{number + 1:05}-of-{spec.shards:05}.safetensors"
        part = names[number * shards : (number + 1) * shards]
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(part, file)
    size = sum(weight.nbytes for weight in weights.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": index})


# Checkpoint -----------------------------------------------------------------------------------------------------------


def label_map(names: tuple[str, ...], spec: Spec) -> dict[str, str]:
    entries = [(str(index), name) for index, name in enumerate(names)]
    if spec.shuffled_keys:
        random.Random(spec.seed).shuffle(entries)
    return dict(entries)


def model_config(spec: Spec, tokenizer: Tokenizer) -> dict:
    rope = {"rope_scaling": None, "rope_theta": spec.rope_theta}
    if spec.rope_parameters:
        rope = {"rope_parameters": {"rope_type": "default", "rope_theta": spec.rope_theta}}
    return {
        "architectures": ["Qwen3ForGuardModel"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "eos_token_id": tokenizer.token_to_id("<|im_end|>"),
        "guard_inner_size": spec.guard_inner,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "hidden_size": spec.hidden,
        "initializer_range": 0.02,
        "intermediate_size": spec.intermediate,
        "max_position_embeddings": spec.context,
        "max_window_layers": spec.layers,
        "model_type": "qwen3",
        "num_attention_heads": spec.heads,
        "num_category": len(spec.categories),
        "num_hidden_layers": spec.layers,
        "num_key_value_heads": spec.kv_heads,
        "num_query_category": len(spec.query_categories),
        "num_query_risk_level": len(spec.query_risks),
        "num_risk_level": len(spec.risks),
        "query_category_map": label_map(spec.query_categories, spec),
        "query_risk_level_map": label_map(spec.query_risks, spec),
        "response_category_map": label_map(spec.categories, spec),
        "response_risk_level_map": label_map(spec.risks, spec),
        "rms_norm_eps": 1e-6,
        **rope,
        "sliding_window": None,
        "tie_word_embeddings": not spec.lm_head,
        "torch_dtype": str(spec.dtype).removeprefix("torch."),
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": VOCABULARY,
    }


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_checkpoint(folder: Path, spec: Spec, tokenizer: Tokenizer) -> None:
    folder.mkdir(parents=True)
    config = tokenizer_config(tokenizer)
    template = (HERE / "chat_template.jinja").read_text("utf-8")
    if spec.template_file:
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    else:
        config["chat_template"] = template
    write_json(folder / "tokenizer_config.json", config)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write_json(folder / "config.json", model_config(spec, tokenizer))
    write_weights(folder, spec, random_weights(spec))


def random_spec(seed: int) -> Spec:
    pick = random.Random(seed)
    kv_heads = pick.choice((1, 2, 3, 4))
    return Spec(
        f"random-{seed}",
        seed,
        hidden=pick.randrange(64, 164, 4),
        layers=pick.randint(2, 4),
        heads=kv_heads * pick.randint(1, 4),
        kv_heads=kv_heads,
        head_dim=pick.choice((16, 32, 64)),
        intermediate=pick.randrange(64, 260, 4),
        guard_inner=pick.randrange(16, 80, 4),
        dtype=pick.choice((torch.bfloat16, torch.float16, torch.float32)),
        lm_head=pick.random() < 0.5,
        shards=pick.randint(1, 3),
        context=pick.choice((1024, 2048, 4096)),
        rope_theta=pick.choice((1e4, 1e5, 1e6)),
        rope_parameters=pick.random() < 0.5,
        shuffled_keys=pick.random() < 0.5,
        template_file=pick.random() < 0.5,
        risks=tuple(pick.sample(RISKS, 3)),
        query_risks=tuple(pick.sample(RISKS, 3)),
        categories=tuple(pick.sample(CATEGORIES, pick.randint(4, 8))),
        query_categories=tuple(pick.sample((*CATEGORIES, "Jailbreak"), pick.randint(5, 9))),
    )


# Expected verdicts ----------------------------------------------------------------------------------------------------


def rounded(row: torch.Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in row.tolist()]


def entry(id: str, expected: Expected) -> dict:
    ids = expected.ids
    count = len(ids.answer)
    # Every token of a short answer; of a long one every seventh and the last.
    kept = range(count) if count <= 100 else sorted({*range(0, count, 7), count - 1})
    return {
        "id": id,
        "prompt_ids": ids.prompt,
        "scaffold_ids": ids.scaffold,
        "answer_ids": ids.answer,
        "prompt": {"risk": rounded(expected.prompt.risk), "category": rounded(expected.prompt.category)},
        "answer": {
            "index": list(kept),
            "risk": [rounded(expected.answer.risk[i]) for i in kept],
            "category": [rounded(expected.answer.category[i]) for i in kept],
        },
    }


def write_expected(path: Path, name: str, reference: Reference, all_expected: dict[str, Expected]) -> None:
    maps = ("response_risk_level_map", "response_category_map", "query_risk_level_map", "query_category_map")
    head = {
        "checkpoint": name,
        "made_with": {m.__name__: m.__version__ for m in (torch, transformers, tokenizers)},
        "labels": dict(zip(maps, (*reference.labels("response"), *reference.labels("query")))),
    }
    # One line a conversation: small, and still readable in a diff.
    lines = [json.dumps(entry(id, e), separators=(",", ":")) for id, e in all_expected.items()]
    text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    path.write_text(text + ',\n "conversations": [\n' + ",\n".join(lines) + "\n ]\n}\n", "utf-8")


def write_thinking(path: Path, reference: Reference) -> None:
    lines = []
    for conversation in read_json_lines(HERE / "thinking.jsonl"):
        expected = reference.expect_thinking(conversation["messages"])
        fields = {
            "id": conversation["id"],
            "ids": expected.ids,
            "thinking_start": expected.thinking_start,
            "answer_start": expected.answer_start,
            "end": expected.end,
            "risk": [rounded(row) for row in expected.verdicts.risk],
            "category": [rounded(row) for row in expected.verdicts.category],
        }
        lines.append(json.dumps(fields, separators=(",", ":")))
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", "utf-8")


def check_liveliness(name: str, reference: Reference, all_expected: dict[str, Expected]) -> None:
    """Stop if these vectors could not tell a right engine from a wrong one."""
    risk = torch.cat([e.answer.risk for e in all_expected.values()])
    category = torch.cat([e.answer.category for e in all_expected.values()])
    query = torch.stack([e.prompt.risk for e in all_expected.values()])
    shares = [round(share, 2) for share in risk.argmax(-1).bincount(minlength=risk.shape[1]).div(len(risk)).tolist()]
    assert min(shares) > 0.05, f"{name}: a response risk label hardly occurs: {shares}"
    assert len(query.argmax(-1).unique()) == query.shape[1], f"{name}: a query risk label never occurs"
    assert len(category.argmax(-1).unique()) == category.shape[1], f"{name}: a category never occurs"

    long = max(all_expected.values(), key=lambda e: len(e.ids.answer)).ids
    ids = long.prompt + long.scaffold + long.answer
    logits = reference.logits(ids, "response")[0]
    deviation = logits.std().item()
    assert 0.8 < deviation < 2.5, f"{name}: logits have a standard deviation of {deviation:.2f}"

    whole = reference.probabilities(ids, "response").risk
    half = reference.probabilities(ids[: len(ids) // 2], "response").risk
    causal = (whole[: len(half)] - half).abs().max().item()
    assert causal < 1e-5, f"{name}: a prefix gives other values: {causal}"

    # Other tokens at the start must show at the end, 100 and more tokens later.
    changed = [*ids[:8], *reversed(ids[8:40]), *ids[40:]]
    distant = (reference.probabilities(changed, "response").risk - whole)[140:].abs().mean().item()
    assert distant > 0.01, f"{name}: distant tokens hardly matter: {distant:.4f}"

    # And so must positions: the rotation is part of what is tested.
    stretched = reference.logits(ids, "response", [2 * i for i in range(len(ids))])[0].softmax(-1)
    position = (stretched - whole).abs().mean().item()
    assert position > 0.01, f"{name}: positions hardly matter: {position:.4f}"
    print(
        f"{name}: {len(risk)} answer tokens, risk shares {shares}, logit deviation {deviation:.2f}, "
        f"causal {causal:.1e}, distant {distant:.3f}, position {position:.3f}"
    )


def make_golden() -> None:
    conversations = read_json_lines(HERE / "conversations.jsonl")
    tokenizer = train_tokenizer()
    for folder in (HERE / "checkpoints", HERE / "expected"):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for spec in SPECS:
        checkpoint = HERE / "checkpoints" / spec.name
        write_checkpoint(checkpoint, spec, tokenizer)
        reference = Reference(checkpoint)
        assert reference.model.config.rope_parameters["rope_theta"] == spec.rope_theta
        all_expected = {c["id"]: reference.expect(c["messages"]) for c in conversations}
        check_liveliness(spec.name, reference, all_expected)
        write_expected(HERE / "expected" / f"{spec.name}.json", spec.name, reference, all_expected)
        write_thinking(HERE / "expected" / f"{spec.name}-thinking.json", reference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", nargs=2, metavar=("SEED", "OUT"), help="write a checkpoint to a new folder")
    arguments = parser.parse_args()
    if arguments.random:
        seed, out = arguments.random
        write_checkpoint(Path(out), random_spec(int(seed)), train_tokenizer())
    else:
        make_golden()


if __name__ == "__main__":
    main()
