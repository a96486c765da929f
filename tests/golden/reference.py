"""What Qwen3Guard-Stream computes, by Hugging Face and PyTorch: the measure that make.py and check.py share.

The trunk is `transformers.Qwen3Model` in float32 on the CPU. Only the eight head tensors, which transformers
does not know, are applied here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoTokenizer, Qwen3Model, logging

logging.set_verbosity_error()  # the heads are "unexpected" tensors to Qwen3Model
logging.disable_progress_bar()
torch.set_num_threads(1)

Message = dict[str, str]

# A private-use character that keeps a special token spelled in a message from looking like the template's own.
GUARD_CHARACTER = "\ue000"

# role -> (prefix of its tensors, names of its two label maps)
ROLES = {
    "response": ("", "response_risk_level_map", "response_category_map"),
    "query": ("query_", "query_risk_level_map", "query_category_map"),
}


@dataclass(frozen=True)
class Encoded:
    """A conversation as token ids: prompt + scaffold + answer is what the model is fed."""

    prompt: list[int]  # to the <|im_end|> of the last user turn, which is included
    scaffold: list[int]  # from there to the first token of the answer
    answer: list[int]  # without the closing <|im_end|>


@dataclass(frozen=True)
class Probabilities:
    """Rows of probabilities, in index order of the label maps."""

    risk: torch.Tensor
    category: torch.Tensor


@dataclass(frozen=True)
class Expected:
    ids: Encoded
    prompt: Probabilities  # [labels]: query heads at the last prompt token
    answer: Probabilities  # [tokens, labels]: response heads at every answer token


def labels(config: dict, name: str) -> list[str]:
    """A label map of config.json in index order, whatever the order of its keys."""
    entries = config[name]
    return [entries[str(index)] for index in range(len(entries))]


def read_json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def read_heads(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor outside the trunk, as float32. lm_head.weight is no part of a guard."""
    heads = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():
                if not name.startswith(("model.", "lm_head.")):
                    heads[name] = tensors.get_tensor(name).float()
    return heads


@dataclass(frozen=True)
class Thinking:
    """An answer with a think block, as the official evaluation reads it."""

    ids: list[int]  # all tokens after the prompt
    thinking_start: int  # the first counted position in thinking mode
    answer_start: int  # the first counted position otherwise
    end: int  # the closing <|im_end|>
    verdicts: Probabilities  # [tokens, labels]: response heads at every one of `ids`


class Texts:
    """A checkpoint's tokenizer and chat template."""

    # What the template is told beside the messages.
    settings: dict[str, bool] = {"add_generation_prompt": False, "enable_thinking": False}

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text("utf-8"))
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        # The same tokenizer, to which special tokens in a text are text.
        self.plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.plain.encode_special_tokens = True
        added = self.plain.get_added_tokens_decoder()
        self.special = {token.content: id for id, token in added.items() if token.special}

    def render(self, messages: list[Message]) -> str:
        return self.tokenizer.apply_chat_template(messages, tokenize=False, **self.settings)

    def tokenize(self, messages: list[Message]) -> list[int]:
        """The rendered conversation, where only the template's own special tokens are special tokens."""
        text = self.render([{**message, "content": self._hide(message["content"])} for message in messages])
        ids: list[int] = []
        while text:
            # The next special token that the template wrote, or the end of the text.
            found = [(text.index(token), token) for token in self.special if token in text]
            start, token = min(found, default=(len(text), ""))
            piece = text[:start].replace(GUARD_CHARACTER, "")
            ids += self.plain.encode(piece, add_special_tokens=False).ids
            ids += [self.special[token]] if token else []
            text = text[start + len(token) :]
        if not any(token in message["content"] for message in messages for token in self.special):
            assert ids == self.tokenizer(self.render(messages), add_special_tokens=False)["input_ids"]
        return ids

    def _hide(self, content: str) -> str:
        for token in self.special:
            content = content.replace(token, token[0] + GUARD_CHARACTER + token[1:])
        return content


class Reference(Texts):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.model = Qwen3Model.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        self.heads = read_heads(folder)

    # Text to ids ------------------------------------------------------------------------------------------------

    def encode(self, messages: list[Message]) -> Encoded:
        ids = self.tokenize(messages)
        prompt = self._prompt_length(ids)
        if messages[-1]["role"] != "assistant":
            return Encoded(ids[:prompt], [], [])
        # An empty answer leaves the template's scaffold and nothing else.
        empty = self.tokenize([*messages[:-1], {"role": "assistant", "content": ""}])
        start = self._last_turn_end(empty)
        assert ids[:start] == empty[:start], "the answer merges with the template before it"
        return Encoded(ids[:prompt], ids[prompt:start], ids[start : self._last_turn_end(ids)])

    def _prompt_length(self, ids: list[int]) -> int:
        header = [self.special["<|im_start|>"], *self.plain.encode("user").ids]
        last = max(i for i in range(len(ids)) if ids[i : i + len(header)] == header)
        return ids.index(self.special["<|im_end|>"], last) + 1

    def _last_turn_end(self, ids: list[int]) -> int:
        return max(i for i, id in enumerate(ids) if id == self.special["<|im_end|>"])

    # Ids to probabilities ---------------------------------------------------------------------------------------

    @torch.inference_mode()
    def logits(
        self, ids: list[int], role: str, positions: list[int] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Risk and category logits of one role at every token."""
        assert len(ids) <= self.config["max_position_embeddings"]
        position_ids = None if positions is None else torch.tensor([positions])
        hidden = self.model(torch.tensor([ids]), position_ids=position_ids, use_cache=False).last_hidden_state[0]
        prefix = ROLES[role][0]
        x = hidden @ self.heads[f"{prefix}risk_level_category_pre.weight"].T
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        x = x * self.heads[f"{prefix}risk_level_category_layernorm.weight"]
        return x @ self.heads[f"{prefix}risk_level_head.weight"].T, x @ self.heads[f"{prefix}category_head.weight"].T

    def probabilities(self, ids: list[int], role: str) -> Probabilities:
        risk, category = self.logits(ids, role)
        return Probabilities(risk.softmax(-1), category.softmax(-1))

    def labels(self, role: str) -> tuple[list[str], list[str]]:
        _, risk, category = ROLES[role]
        return labels(self.config, risk), labels(self.config, category)

    def expect(self, messages: list[Message]) -> Expected:
        ids = self.encode(messages)
        prompt = self.probabilities(ids.prompt, "query")
        start = len(ids.prompt) + len(ids.scaffold)
        answer = self.probabilities(ids.prompt + ids.scaffold + ids.answer, "response")
        return Expected(
            ids,
            Probabilities(prompt.risk[-1], prompt.category[-1]),
            Probabilities(answer.risk[start:], answer.category[start:]),
        )

    def expect_thinking(self, messages: list[Message]) -> Thinking:
        ids = self.tokenize(messages)
        prompt = self._prompt_length(ids)
        rest = ids[prompt:]
        # eval_stream.py: thinking is counted from the token `assistant` + 4, an answer from after the line breaks
        # that follow `</think>`.
        thinking_start = rest.index(self.plain.token_to_id("assistant")) + 4
        answer_start = rest.index(self.plain.token_to_id("</think>")) + 2
        all_verdicts = self.probabilities(ids, "response")
        verdicts = Probabilities(all_verdicts.risk[prompt:], all_verdicts.category[prompt:])
        return Thinking(rest, thinking_start, answer_start, self._last_turn_end(rest), verdicts)
