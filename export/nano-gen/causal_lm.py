"""Qwen3ForCausalLM in plain PyTorch: the nano guard's decoder, with its embedding as the head. All sequences of a batch begin
with the same tokens, the instructions of the template, which are computed once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import shared  # noqa: F401  (first: it finds the modules of the nano guard)
import torch
import torch.nn.functional as F
from model import Attention, Backbone, Config, rotate
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


@dataclass
class GenConfig(Config):
    num_hidden_layers: int = 4

    def to_json(self, end_token: int) -> dict:
        """config.json as Qwen3Guard-Gen has it."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("dropout", "guard_inner_size")}
        return {
            "_name_or_path": "nano-gen", "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **kept, "eos_token_id": end_token,
            "attention_bias": False, "attention_dropout": 0.0, "hidden_act": "silu", "initializer_range": 0.02, "tie_word_embeddings": True,
            "rope_scaling": None, "sliding_window": None, "use_sliding_window": False, "max_window_layers": self.num_hidden_layers,
            "use_cache": True, "torch_dtype": "bfloat16"}


def projected(attention: Attention, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values by head, turned."""
    b, t, _ = x.shape
    c = attention.c

    def heads(y: Tensor, n: int) -> Tensor:
        return y.view(b, t, n, c.head_dim).transpose(1, 2)

    q = rotate(attention.q_norm(heads(attention.q_proj(x), c.num_attention_heads)), cos, sin)
    k = rotate(attention.k_norm(heads(attention.k_proj(x), c.num_key_value_heads)), cos, sin)
    return q, k, heads(attention.v_proj(x), c.num_key_value_heads)


class GenModel(nn.Module):
    """Parameter names are those of the published checkpoints."""

    def __init__(self, c: GenConfig) -> None:
        super().__init__()
        self.c = c
        self.model = Backbone(c)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def start_from(self, guard: Path) -> None:
        """Takes the nano guard's decoder. Layers beyond its own begin as ones that change nothing."""
        weights = {k: v.float() for k, v in load_file(str(guard / "model.safetensors")).items() if k.startswith("model.")}
        self.load_state_dict(weights, strict=False)
        own = json.loads((guard / "config.json").read_text())["num_hidden_layers"]
        for layer in self.model.layers[own:]:
            nn.init.zeros_(layer.self_attn.o_proj.weight)
            nn.init.zeros_(layer.mlp.down_proj.weight)

    def forward(self, prefix: Tensor, ids: Tensor) -> Tensor:
        """The last hidden states [b, t] of `ids` after `prefix` [p]. Padding is on the right, where attention never looks."""
        p, (b, t) = len(prefix), ids.shape
        body = self.model
        x, y = body.dropout(body.embed_tokens(prefix[None])), body.dropout(body.embed_tokens(ids))
        before, after = (body.cos[:p], body.sin[:p]), (body.cos[p : p + t], body.sin[p : p + t])
        seen = torch.ones(t, p + t, dtype=torch.bool).tril(p)
        for layer in body.layers:
            attention = layer.self_attn
            q, k, v = projected(attention, layer.input_layernorm(x), *before)
            x = x + attention.o_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            q, own_k, own_v = projected(attention, layer.input_layernorm(y), *after)
            k, v = (torch.cat([a.expand(b, -1, -1, -1), z], dim=2) for a, z in ((k, own_k), (v, own_v)))
            y = y + attention.o_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True).transpose(1, 2).flatten(2))
            y = y + layer.mlp(layer.post_attention_layernorm(y))
        return body.norm(y)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.model.embed_tokens.weight.T


def save(model: GenModel, end_token: int, folder: Path) -> None:
    state = {name: value.detach().to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    (folder / "config.json").write_text(json.dumps(model.c.to_json(end_token), indent=2) + "\n")
