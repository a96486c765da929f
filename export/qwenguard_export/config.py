"""Reads and checks a checkpoint's config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ExportError

ARCHITECTURE = "Qwen3ForGuardModel"

# Where config.json has the labels of each head: the key of their number, the key of their map.
LABEL_KEYS = {
    "response_risk": ("num_risk_level", "response_risk_level_map"),
    "response_category": ("num_category", "response_category_map"),
    "query_risk": ("num_query_risk_level", "query_risk_level_map"),
    "query_category": ("num_query_category", "query_category_map"),
}


@dataclass(frozen=True)
class ModelConfig:
    """What the graph needs to know about the model. Every size comes from config.json."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    guard_inner_size: int
    rms_norm_eps: float
    rope_theta: float
    context: int
    labels: dict[str, list[str]]

    @property
    def q_size(self) -> int:
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_kv_heads * self.head_dim


def parse_config(data: Any, file: str = "config.json") -> ModelConfig:
    """Checks the parsed config.json and picks what is needed from it."""
    if not isinstance(data, dict):
        raise ExportError(f"{file}: not a JSON object")
    keys = _Keys(data, file)
    _refuse_unsupported(keys)
    config = ModelConfig(
        vocab_size=keys.size("vocab_size"),
        hidden_size=keys.size("hidden_size"),
        num_layers=keys.size("num_hidden_layers"),
        num_heads=keys.size("num_attention_heads"),
        num_kv_heads=keys.size("num_key_value_heads"),
        head_dim=keys.size("head_dim"),
        intermediate_size=keys.size("intermediate_size"),
        guard_inner_size=keys.size("guard_inner_size"),
        rms_norm_eps=keys.positive("rms_norm_eps"),
        rope_theta=_rope_theta(keys),
        context=keys.size("max_position_embeddings"),
        labels={name: keys.labels(count, table) for name, (count, table) in LABEL_KEYS.items()},
    )
    if config.num_heads % config.num_kv_heads:
        keys.fail("num_key_value_heads", f"{config.num_kv_heads} does not divide {config.num_heads} heads")
    if config.head_dim % 2:
        keys.fail("head_dim", f"{config.head_dim} is odd, rotary embedding needs pairs")
    return config


class _Keys:
    """Typed access to a JSON object; every failure names the file and the key."""

    def __init__(self, data: Mapping[str, Any], file: str) -> None:
        self.data = data
        self.file = file

    def fail(self, key: str, problem: str) -> None:
        raise ExportError(f"{self.file}: {key}: {problem}")

    def required(self, key: str) -> Any:
        if key not in self.data:
            self.fail(key, "missing")
        return self.data[key]

    def size(self, key: str) -> int:
        value = self.required(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.fail(key, f"expected a positive integer, found {value!r}")
        return value

    def positive(self, key: str) -> float:
        value = self.required(key)
        if not _is_number(value) or not 0 < value < float("inf"):
            self.fail(key, f"expected a positive number, found {value!r}")
        return float(value)

    def expect(self, key: str, wanted: Any) -> None:
        value = self.required(key)
        if value != wanted:
            self.fail(key, f"{value!r} is not supported, expected {wanted!r}")

    def refuse_if_set(self, key: str) -> None:
        if self.data.get(key):
            self.fail(key, f"{self.data[key]!r} is not supported")

    def labels(self, count_key: str, map_key: str) -> list[str]:
        count = self.size(count_key)
        table = self.required(map_key)
        if not isinstance(table, dict):
            self.fail(map_key, "expected an object from index to label")
        if len(table) != count:
            self.fail(map_key, f"{len(table)} labels, but {count_key} is {count}")
        for index in range(count):
            if str(index) not in table:
                self.fail(map_key, f'no label for index "{index}"')
        labels = [table[str(index)] for index in range(count)]
        for index, label in enumerate(labels):
            if not isinstance(label, str) or not label:
                self.fail(map_key, f'label "{index}" is not a non-empty string')
        return labels


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _refuse_unsupported(keys: _Keys) -> None:
    keys.expect("architectures", [ARCHITECTURE])
    keys.expect("model_type", "qwen3")
    keys.expect("hidden_act", "silu")
    for key in ("attention_bias", "mlp_bias", "use_sliding_window", "quantization_config"):
        keys.refuse_if_set(key)
    for key in ("rope_scaling", "rope_parameters"):
        _refuse_rope_variant(keys, key)
    if keys.data.get("partial_rotary_factor", 1) != 1:
        keys.fail("partial_rotary_factor", f"{keys.data['partial_rotary_factor']!r} is not supported")
    layer_types = keys.data.get("layer_types") or []
    if not isinstance(layer_types, list) or any(kind != "full_attention" for kind in layer_types):
        keys.fail("layer_types", "only full_attention is supported")
    if not isinstance(keys.data.get("tie_word_embeddings", False), bool):
        keys.fail("tie_word_embeddings", "expected true or false")


def _refuse_rope_variant(keys: _Keys, key: str) -> None:
    rope = keys.data.get(key)
    if rope is None:
        return
    if not isinstance(rope, dict):
        keys.fail(key, f"expected an object, found {rope!r}")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        keys.fail(key, f"rope type {kind!r} is not supported")


def _rope_theta(keys: _Keys) -> float:
    """Older files have rope_theta at the top, newer ones inside rope_parameters."""
    if "rope_theta" in keys.data:
        return keys.positive("rope_theta")
    nested = keys.data.get("rope_parameters") or {}
    return _Keys(nested, f"{keys.file}: rope_parameters").positive("rope_theta")
