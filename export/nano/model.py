"""Qwen3ForGuardModel in plain PyTorch: a Qwen3 decoder without LM head, and two small heads per role that read every token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmful import CATEGORIES

LEVELS = ["Safe", "Unsafe", "Controversial"]


@dataclass
class Config:
    vocab_size: int = 6144
    hidden_size: int = 192
    num_hidden_layers: int = 3
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 32
    intermediate_size: int = 512
    guard_inner_size: int = 96
    max_position_embeddings: int = 2048
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    dropout: float = 0.1  # of the embeddings, while training only

    def to_json(self) -> dict:
        """config.json as Qwen3Guard-Stream has it."""
        levels = {str(i): name for i, name in enumerate(LEVELS)}
        categories = {str(i): name for i, name in enumerate(CATEGORIES)}
        response_categories = {str(i): name for i, name in enumerate(CATEGORIES[:8])}
        kept = {k: v for k, v in self.__dict__.items() if k != "dropout"}
        return {
            "_name_or_path": "nano", "architectures": ["Qwen3ForGuardModel"], "model_type": "qwen3", **kept,
            "attention_bias": False, "attention_dropout": 0.0, "hidden_act": "silu", "initializer_range": 0.02, "tie_word_embeddings": True,
            "rope_scaling": None, "sliding_window": None, "use_sliding_window": False, "max_window_layers": self.num_hidden_layers, "use_cache": True, "torch_dtype": "bfloat16",
            "num_risk_level": 3, "num_category": 8, "num_query_risk_level": 3, "num_query_category": 9,
            "response_risk_level_map": levels, "response_category_map": response_categories, "query_risk_level_map": levels, "query_category_map": categories}


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def linear(n_in: int, n_out: int) -> nn.Linear:
    return nn.Linear(n_in, n_out, bias=False)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE with halves: dimension i turns with dimension i + D/2."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.q_proj = linear(c.hidden_size, c.num_attention_heads * c.head_dim)
        self.k_proj = linear(c.hidden_size, c.num_key_value_heads * c.head_dim)
        self.v_proj = linear(c.hidden_size, c.num_key_value_heads * c.head_dim)
        self.o_proj = linear(c.num_attention_heads * c.head_dim, c.hidden_size)
        self.q_norm, self.k_norm = RMSNorm(c.head_dim, c.rms_norm_eps), RMSNorm(c.head_dim, c.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        b, t, _ = x.shape
        heads = lambda y, n: y.view(b, t, n, self.c.head_dim).transpose(1, 2)
        q = rotate(self.q_norm(heads(self.q_proj(x), self.c.num_attention_heads)), cos, sin)
        k = rotate(self.k_norm(heads(self.k_proj(x), self.c.num_key_value_heads)), cos, sin)
        v = heads(self.v_proj(x), self.c.num_key_value_heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).reshape(b, t, -1))


class MLP(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = linear(c.hidden_size, c.intermediate_size), linear(c.hidden_size, c.intermediate_size)
        self.down_proj = linear(c.intermediate_size, c.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps), RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn, self.mlp = Attention(c), MLP(c)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Backbone(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.dropout = nn.Dropout(c.dropout)
        turns = c.rope_theta ** (-torch.arange(0, c.head_dim, 2) / c.head_dim)
        angles = torch.outer(torch.arange(c.max_position_embeddings), turns)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.dropout(self.embed_tokens(ids))
        cos, sin = self.cos[: ids.shape[1]].to(x.dtype), self.sin[: ids.shape[1]].to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)


class GuardModel(nn.Module):
    """Parameter names are those of the published checkpoints."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.model = Backbone(c)
        for role, categories in [("", 8), ("query_", 9)]:
            setattr(self, f"{role}risk_level_category_pre", linear(c.hidden_size, c.guard_inner_size))
            setattr(self, f"{role}risk_level_category_layernorm", RMSNorm(c.guard_inner_size, c.rms_norm_eps))
            setattr(self, f"{role}risk_level_head", linear(c.guard_inner_size, 3))
            setattr(self, f"{role}category_head", linear(c.guard_inner_size, categories))
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def heads(self, hidden: Tensor, role: str) -> tuple[Tensor, Tensor]:
        """(level logits, category logits) of role "" (response) or "query_"."""
        x = getattr(self, f"{role}risk_level_category_layernorm")(getattr(self, f"{role}risk_level_category_pre")(hidden))
        return getattr(self, f"{role}risk_level_head")(x), getattr(self, f"{role}category_head")(x)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        hidden = self.model(ids)
        return *self.heads(hidden, ""), *self.heads(hidden, "query_")
