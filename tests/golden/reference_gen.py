"""What Qwen3Guard-Gen computes, by Hugging Face and PyTorch: the measure that make_gen.py and check_gen.py share.

The model is `transformers.Qwen3ForCausalLM` in float32 on the CPU; free answers are `generate`'s. Nothing is taken from
the exporter: what may follow is found by tokenizing whole answers, and every logit comes from a run over all tokens.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from reference import Message, Texts
from transformers import Qwen3ForCausalLM

NEW_TOKENS = 128
GRAVITY = {"Safe": 0, "Controversial": 1, "Unsafe": 2}

CATEGORIES = [
    "Violent",
    "Non-violent Illegal Acts",
    "Sexual Content or Sexual Acts",
    "PII",
    "Suicide & Self-Harm",
    "Unethical Acts",
    "Politically Sensitive Topics",
    "Copyright Violation",
]
# The texts of an answer, in the form of the exporter's --answer.
ANSWER: dict[str, dict[str, Any]] = {
    "safety": {"begin": "Safety:", "labels": {risk: f" {risk}" for risk in ("Safe", "Unsafe", "Controversial")}},
    "categories": {
        "begin": "\nCategories:",
        "none": " None",
        "separator": ",",
        "prompt": [*CATEGORIES, "Jailbreak"],
        "response": CATEGORIES,
    },
    "refusal": {"begin": "\nRefusal:", "yes": " Yes", "no": " No"},
}


@dataclass
class Constrained:
    """An answer held to its grammar. Probabilities are by name; of categories and None those of the first decision."""

    risk: str
    risk_probs: dict[str, float]
    categories: list[str] = field(default_factory=list)
    category_probs: dict[str, float] | None = None
    refusal: bool | None = None
    refusal_prob: float | None = None
    answer: str = ""
    ids: list[int] = field(default_factory=list)  # without the closing <|im_end|>
    margin: float = 1.0  # the least difference of the two best choices of any decision


@dataclass
class Free:
    """What the model writes by itself, and what is read in it."""

    answer: str
    ids: list[int]  # without the token that ends it
    ended: bool
    parsed: bool
    risk: str
    categories: list[str]
    refusal: bool | None
    margin: float = 1.0  # the least difference of the two largest logits of any step


class GenReference(Texts):
    # Nothing else, as in the official code.
    settings = {"add_generation_prompt": False}

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        # Sampling is what it asks for, and the official code says otherwise.
        self.model.generation_config.update(do_sample=False, temperature=None, top_k=None, top_p=None)
        own = folder / "answer.toml"
        given = tomllib.loads(own.read_text("utf-8")) if own.exists() else {}
        self.texts = {table: {**values, **given.get(table, {})} for table, values in ANSWER.items()}
        self.end = self.special["<|im_end|>"]

    # Held to the grammar ----------------------------------------------------------------------------------------

    def constrained(self, messages: list[Message]) -> Constrained:
        return _Decoder(self, self.tokenize(messages), self.mode(messages)).run()

    def label_only(self, messages: list[Message]) -> tuple[str, dict[str, float]]:
        decoder = _Decoder(self, self.tokenize(messages), self.mode(messages))
        probabilities = decoder.labels()
        return gravest(probabilities), probabilities

    @staticmethod
    def mode(messages: list[Message]) -> str:
        return "prompt" if messages[-1]["role"] == "user" else "response"

    def lines(self, mode: str) -> list[str]:
        return ["safety", "categories", *(["refusal"] if mode == "response" else [])]

    def encode(self, text: str) -> list[int]:
        return self.plain.encode(text, add_special_tokens=False).ids

    @torch.inference_mode()
    def next_logits(self, ids: list[int], tokens: list[int]) -> torch.Tensor:
        return self.model(torch.tensor([ids]), use_cache=False).logits[0, -1, tokens].double()

    # Free -------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def free(self, messages: list[Message]) -> Free:
        prompt = torch.tensor([self.tokenize(messages)])
        found = self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW_TOKENS,
            return_dict_in_generate=True,
            output_scores=True,
        )
        ids = found.sequences[0, prompt.shape[1] :].tolist()
        best = [scores[0].topk(2).values for scores in found.scores]
        margin = min(float(first - second) for first, second in best)
        ends = self.model.generation_config.eos_token_id
        ended = ids[-1] in (ends if isinstance(ends, list) else [ends])
        ids = ids[:-1] if ended else ids
        answer = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Free(answer, ids, ended, *self.parse(answer, self.mode(messages)), margin)

    def parse(self, answer: str, mode: str) -> tuple[bool, str, list[str], bool | None]:
        """Whether every line was found, and what they say: each is looked for where a line begins.

        Without a level it is the gravest.
        """
        safety, categories, refusal = (self.texts[table] for table in ("safety", "categories", "refusal"))
        labels = {text: name for name, text in safety["labels"].items()}
        label = _find(safety["begin"], labels, answer)
        line = re.search(f"^{re.escape(categories['begin'].lstrip(chr(10)))}(.*)$", answer, re.MULTILINE)
        names = sorted([categories["none"].strip(), *categories[mode]], key=len, reverse=True)
        said = re.findall("|".join(map(re.escape, names)), line[1]) if line else []
        parsed = bool(label and said)
        refused = None
        if "refusal" in self.lines(mode):
            found = _find(refusal["begin"].lstrip("\n"), [refusal["yes"], refusal["no"]], answer)
            refused = found and found == refusal["yes"]
            parsed = parsed and found is not None
        level = labels[label] if label else max(GRAVITY, key=GRAVITY.__getitem__)
        return parsed, level, [name for name in dict.fromkeys(said) if name != categories["none"].strip()], refused


def _find(begin: str, texts: Any, answer: str) -> str | None:
    found = re.search(f"^{re.escape(begin)}({'|'.join(map(re.escape, texts))})", answer, re.MULTILINE)
    return found[1] if found else None


def gravest(probabilities: dict[str, float]) -> str:
    return max(probabilities, key=lambda name: (probabilities[name], GRAVITY[name]))


class _Decoder:
    """One answer. `text` is what is said so far; what may follow are texts, told apart by the tokens of the whole."""

    def __init__(self, reference: GenReference, prompt: list[int], mode: str) -> None:
        self.reference = reference
        self.prompt = prompt
        self.mode = mode
        self.text = ""
        self.margin = 1.0

    def run(self) -> Constrained:
        texts = self.reference.texts
        probabilities = self.labels()
        result = Constrained(gravest(probabilities), probabilities)
        self.text += texts["safety"]["labels"][result.risk] + texts["categories"]["begin"]
        if result.risk == "Safe":
            self.text += texts["categories"]["none"]
        else:
            self.categories(result)
        if self.mode == "response":
            self.text += texts["refusal"]["begin"]
            yes, no = self.decide([texts["refusal"]["yes"], texts["refusal"]["no"]])
            result.refusal, result.refusal_prob = yes > no, yes
            self.text += texts["refusal"]["yes" if yes > no else "no"]
        result.answer, result.ids = self.text, self.reference.encode(self.text)
        result.margin = self.margin
        return result

    def labels(self) -> dict[str, float]:
        self.text = self.reference.texts["safety"]["begin"]
        labels = self.reference.texts["safety"]["labels"]
        return dict(zip(labels, self.decide(list(labels.values())), strict=True))

    def categories(self, result: Constrained) -> None:
        texts = self.reference.texts["categories"]
        left = {name: f" {name}" for name in texts[self.mode]}
        probabilities = self.decide([texts["none"], *left.values()])
        result.category_probs = dict(zip(["None", *left], probabilities, strict=True))
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        if best == 0:
            self.text += texts["none"]
            return
        name = list(left)[best - 1]
        while True:
            result.categories.append(name)
            self.text += left.pop(name)
            if not left:
                return
            # Another name, or the next line, of which response mode has one.
            following = self.reference.texts["refusal"]["begin"] if self.mode == "response" else None
            another, ending = self.decide([texts["separator"] + next(iter(left.values())), following], first=True)
            if another <= ending:
                return
            self.text += texts["separator"]
            probabilities = self.decide(list(left.values()))
            name = list(left)[max(range(len(left)), key=probabilities.__getitem__)]

    def decide(self, texts: list[str | None], first: bool = False) -> list[float]:
        """The probability of each text, or with `first` of its first token: None is the end of the answer."""
        before = self.reference.encode(self.text)
        ends = []
        for text in texts:
            whole = self.reference.encode(self.text + text) if text is not None else [*before, self.reference.end]
            assert whole[: len(before)] == before, f"{text!r} merges with what is before it"
            ends.append(whole[len(before) :][: 1 if first else None])
        probabilities = [1.0] * len(ends)
        self._share(before, ends, list(range(len(ends))), 0, probabilities)
        best, second = sorted(probabilities, reverse=True)[:2] if len(ends) > 1 else (1.0, 0.0)
        self.margin = min(self.margin, best - second)
        return probabilities

    def _share(self, ids: list[int], ends: list[list[int]], group: list[int], depth: int, out: list[float]) -> None:
        """Shares the probability of those that are alike up to a depth among them."""
        if len(group) == 1:
            return
        tokens = list(dict.fromkeys(ends[index][depth] for index in group))
        if len(tokens) > 1:
            logits = self.reference.next_logits([*self.prompt, *ids], tokens)
            shares = dict(zip(tokens, logits.softmax(-1).tolist(), strict=True))
        for token in tokens:
            alike = [index for index in group if ends[index][depth] == token]
            for index in alike if len(tokens) > 1 else []:
                out[index] *= shares[token]
            self._share([*ids, token], ends, alike, depth + 1, out)
