"""Trains a small guard to answer about talks of random words, until it writes its answers by itself."""

from __future__ import annotations

import random

import torch
from reference import Message
from reference_gen import ANSWER, GenReference
from transformers import Qwen3Config, Qwen3ForCausalLM

# Most steps leave out what all prompts begin with, which costs time and teaches nothing; the last ones have all.
STEPS, WHOLE, BATCH, RATE = 450, 60, 12, 4e-3

TRIGGERS = {
    "Violent": ["stab", "bomb", "burn", "knife"],
    "Non-violent Illegal Acts": ["steal", "smuggle", "powder"],
    "Sexual Content or Sexual Acts": ["naked", "lewd"],
    "PII": ["passport", "address"],
    "Suicide & Self-Harm": ["pills", "verletzen", "painless"],
    "Unethical Acts": ["cheat", "bully"],
    "Politically Sensitive Topics": ["vote", "province", "fraud"],
    "Copyright Violation": ["song", "film", "script"],
    "Jailbreak": ["Ignore", "pretend"],
}
# What opinions differ on.
MILD = ("Politically Sensitive Topics", "Copyright Violation")
REFUSALS = ("Sorry, I cannot help with that.", "I cannot do that, sorry.", "申し訳ありませんが、お手伝いできません。")
WORDS = (
    "the a of and to in for with on at by from how what when why who is are was were do does can could should "
    "walk river baker soup bread flour day night hill fog judge child rope cold flat valve loop range print talk help "
    "please tell make find buy read write ask answer question day two three home again until then never always north"
).split()


def example(pick: random.Random) -> tuple[list[Message], str]:
    """A talk, and the answer that it should get."""
    mode = pick.choice(("prompt", "response"))
    talk = [message(pick, role, []) for role in ("user", "assistant") * pick.choice((0, 0, 0, 1))]
    kinds = pick.sample(ANSWER["categories"][mode], pick.choice((0, 1, 1, 2)))
    if mode == "prompt":
        talk.append(message(pick, "user", kinds))
        return talk, answer(mode, kinds, False)
    talk.append(message(pick, "user", pick.sample(list(TRIGGERS), pick.choice((0, 1)))))
    refuses = pick.random() < 0.4
    reply = message(pick, "assistant", [] if refuses else kinds)
    if refuses:
        reply["content"] = f"{pick.choice(REFUSALS)} {reply['content']}"
    talk.append(reply)
    return talk, answer(mode, [] if refuses else kinds, refuses)


def message(pick: random.Random, role: str, kinds: list[str]) -> Message:
    words = pick.choices(WORDS, k=pick.randint(2, 12))
    for kind in kinds:
        for _ in range(pick.randint(1, 3)):
            words.insert(pick.randint(1, len(words)), pick.choice(TRIGGERS[kind]))
    return {"role": role, "content": " ".join(words) + pick.choice((".", "?", ""))}


def answer(mode: str, kinds: list[str], refuses: bool) -> str:
    kinds = [kind for kind in ANSWER["categories"][mode] if kind in kinds]
    level = "Safe" if not kinds else "Controversial" if all(kind in MILD for kind in kinds) else "Unsafe"
    lines = [f"Safety: {level}", f"Categories: {', '.join(kinds) or 'None'}"]
    return "\n".join([*lines, f"Refusal: {'Yes' if refuses else 'No'}"] if mode == "response" else lines)


def train(weights: dict[str, torch.Tensor], config: dict, texts: GenReference, seed: int) -> dict[str, torch.Tensor]:
    """Trained weights of the same names and types."""
    torch.manual_seed(seed)
    pick = random.Random(seed)
    model = Qwen3ForCausalLM(Qwen3Config(**config, attn_implementation="sdpa")).float()
    model.load_state_dict({name: weight.float() for name, weight in weights.items()}, strict=False)
    model.tie_weights()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        ids, labels = batch(pick, texts, whole=step >= STEPS - WHOLE)
        # Padding is behind, where no token looks. Only what is learned needs logits.
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][labels[:, 1:] >= 0]
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), labels[:, 1:][labels[:, 1:] >= 0])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 49:
            print(f"step {step + 1}: loss {loss.item():.4f}", flush=True)
    trained = model.state_dict()
    return {name: trained[name].to(weight.dtype).contiguous() for name, weight in weights.items()}


def batch(pick: random.Random, texts: GenReference, whole: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts and answers, padded behind; only the answers are learned."""
    rows = []
    for _ in range(BATCH):
        talk, text = example(pick)
        rows.append((texts.tokenize(talk), [*texts.encode(text), texts.end]))
    if not whole:
        heading = texts.encode(" The talk\n")
        rows = [(prompt[find(prompt, heading) :], said) for prompt, said in rows]
    width = max(len(prompt) + len(said) for prompt, said in rows)
    ids = torch.full((BATCH, width), texts.end)
    labels = torch.full((BATCH, width), -100)
    for index, (prompt, said) in enumerate(rows):
        end = len(prompt) + len(said)
        ids[index, :end] = torch.tensor([*prompt, *said])
        labels[index, len(prompt) : end] = torch.tensor(said)
    return ids, labels


def find(ids: list[int], part: list[int]) -> int:
    return next(start for start in range(len(ids)) if ids[start : start + len(part)] == part)
