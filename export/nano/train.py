"""Trains the guard on what prepare.py and tokenizer.py made, and writes the checkpoint (bfloat16 safetensors, config.json)."""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

import sources
from model import Config, GuardModel

MAX_PROMPT_CHARS, MAX_TOKENS = 900, 288
IGNORE = -100
STOP_WEIGHT = 0.3


def render(system: str, history: list[str], prompt: str) -> str:
    """The chat template's text up to and including the last user turn's <|im_end|>, where the prompt is judged."""
    turns = [("system", system)] if system else []
    turns += [("assistant" if i % 2 else "user", text) for i, text in enumerate(history)] + [("user", prompt)]
    return "\n".join(f"<|im_start|>{role}\n{text}<|im_end|>" for role, text in turns)


ANSWER_START = "\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
ANSWER_END = "<|im_end|>\n"


@dataclass
class Encoded:
    ids: list[int]
    query_at: int  # position of the last user turn's <|im_end|>
    query: list[int]  # [level, category], IGNORE where unknown
    levels: list[int]  # of each token of the answer, IGNORE elsewhere
    category: int  # of the answer


def unsure(harm: str) -> int:
    """How many characters of a harmful part come before the harm is named: they teach no level, or harmless words would alarm."""
    at = sources.harm_at(harm)
    return min(len(harm) // 3, 24) if at is None else min(at, 60)


def encode(tokenizer: Tokenizer, rows: list[dict[str, Any]], learning: bool = False) -> list[Encoded]:
    heads, texts, turns = [], [], []
    for row in rows:
        safe, harm = row["answer"] or ["", ""]
        safe = safe if harm else safe.rstrip()
        head = render(row["system"], row["history"], row["prompt"])
        start = head + ANSWER_START
        heads.append(head)
        texts.append(start + safe + harm + ANSWER_END if row["answer"] else head)
        turns.append((len(start), len(start) + len(safe) if harm else 1 << 30))
    out = []
    for row, head, text, (start, turn), e in zip(rows, heads, texts, turns, tokenizer.encode_batch(texts)):
        query = [IGNORE if v < 0 else v for v in row["query"] or [-1, -1]]
        safe_level, (level, category) = 0, row["response"] or [-1, -1]
        sure = turn + unsure(row["answer"][1]) if learning and row["answer"] and row["answer"][1] else turn
        levels = [IGNORE if not row["answer"] or end <= start or turn < end <= sure else level if end > turn else safe_level for _, end in e.offsets]
        query_at = next(i for i, (_, end) in enumerate(e.offsets) if end == len(head))
        out.append(Encoded(e.ids[:MAX_TOKENS], query_at, query, levels[:MAX_TOKENS], category if category >= 0 else IGNORE))
    return [e for e in out if e.query_at < MAX_TOKENS]


def augment(rng: random.Random, row: dict[str, Any]) -> dict[str, Any]:
    """Lower case, lost punctuation and typos; very long prompts lose their middle."""

    def change(text: str, lower: bool, typos: float) -> str:
        text = text.lower() if lower else text
        if typos and len(text) > 3:
            letters = list(text)
            for _ in range(1 + int(len(text) * typos)):
                i = rng.randrange(len(letters) - 1)
                if letters[i].isalpha() and letters[i + 1].isalpha():
                    if rng.random() < 0.5:
                        letters[i], letters[i + 1] = letters[i + 1], letters[i]
                    else:
                        letters[i] = ""
            text = "".join(letters)
        return text

    prompt = row["prompt"]
    if len(prompt) > MAX_PROMPT_CHARS:
        keep = rng.randint(200, MAX_PROMPT_CHARS - 200)
        prompt = prompt[:keep] + prompt[-(MAX_PROMPT_CHARS - keep):]
    lower, typos = rng.random() < 0.2, 0.02 if rng.random() < 0.1 else 0.0
    prompt = change(prompt, lower, typos)
    if rng.random() < 0.2:
        prompt = prompt.rstrip("?.! ") or prompt
    answer = row["answer"]
    if answer:
        lower = rng.random() < 0.1
        answer = [change(answer[0], lower, 0.0), change(answer[1], lower, 0.0)]
    return {**row, "prompt": prompt, "answer": answer}


def batches(rng: random.Random, examples: list[Encoded], tokens: int) -> list[list[Encoded]]:
    """Batches of about `tokens` tokens, of examples of like length, in random order."""
    ordered = sorted(examples, key=lambda e: len(e.ids) + rng.random() * 8)
    out: list[list[Encoded]] = [[]]
    for e in ordered:
        if len(out[-1]) * len(e.ids) >= tokens:
            out.append([])
        out[-1].append(e)
    rng.shuffle(out)
    return out


@dataclass
class Batch:
    """All [b, t]; labels are IGNORE where nothing is judged. Padding is on the right, where causal attention never sees it."""

    ids: Tensor
    query_levels: Tensor
    query_categories: Tensor
    levels: Tensor
    categories: Tensor


def batch_of(examples: list[Encoded]) -> Batch:
    width = max(len(e.ids) for e in examples)

    def rows(values: Callable[[Encoded], list[int]], fill: int = IGNORE) -> Tensor:
        return torch.tensor([(v := values(e)) + [fill] * (width - len(v)) for e in examples])

    return Batch(
        rows(lambda e: e.ids, 0), rows(lambda e: [IGNORE] * e.query_at + [e.query[0]]), rows(lambda e: [IGNORE] * e.query_at + [e.query[1]]),
        rows(lambda e: e.levels), rows(lambda e: [e.category if level > 0 else IGNORE for level in e.levels]))


def stop_loss(logits: Tensor, levels: Tensor) -> Tensor:
    """The rule that stops, two consecutive tokens that are not Safe, as a loss: of harmless tokens the pair that is nearest to a stop
    counts, of the first harmful ones the pair that is likeliest to stop."""
    danger = 1 - logits.softmax(-1)[..., 0]
    pair = torch.minimum(danger[:, 1:], danger[:, :-1]).clamp(1e-4, 1 - 1e-4)
    labels, before = levels[:, 1:], levels[:, :-1]
    harmful = (labels > 0) & (before > 0)
    window = harmful & (harmful.cumsum(1) <= 12)
    harmless = (labels == 0) & (before == 0)
    false_stop = pair.masked_fill(~harmless, 0.0).amax(1)
    found = pair.masked_fill(~window, 0.0).amax(1)
    losses = torch.cat([-torch.log(1 - false_stop[harmless.any(1)]), -torch.log(found[window.any(1)])])
    return losses.mean() if len(losses) else torch.zeros(())


def loss_of(model: GuardModel, batch: Batch, forget: float, safe_weight: float) -> Tensor:
    ids = batch.ids
    if forget:  # replace some tokens by any other, but never the scaffolding
        chance = (torch.rand(ids.shape) < forget) & (ids < model.model.embed_tokens.num_embeddings - 9)
        ids = torch.where(chance, torch.randint(300, 6000, ids.shape), ids)
    level_weights = torch.tensor([safe_weight, 1.0, 1.0])
    outputs = model(ids)
    total = STOP_WEIGHT * stop_loss(outputs[0], batch.levels)
    for logits, labels, weight, classes in zip(
        outputs, (batch.levels, batch.categories, batch.query_levels, batch.query_categories), (1.0, 0.4, 1.0, 0.4), (level_weights, None, None, None)):
        if (labels != IGNORE).any():
            total = total + weight * F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weight=classes, ignore_index=IGNORE, label_smoothing=0.03)
    return total


def learning_rate(step: int, steps: int, top: float) -> float:
    warmup = min(200, steps // 10)
    return top * (step / warmup if step < warmup else 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))))


def keep_freed_memory() -> None:
    """Tells glibc to reuse freed memory instead of giving it back: three times the speed for these small tensors. Harmless elsewhere."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def endless(seed: int, rows: list[dict[str, Any]], tokenizer: Tokenizer, tokens: int) -> Iterator[list[Encoded]]:
    """Batches of ever new augmentations, 8,000 conversations at a time."""
    rng = random.Random(seed)
    while True:
        rng.shuffle(rows)
        for i in range(0, len(rows), 8000):
            yield from batches(rng, encode(tokenizer, [augment(rng, row) for row in rows[i : i + 8000]], learning=True), tokens)


def save(model: GuardModel, config: Config, folder: Path) -> None:
    state = {name: value.detach().to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    (folder / "config.json").write_text(json.dumps(config.to_json(), indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where prepare.py wrote train.jsonl")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder with tokenizer.json; the model is written there")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--rate", type=float, default=2e-3)
    # Answers are judged at every token, so a false stop is worse than a late one.
    parser.add_argument("--safe-weight", type=float, default=2.5, help="of Safe in the levels of answers, where the others weigh 1")
    parser.add_argument("--start", type=Path, help="weights to begin with, instead of random ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    tokenizer = Tokenizer.from_file(str(args.checkpoint / "tokenizer.json"))
    rows = rows_of(args.work / "train.jsonl")
    config = Config(vocab_size=tokenizer.get_vocab_size())
    model = GuardModel(config)
    if args.start:
        model.load_state_dict({name: value.float() for name, value in load_file(str(args.start)).items()})
    averaged = copy.deepcopy(model).requires_grad_(False)
    model.train()
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05}, {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.98), fused=True)
    print(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(rows):,} conversations", flush=True)
    started, mean, seen = time.time(), 0.0, 0
    for step, batch in zip(range(1, args.steps + 1), endless(args.seed, rows, tokenizer, args.batch_tokens)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.rate)
        loss = loss_of(model, batch_of(batch), forget=0.08, safe_weight=args.safe_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step > args.steps // 2:  # the weights that are saved: a moving average over the last few hundred steps
            torch._foreach_lerp_(list(averaged.parameters()), list(model.parameters()), max(0.004, 1 / (step - args.steps // 2)))
        mean = loss.item() if step == 1 else 0.98 * mean + 0.02 * loss.item()
        seen += sum(len(e.ids) for e in batch)
        if step % 100 == 0:
            print(f"step {step}/{args.steps}  loss {mean:.3f}  {seen / (time.time() - started):,.0f} tokens/s  {time.time() - started:.0f} s", flush=True)
            save(averaged if step > args.steps // 2 else model, config, args.checkpoint)
    save(averaged, config, args.checkpoint)


if __name__ == "__main__":
    main()
