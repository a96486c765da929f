"""Small random checkpoints in the Hugging Face format."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
)
# Of a Gen checkpoint: all in a user's turn, judged by the role of the last message.
GEN_TEMPLATE = (
    "{{- '<|im_start|>user\\nSafe Unsafe Controversial\\nViolent, Non-violent Illegal Acts, ' }}"
    "{{- 'Sexual Content or Sexual Acts, PII, Suicide & Self-Harm, Unethical Acts, Politically Sensitive Topics, ' }}"
    "{{- 'Copyright Violation' ~ (', Jailbreak' if messages[-1].role == 'user' else '') ~ '\\n' }}"
    "{%- for message in messages %}{{- message.role ~ ': ' ~ message.content ~ '\\n' }}{%- endfor %}"
    "{{- '<|im_end|>\\n<|im_start|>assistant\\n' }}"
)
SPECIAL_TOKENS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
DTYPES = {"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}

Tensors = dict[str, np.ndarray]


def labels(*names: str) -> dict[str, str]:
    return {str(index): name for index, name in enumerate(names)}


def small_config(**changes: Any) -> dict[str, Any]:
    """Sizes that divide by nothing convenient: hidden is no multiple of a group, head_dim is not hidden / heads."""
    config = {
        "architectures": ["Qwen3ForGuardModel"],
        "model_type": "qwen3",
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "intermediate_size": 104,
        "guard_inner_size": 24,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000,
        "max_position_embeddings": 128,
        "vocab_size": 300,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "num_risk_level": 3,
        "num_category": 4,
        "num_query_risk_level": 3,
        "num_query_category": 5,
        "response_risk_level_map": labels("Safe", "Unsafe", "Controversial"),
        "response_category_map": labels('"Violent"', "PII", "Self-Harm", "Other"),
        "query_risk_level_map": labels("Safe", "Unsafe", "Controversial"),
        "query_category_map": labels('"Violent"', "PII", "Self-Harm", "Other", "Jailbreak"),
    }
    config.update(changes)
    return {key: value for key, value in config.items() if value is not None}


def gen_config(**changes: Any) -> dict[str, Any]:
    """The same sizes for a causal LM; its context holds the template, of which every byte is a token."""
    config = {key: value for key, value in small_config().items() if "risk" not in key and "category" not in key}
    del config["guard_inner_size"]
    config |= {"architectures": ["Qwen3ForCausalLM"], "max_position_embeddings": 1024, **changes}
    return {key: value for key, value in config.items() if value is not None}


def gen_spec(**changes: Any) -> Spec:
    """A Gen checkpoint to be written; `changes` are of its config."""
    return Spec(config=gen_config(**changes), template=GEN_TEMPLATE)


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, size = config["hidden_size"], config["head_dim"]
    q, kv = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    up = config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    if "guard_inner_size" in config:
        inner = config["guard_inner_size"]
        shapes |= {
            "risk_level_category_pre.weight": (inner, hidden),
            "risk_level_category_layernorm.weight": (inner,),
            "risk_level_head.weight": (config["num_risk_level"], inner),
            "category_head.weight": (config["num_category"], inner),
            "query_risk_level_category_pre.weight": (inner, hidden),
            "query_risk_level_category_layernorm.weight": (inner,),
            "query_risk_level_head.weight": (config["num_query_risk_level"], inner),
            "query_category_head.weight": (config["num_query_category"], inner),
        }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm.weight": (hidden,),
            prefix + "post_attention_layernorm.weight": (hidden,),
            prefix + "self_attn.q_proj.weight": (q, hidden),
            prefix + "self_attn.k_proj.weight": (kv, hidden),
            prefix + "self_attn.v_proj.weight": (kv, hidden),
            prefix + "self_attn.o_proj.weight": (hidden, q),
            prefix + "self_attn.q_norm.weight": (size,),
            prefix + "self_attn.k_norm.weight": (size,),
            prefix + "mlp.gate_proj.weight": (up, hidden),
            prefix + "mlp.up_proj.weight": (up, hidden),
            prefix + "mlp.down_proj.weight": (hidden, up),
        }
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    return shapes


def random_tensors(config: dict[str, Any], dtype: str = "F32") -> Tensors:
    generator = np.random.default_rng(7)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        values = generator.standard_normal(shape, dtype=np.float32)
        values = 1 + 0.2 * values if len(shape) == 1 else 0.2 * values
        tensors[name] = values.astype(DTYPES[dtype])
    return tensors


@dataclass
class Spec:
    """A checkpoint to be written; tests change what they want to break."""

    config: dict[str, Any] = field(default_factory=small_config)
    dtype: str = "F32"
    shards: int = 1
    template: str | None = TEMPLATE
    tokenizer_config: dict[str, Any] = field(default_factory=dict)
    special_tokens: list[str] = field(default_factory=lambda: list(SPECIAL_TOKENS))
    tensors: Tensors | None = None

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config))
        write_tokenizer(folder, self.special_tokens)
        (folder / "tokenizer_config.json").write_text(json.dumps(self.tokenizer_config))
        if self.template is not None:
            (folder / "chat_template.jinja").write_text(self.template)
        tensors = self.tensors if self.tensors is not None else random_tensors(self.config, self.dtype)
        write_tensors(folder, tensors, self.shards)
        return folder


def write_tokenizer(folder: Path, special_tokens: list[str] = SPECIAL_TOKENS) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special_tokens])
    tokenizer.save(str(folder / "tokenizer.json"))


def write_tensors(folder: Path, tensors: Tensors, shards: int) -> None:
    if shards == 1:
        save(folder / "model.safetensors", tensors)
        return
    weight_map = {}
    names = list(tensors)
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        save(folder / file, part)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def save(path: Path, tensors: Tensors) -> None:
    save_file(tensors, path, metadata={"format": "pt"})
