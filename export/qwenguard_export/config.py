"""Reads and checks a checkpoint's config.json."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import limits
from .errors import ExportError
from .files import is_text, shown

# What is exported, by config.json's `architectures`: a guard with heads of its own, or a causal LM that writes
# verdicts.
STREAM, GEN = "stream", "gen"
ARCHITECTURES = {"Qwen3ForGuardModel": STREAM, "Qwen3ForCausalLM": GEN}

# Where config.json has the labels of each head: the key of their number, the key of their map.
LABEL_KEYS = {
    "response_risk": ("num_risk_level", "response_risk_level_map"),
    "response_category": ("num_category", "response_category_map"),
    "query_risk": ("num_query_risk_level", "query_risk_level_map"),
    "query_category": ("num_query_category", "query_category_map"),
}

# What float32 can compute with.
_EPSILON = (1e-12, 1.0)
_ROPE_THETA = (1.0, 1e12)


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
    rms_norm_eps: float
    rope_theta: float
    context: int
    # Of a Stream model: None and empty otherwise.
    guard_inner_size: int | None = None
    labels: dict[str, list[str]] = field(default_factory=dict)
    # Of a Gen model: whether the embedding is its LM head too, and the ids that end an answer.
    tied: bool = False
    end_tokens: tuple[int, ...] = ()

    @property
    def architecture(self) -> str:
        return next(name for name, variant in ARCHITECTURES.items() if variant == self.variant)

    @property
    def variant(self) -> str:
        return STREAM if self.labels else GEN

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
    variant = _variant(keys)
    _refuse_unsupported(keys)
    own = _stream_keys(keys) if variant == STREAM else _gen_keys(keys)
    config = ModelConfig(
        vocab_size=keys.size("vocab_size", limits.VOCABULARY),
        hidden_size=keys.size("hidden_size", limits.HIDDEN_SIZE),
        num_layers=keys.size("num_hidden_layers", limits.LAYERS),
        num_heads=keys.size("num_attention_heads", limits.HEADS),
        num_kv_heads=keys.size("num_key_value_heads", limits.HEADS),
        head_dim=keys.size("head_dim", limits.HEAD_DIM),
        # Its gate and its values lie side by side.
        intermediate_size=keys.size("intermediate_size", limits.GRAPH_WIDTH // 2),
        rms_norm_eps=keys.number("rms_norm_eps", *_EPSILON),
        rope_theta=_rope_theta(keys),
        context=keys.size("max_position_embeddings", limits.CONTEXT),
        **own,
    )
    _check_layer_types(keys, config.num_layers)
    if config.num_heads % config.num_kv_heads:
        keys.fail("num_key_value_heads", f"{config.num_kv_heads} does not divide {config.num_heads} heads")
    if config.head_dim % limits.HEAD_DIM_MULTIPLE:
        keys.fail("head_dim", f"{config.head_dim} is not a multiple of {limits.HEAD_DIM_MULTIPLE}")
    return config


def _variant(keys: _Keys) -> str:
    value = keys.required("architectures")
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) and value[0] in ARCHITECTURES:
        return ARCHITECTURES[value[0]]
    keys.fail("architectures", f"{shown(value)} is not supported, expected one of {', '.join(ARCHITECTURES)}")
    raise AssertionError


def _stream_keys(keys: _Keys) -> dict[str, Any]:
    return {
        "guard_inner_size": keys.size("guard_inner_size", limits.HIDDEN_SIZE),
        "labels": {
            name: keys.labels(count, table, is_risk=name.endswith("risk"))
            for name, (count, table) in LABEL_KEYS.items()
        },
    }


def _gen_keys(keys: _Keys) -> dict[str, Any]:
    # Missing means untied, as for transformers.
    return {"tied": bool(keys.data.get("tie_word_embeddings")), "end_tokens": keys.token_ids("eos_token_id")}


def end_tokens(data: Any, file: str) -> tuple[int, ...]:
    """The ids that end an answer, from generation_config.json; what it says of sampling is not followed."""
    if not isinstance(data, dict):
        raise ExportError(f"{file}: not a JSON object")
    return _Keys(data, file).token_ids("eos_token_id")


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

    def size(self, key: str, most: int) -> int:
        value = self.required(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self.fail(key, f"expected a positive integer, found {shown(value)}")
        if value > most:
            self.fail(key, f"{shown(value)}, at most {most} is supported")
        return value

    def number(self, key: str, least: float, most: float) -> float:
        value = self.required(key)
        if not _is_number(value) or not 0 < value < float("inf"):
            self.fail(key, f"expected a positive number, found {shown(value)}")
        if not least <= value <= most:
            self.fail(key, f"{shown(value)}, {least:g} to {most:g} is supported")
        return float(value)

    def expect(self, key: str, wanted: Any) -> None:
        value = self.required(key)
        if value != wanted:
            self.fail(key, f"{shown(value)} is not supported, expected {wanted!r}")

    def flag(self, key: str, *allowed: bool) -> None:
        """A key that may be missing."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, bool):
            self.fail(key, f"expected true or false, found {shown(value)}")
        if value is not None and value not in allowed:
            self.fail(key, f"{value!r} is not supported")

    def token_ids(self, key: str) -> tuple[int, ...]:
        """A key that may be missing: an id, or a list of ids."""
        value = self.data.get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if len(ids) > limits.END_TOKENS:
            self.fail(key, f"{len(ids)} tokens, at most {limits.END_TOKENS} are supported")
        for token in ids:
            if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < limits.VOCABULARY:
                self.fail(key, f"expected token ids, found {shown(token)}")
        return tuple(dict.fromkeys(ids))

    def labels(self, count_key: str, map_key: str, is_risk: bool) -> list[str]:
        count = self.size(count_key, limits.CATEGORIES)
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
            self._check_label(map_key, index, label)
        # Published checkpoints have quotes around some labels; of a level they do not matter.
        names = [label.strip('"') for label in labels] if is_risk else labels
        for index, name in enumerate(names):
            if name in names[:index]:
                self.fail(map_key, f"{labels[index]!r} appears twice")
            if is_risk and name not in limits.RISKS:
                self.fail(map_key, f'label "{index}": {labels[index]!r} is not a known level')
        if is_risk and (limits.RISKS[0] not in names or count < 2):
            self.fail(map_key, f"expected {limits.RISKS[0]} and at least one level above it")
        return labels

    def _check_label(self, key: str, index: int, label: Any) -> None:
        if not isinstance(label, str) or not label.strip():
            self.fail(key, f'label "{index}" is not a non-empty string')
        if not is_text(label) or any(unicodedata.category(character) == "Cc" for character in label):
            self.fail(key, f'label "{index}" has control characters or lone surrogates: {shown(ascii(label))}')
        if len(label.encode()) > limits.LABEL_BYTES:
            self.fail(key, f'label "{index}" has {len(label.encode())} bytes, at most {limits.LABEL_BYTES}')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _refuse_unsupported(keys: _Keys) -> None:
    keys.expect("model_type", "qwen3")
    keys.expect("hidden_act", "silu")
    for key in ("attention_bias", "mlp_bias", "use_sliding_window"):
        keys.flag(key, False)
    keys.flag("tie_word_embeddings", False, True)
    if keys.data.get("quantization_config") is not None:
        keys.fail("quantization_config", f"{shown(keys.data['quantization_config'])} is not supported")
    for key in ("rope_scaling", "rope_parameters"):
        _refuse_rope_variant(keys, key)
    if keys.data.get("partial_rotary_factor") is not None:
        keys.number("partial_rotary_factor", 1, 1)


def _check_layer_types(keys: _Keys, layers: int) -> None:
    kinds = keys.data.get("layer_types")
    if kinds is None:
        return
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        keys.fail("layer_types", "only full_attention is supported")
    if len(kinds) != layers:
        keys.fail("layer_types", f"{len(kinds)} entries for {layers} layers")


def _refuse_rope_variant(keys: _Keys, key: str) -> None:
    rope = keys.data.get(key)
    if rope is None:
        return
    if not isinstance(rope, dict):
        keys.fail(key, f"expected an object, found {shown(rope)}")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        keys.fail(key, f"rope type {shown(kind)} is not supported")
    # Of every kind of layer its own, or of a part of each head.
    for name, value in rope.items():
        if isinstance(value, (dict, list)) or (name == "partial_rotary_factor" and value != 1):
            keys.fail(key, f"{shown(name)}: {shown(value)} is not supported")


def _rope_theta(keys: _Keys) -> float:
    """Older files have rope_theta at the top, newer ones inside rope_parameters."""
    nested = keys.data.get("rope_parameters") or {}
    found = [
        place.number("rope_theta", *_ROPE_THETA)
        for place in (keys, _Keys(nested, f"{keys.file}: rope_parameters"))
        if "rope_theta" in place.data
    ]
    if not found:
        keys.fail("rope_theta", "missing")
    if found[0] != found[-1]:
        keys.fail("rope_theta", f"{found[0]}, but rope_parameters has {found[-1]}")
    return found[0]
