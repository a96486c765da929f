"""Trains the guard on what the nano guard's prepare.py made, from the nano guard's weights, and writes the checkpoint."""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Iterator

import shared  # (first: it finds the modules below)
import torch
import torch.nn.functional as F
from torch import Tensor
from train import augment, keep_freed_memory, learning_rate, rows_of

from causal_lm import GenConfig, GenModel, save
from examples import CHECKPOINT, MODES, Encoded, Encoder, Example, Row, cut, of_answer, of_prompt

# Rows that are taken at a time, to be sorted by length; longer texts, in tokens, are left out.
ROWS, MAX_TOKENS = 3000, 288


def examples_of(rng: random.Random, rows: list[Row]) -> list[Example]:
    """Prompts, whole answers and answers that are cut, of ever new augmentations. What we composed ourselves there is plenty of."""
    found: list[Example | None] = []
    for row in rows:
        own = row["source"].startswith("own")
        for _ in range(2 if not own and len(row["prompt"]) < 300 else 1):
            changed = augment(rng, row)
            if not own or rng.random() < (0.5 if row["answer"] else 1.0):
                found.append(of_prompt(changed))
            if row["answer"] and rng.random() < 0.6:
                found.append(of_answer(changed))
            if row["answer"] and rng.random() < 0.6:
                found.append(cut(rng, changed))
    return [example for example in found if example]


def batches(rng: random.Random, encoded: list[Encoded], tokens: int) -> list[list[Encoded]]:
    """Batches of about `tokens` tokens, of one mode and of like length, in random order."""
    out: list[list[Encoded]] = []
    for mode in MODES:
        ordered = sorted((e for e in encoded if e.example.mode == mode), key=lambda e: len(e.ids) + rng.random() * 8)
        out.append([])
        for e in ordered:
            if out[-1] and (len(out[-1]) + 1) * len(e.ids) > tokens:
                out.append([])
            out[-1].append(e)
    rng.shuffle(out)
    return [batch for batch in out if batch]


def endless(seed: int, rows: list[Row], encoder: Encoder, tokens: int) -> Iterator[list[Encoded]]:
    rng = random.Random(seed)
    while True:
        rng.shuffle(rows)
        for i in range(0, len(rows), ROWS):
            encoded = encoder.encode(examples_of(rng, rows[i : i + ROWS]), rng)
            yield from batches(rng, [e for e in encoded if len(e.ids) <= MAX_TOKENS], tokens)


def padded(batch: list[Encoded]) -> Tensor:
    width = max(len(e.ids) for e in batch)
    return torch.tensor([e.ids + [0] * (width - len(e.ids)) for e in batch])


def loss_of(model: GenModel, prefix: Tensor, batch: list[Encoded], forget: float) -> Tensor:
    """Of the answers' tokens alone, by example."""
    ids = padded(batch)
    if forget:  # replace some tokens of the messages by any other
        said = torch.arange(ids.shape[1]) < torch.tensor([e.answer_at for e in batch])[:, None] - 9
        chance = (torch.rand(ids.shape) < forget) & said
        ids = torch.where(chance, torch.randint(300, 6000, ids.shape), ids)
    hidden = model(prefix, ids)
    where = [(i, e.answer_at - 1 + n, token, weight) for i, e in enumerate(batch) for n, (token, weight) in enumerate(e.targets) if weight]
    rows, columns, tokens, weights = (torch.tensor(values) for values in zip(*where))
    losses = F.cross_entropy(model.logits(hidden[rows, columns]), tokens, reduction="none")
    return (losses * weights).sum() / len(batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="where prepare.py wrote train.jsonl")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--batch-tokens", type=int, default=1280)
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    encoder = Encoder()
    rows = rows_of(args.work / "train.jsonl")
    model = GenModel(GenConfig(vocab_size=encoder.tokenizer.get_vocab_size()))
    model.start_from(shared.NANO / "checkpoint")
    model.train()
    prefix = {mode: torch.tensor(ids) for mode, ids in encoder.prefix.items()}
    groups = [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05}, {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.98), fused=True)
    print(f"{sum(p.numel() for p in model.parameters()):,} weights, {len(rows):,} conversations", flush=True)
    started, seen, mean = time.time(), 0, {mode: 0.0 for mode in MODES}
    for step, batch in zip(range(1, args.steps + 1), endless(args.seed, rows, encoder, args.batch_tokens)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.rate)
        mode = batch[0].example.mode
        loss = loss_of(model, prefix[mode], batch, forget=0.08)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean[mode] = 0.98 * mean[mode] + 0.02 * loss.item() if mean[mode] else loss.item()
        seen += len(batch)
        if step % 50 == 0:
            print(f"step {step}/{args.steps}  loss {' '.join(f'{mode} {value:.3f}' for mode, value in mean.items())}  {seen:,} texts  {time.time() - started:.0f} s", flush=True)
        if step % 100 == 0 or step == args.steps:
            save(model, encoder.end, CHECKPOINT)


if __name__ == "__main__":
    main()
