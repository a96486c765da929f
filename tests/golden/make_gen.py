#!/usr/bin/env python3
"""Make the golden vectors of Gen: small causal guards, and what the reference says about gen/conversations.jsonl.

make_gen.py [NAME...]           remake gen/checkpoints/ and gen/expected/, and check that they are worth testing against
make_gen.py --random SEED OUT   write a checkpoint of a random small shape to OUT, a new folder
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import make
import tokenizers
import torch
import transformers
from make import Spec, model_config, random_weights, rounded, tokenizer_config, write_json, write_weights
from reference import read_json_lines
from reference_gen import ANSWER, NEW_TOKENS, Constrained, Free, GenReference
from tokenizers import Tokenizer
from train_gen import TRIGGERS, WORDS, train

HERE = Path(__file__).parent
GEN = HERE / "gen"

# Decisions closer than this could turn by rounding alone: of the grammar's another seed is taken then, free answers are
# left out.
PROBABILITY_MARGIN, LOGIT_MARGIN = 5e-4, 2e-3
SEEDS = 20

# Conversations whose free answers are kept of a random checkpoint, which writes until it is stopped.
FREE = ("ask-bomb", "ask-edges", "reply-turns", "reply-refusal")


@dataclass(frozen=True)
class GenSpec:
    """The shape of one checkpoint, and what is special about it."""

    spec: Spec
    template: str = "chat_template.jinja"
    answer: str | None = None  # a file with the texts of its answer
    copy: bool = False  # a tied head, and an lm_head.weight that equals it
    knows_answers: bool = True  # whether the tokenizer was trained on the words of answers
    trained: bool = False
    end_tokens: tuple[str, ...] = (
        "<|im_end|>",
    )  # more than one: in generation_config.json, which also asks for sampling


def spec(name: str, seed: int, **changes: object) -> Spec:
    shape = dict(
        hidden=64, layers=2, heads=4, kv_heads=2, head_dim=16, intermediate=96, guard_inner=1, dtype=torch.bfloat16
    )
    return Spec(name, seed, **{**shape, "context": 4096, "template_file": True, **changes})


SPECS = (
    GenSpec(spec("tied-bf16", 11), end_tokens=("<|im_end|>", "<|endoftext|>")),
    GenSpec(spec("untied-fp16", 14, dtype=torch.float16, lm_head=True, shards=2, hidden=56, heads=2, kv_heads=1, head_dim=32,
                 template_file=False, rope_theta=5e3, rope_parameters=True), knows_answers=False),
    GenSpec(spec("copied-bf16", 13, hidden=48, heads=3, kv_heads=3, layers=3, lm_head=True, shards=2), copy=True,
            template="other_template.jinja", answer="other-answer.toml", knows_answers=False),
    GenSpec(spec("trained-bf16", 14), trained=True),
)  # fmt: skip


# Tokenizer ------------------------------------------------------------------------------------------------------------


def train_tokenizer(knows_answers: bool) -> Tokenizer:
    """That of the Stream guards, or one that also knows the words of the template, of answers and of `train_gen`."""
    if not knows_answers:
        return make.train_tokenizer()
    names = [*ANSWER["categories"]["prompt"], *ANSWER["safety"]["labels"], "None", "Yes", "No"]
    words = [word for group in TRIGGERS.values() for word in group]
    lines = [f"{begin} {name}" for begin in ("Safety:", "Categories:", "Refusal:") for name in names]
    template = "".join((GEN / "chat_template.jinja").read_text("utf-8").split("'")[1::2]).replace("\\n", "\n")
    talk = [
        " ".join(["", *words * 100]),
        " ".join(["", *WORDS * 40]),
        *["user", "assistant", "system"] * 100,
        "\n\n" * 500,
    ]
    return make.train_tokenizer([*lines * 40, *talk, *[template] * 20])


# Checkpoint -----------------------------------------------------------------------------------------------------------


def config_of(gen: GenSpec, tokenizer: Tokenizer) -> dict:
    config = model_config(gen.spec, tokenizer)
    kept = {key: value for key, value in config.items() if "risk" not in key and "category" not in key}
    kept.pop("guard_inner_size")
    return {**kept, "architectures": ["Qwen3ForCausalLM"], "tie_word_embeddings": gen.copy or not gen.spec.lm_head}


def weights_of(gen: GenSpec) -> dict[str, torch.Tensor]:
    weights = random_weights(gen.spec)
    weights = {name: weight for name, weight in weights.items() if name.startswith(("model.", "lm_head."))}
    embedding = weights["model.embed_tokens.weight"]
    if not gen.spec.lm_head or gen.copy:
        # A tied head answers with logits as large as the embedding is.
        weights["model.norm.weight"] *= 2.5 / (0.5 * gen.spec.hidden**0.5)
    else:
        weights["lm_head.weight"] *= 2
    if gen.copy:
        weights["lm_head.weight"] = embedding.clone()
    return weights


def write_checkpoint(folder: Path, gen: GenSpec) -> None:
    folder.mkdir(parents=True)
    tokenizer = train_tokenizer(gen.knows_answers)
    config = tokenizer_config(tokenizer)
    template = (GEN / gen.template).read_text("utf-8")
    if gen.spec.template_file:
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    else:
        config["chat_template"] = template
    if gen.answer:
        shutil.copy(GEN / gen.answer, folder / "answer.toml")
    write_json(folder / "tokenizer_config.json", config)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write_json(folder / "config.json", config_of(gen, tokenizer))
    if len(gen.end_tokens) > 1:
        ends = [tokenizer.token_to_id(token) for token in gen.end_tokens]
        sampling = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95}
        write_json(folder / "generation_config.json", {"eos_token_id": ends, **sampling})
    weights = weights_of(gen)
    write_weights(folder, gen.spec, weights)
    if gen.trained:
        weights = train(weights, config_of(gen, tokenizer), GenReference(folder), gen.spec.seed)
    else:
        vary(folder, gen, weights)
    write_weights(folder, gen.spec, weights)


class Probe(GenReference):
    """Remembers the hidden states that decisions were made by."""

    seen: dict[tuple[int, ...], list[torch.Tensor]]

    @torch.inference_mode()
    def next_logits(self, ids: list[int], tokens: list[int]) -> torch.Tensor:
        hidden = self.model.model(torch.tensor([ids]), use_cache=False).last_hidden_state[0, -1]
        self.seen.setdefault(tuple(tokens), []).append(hidden)
        return self.model.lm_head(hidden)[tokens].double()


def vary(folder: Path, gen: GenSpec, weights: dict[str, torch.Tensor]) -> None:
    """Turns the head's rows of tokens that decide towards what conversations differ in: of random rows one would win
    nearly always. Goes over the conversations a few times, since other answers meet other decisions."""
    head = weights["lm_head.weight" if gen.spec.lm_head and not gen.copy else "model.embed_tokens.weight"]
    generator = torch.Generator().manual_seed(gen.spec.seed)
    for _ in range(3):
        write_weights(folder, gen.spec, weights)
        probe = Probe(folder)
        probe.seen = {}
        for conversation in read_json_lines(GEN / "conversations.jsonl"):
            probe.constrained(conversation["messages"])
        done: set[int] = set()
        for tokens, states in sorted(probe.seen.items(), key=lambda entry: -len(entry[0]) * 100 - len(entry[1])):
            if len(states) < 5 or done & set(tokens):
                continue
            done |= set(tokens)
            hidden = torch.stack(states)
            mean = hidden.mean(0)
            apart = hidden - mean
            for token in tokens:
                row = torch.randn(len(apart), generator=generator) @ apart
                row = row - (row @ mean) / (mean @ mean) * mean
                head[token] = (row / row.norm() * head[token].float().norm()).to(head.dtype)
        if gen.copy:
            weights["lm_head.weight"] = head.clone()


def random_spec(seed: int) -> GenSpec:
    pick = random.Random(seed)
    tied, copy = pick.random() < 0.6, pick.random() < 0.3
    kv_heads = pick.choice((1, 2, 3))
    shape = spec(
        f"random-{seed}",
        seed,
        hidden=pick.randrange(48, 132, 4),
        layers=pick.randint(2, 4),
        heads=kv_heads * pick.randint(1, 3),
        kv_heads=kv_heads,
        head_dim=pick.choice((16, 32)),
        intermediate=pick.randrange(64, 200, 4),
        dtype=pick.choice((torch.bfloat16, torch.float16, torch.float32)),
        lm_head=copy or not tied,
        shards=pick.randint(1, 3),
        rope_theta=pick.choice((1e4, 1e5, 1e6)),
        rope_parameters=pick.random() < 0.5,
        template_file=pick.random() < 0.5,
    )
    gen = GenSpec(shape, copy=tied and copy, knows_answers=pick.random() < 0.5)
    if pick.random() < 0.3:
        gen = replace(gen, template="other_template.jinja", answer="other-answer.toml")
    return gen


# Expected answers -----------------------------------------------------------------------------------------------------


def shares(probabilities: dict[str, float] | None) -> dict[str, float] | None:
    if probabilities is None:
        return None
    return dict(
        zip(probabilities, rounded(torch.tensor(list(probabilities.values()), dtype=torch.float64)), strict=True)
    )


def constrained_fields(found: Constrained) -> dict:
    refusal_prob = None if found.refusal_prob is None else rounded(torch.tensor([found.refusal_prob]))[0]
    return {
        "risk": found.risk,
        "risk_probs": shares(found.risk_probs),
        "categories": found.categories,
        "category_probs": shares(found.category_probs),
        "refusal": found.refusal,
        "refusal_prob": refusal_prob,
        "answer": found.answer,
        "answer_ids": found.ids,
    }


def free_fields(found: Free) -> dict:
    fields = ("answer", "ended", "parsed", "risk", "categories", "refusal")
    return {"answer_ids": found.ids, **{field: getattr(found, field) for field in fields}}


def write_expected(folder: Path, gen: GenSpec) -> str | None:
    """Writes what the reference says, or returns why it is not worth testing against."""
    reference = GenReference(folder)
    lines, answers, free_answers = [], [], []
    for conversation in read_json_lines(GEN / "conversations.jsonl"):
        messages = conversation["messages"]
        found = reference.constrained(messages)
        risk, probabilities = reference.label_only(messages)
        assert (risk, probabilities) == (found.risk, found.risk_probs)
        answers.append(found)
        entry = {
            "id": conversation["id"],
            "mode": reference.mode(messages),
            "prompt_ids": reference.tokenize(messages),
            "label_only": {"risk": risk, "risk_probs": shares(probabilities)},
            "constrained": constrained_fields(found),
        }
        if gen.trained or conversation["id"] in FREE:
            free = reference.free(messages)
            if free.margin > LOGIT_MARGIN:
                free_answers.append(free)
                entry["free"] = free_fields(free)
        lines.append(json.dumps(entry, separators=(",", ":"), ensure_ascii=False))
    if problem := dullness(gen, reference, answers, free_answers):
        return problem
    head = {
        "checkpoint": gen.spec.name,
        "made_with": {module.__name__: module.__version__ for module in (torch, transformers, tokenizers)},
        "new_tokens": NEW_TOKENS,
    }
    text = json.dumps(head, indent=1).removesuffix("\n}")
    path = GEN / "expected" / f"{gen.spec.name}.json"
    path.write_text(text + ',\n "conversations": [\n' + ",\n".join(lines) + "\n ]\n}\n", "utf-8")
    return None


def dullness(gen: GenSpec, reference: GenReference, answers: list[Constrained], free: list[Free]) -> str | None:
    """Why these vectors could not tell a right engine from a wrong one, if so."""
    labels = [answer.risk for answer in answers]
    counts = {label: labels.count(label) for label in reference.texts["safety"]["labels"]}
    said = {category for answer in answers for category in answer.categories}
    several = sum(len(answer.categories) > 1 for answer in answers)
    refusals = [answer.refusal for answer in answers if answer.refusal is not None]
    parsed = sum(answer.parsed for answer in free)
    margin = min(answer.margin for answer in answers)
    print(
        f"{gen.spec.name}: labels {counts}, {len(said)} categories, {several} answers with several, "
        f"{sum(refusals)} of {len(refusals)} refuse, {parsed} of {len(free)} free ones parsed, least margin {margin:.1e}",
        flush=True,
    )
    if margin < PROBABILITY_MARGIN or len(free) < (len(answers) - 3 if gen.trained else 2):
        return f"close decisions, {len(free)} free answers left"
    if min(counts.values()) < 1 or len(said) < 4 or several < 2 or not 0 < sum(refusals) < len(refusals):
        return "something hardly occurs"
    if gen.trained and parsed < len(free) - 2:
        return "free answers cannot be read"
    return None


def make_golden(names: list[str]) -> None:
    for folder in (GEN / "checkpoints", GEN / "expected"):
        if not names:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
    for gen in (gen for gen in SPECS if not names or gen.spec.name in names):
        folder = GEN / "checkpoints" / gen.spec.name
        for seed in range(gen.spec.seed, gen.spec.seed + SEEDS):
            shutil.rmtree(folder, ignore_errors=True)
            write_checkpoint(folder, replace(gen, spec=replace(gen.spec, seed=seed)))
            if problem := write_expected(folder, gen):
                print(f"{gen.spec.name} with seed {seed}: {problem}", flush=True)
            else:
                break
        else:
            raise SystemExit(f"{gen.spec.name}: no seed is good")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", nargs=2, metavar=("SEED", "OUT"), help="write a checkpoint to a new folder")
    parser.add_argument("names", nargs="*", help="remake these checkpoints only")
    arguments = parser.parse_args()
    if arguments.random:
        seed, out = arguments.random
        write_checkpoint(Path(out), random_spec(int(seed)))
    else:
        make_golden(arguments.names)


if __name__ == "__main__":
    main()
