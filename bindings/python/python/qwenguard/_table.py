"""Columns of Arrow and pandas, which are imported only where they are handed in."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ._errors import GuardError
from ._results import Annotation, Risk, TextOverflow

if TYPE_CHECKING:
    from ._settings import Settings

# The columns of `qwenguard annotate --out`, in its order. Those of cut texts and of rewards are there where they are asked for.
_TYPES = {
    "mode": "string",
    "risk": "string",
    "safe": "float32",
    "controversial": "float32",
    "unsafe": "float32",
    "categories": "list",
    "category_probs": "map",
    "refusal": "bool_",
    "refusal_prob": "float32",
    "parsed": "bool_",
    "answer": "string",
    "is_cut": "bool_",
    "windows": "int64",
    "decision": "string",
    "rule": "string",
    "reward": "float64",
    "error": "string",
}
_CUT = ("is_cut", "windows")


def column_names(overflow: TextOverflow | str, rewards: bool) -> list[str]:
    """The names of the new columns, without the prefix."""
    left_out = {*(() if overflow != TextOverflow.REFUSE else _CUT), *(() if rewards else ("reward",))}
    return [name for name in _TYPES if name not in left_out]


def _library(value: Any) -> str:
    """The package that a value's class is of."""
    return type(value).__module__.split(".")[0]


def values(column: Iterable[Any]) -> list[Any]:
    """The values of a column. Those of pandas that are missing are none."""
    library = _library(column)
    if library == "pyarrow":
        found: list[Any] = column.to_pylist()  # type: ignore[attr-defined]
    elif library in ("pandas", "numpy"):
        found = [_unwrapped(value) for value in column.tolist()]  # type: ignore[attr-defined]
    elif isinstance(column, (str, bytes)):
        raise TypeError("a list of conversations is wanted, not one text")
    else:
        found = list(column)
    return [_Missing() if value is None else value for value in found]


class _Missing(list[Any]):
    """A row without a conversation: it has no message, which is its error."""


def _unwrapped(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value != value:
        return None
    # Lists of a column of Parquet come as arrays.
    return value.tolist() if _library(value) == "numpy" else value


def _names(table: Any) -> list[str]:
    if _library(table) == "pyarrow":
        return list(table.schema.names)
    if isinstance(table, Mapping):
        return list(table)
    if _library(table) == "pandas":
        return [str(name) for name in table.columns]
    kind = f"{type(table).__module__}.{type(table).__name__}"
    raise TypeError(f"a table of Arrow, a data frame of pandas or a mapping of lists is wanted, not {kind}")


def _column(table: Any, names: list[str], name: str) -> list[Any]:
    if name not in names:
        raise KeyError(f"there is no column {name!r}; there are {', '.join(names)}")
    return values(table[name] if _library(table) != "pyarrow" else table.column(name))


def conversations(table: Any, messages: str | None, prompt: str | None, response: str | None) -> list[Any]:
    """The conversation of each row."""
    names = _names(table)
    if messages is None and prompt is None:
        messages = "messages" if "messages" in names else None
        prompt = None if messages else next((name for name in ("prompt", "text") if name in names), None)
        if prompt == "prompt" and response is None and "response" in names:
            response = "response"
        if messages is None and prompt is None:
            raise KeyError(f"there is no column messages, prompt or text; there are {', '.join(names)}")
    if messages is not None:
        if prompt is not None or response is not None:
            raise ValueError("either messages or prompt and response")
        return _column(table, names, messages)
    assert prompt is not None
    asked = _column(table, names, prompt)
    if response is None:
        return [_texts(user=text) for text in asked]
    answered = _column(table, names, response)
    return [_texts(user=text, assistant=answer) for text, answer in zip(asked, answered)]


def _texts(**texts: Any) -> Any:
    pairs = list(texts.items())
    return _Missing() if any(isinstance(text, _Missing) for _, text in pairs) else pairs


def annotated(
    annotate: Callable[[list[Any]], list[Annotation | GuardError]],
    table: Any,
    messages: str | None,
    prompt: str | None,
    response: str | None,
    prefix: str,
    overflow: TextOverflow | str,
    reward: Settings | None,
    helpfulness: str | None,
) -> Any:
    """The table with columns for what ``annotate`` says of each row."""
    rows = conversations(table, messages, prompt, response)
    names = _names(table)
    scores: list[Any] = [0.0] * len(rows) if helpfulness is None else _column(table, names, helpfulness)
    wanted = column_names(overflow, reward is not None)
    taken = [prefix + name for name in wanted if prefix + name in names]
    if taken:
        raise ValueError(f"the table has a column {taken[0]!r} already: choose another prefix")
    made = [_row(one, reward, score) for one, score in zip(annotate(rows), scores)]
    return _with_columns(table, {name: [row.get(name) for row in made] for name in wanted}, prefix)


def _row(found: Annotation | GuardError, reward: Settings | None, score: Any) -> dict[str, Any]:
    if isinstance(found, GuardError):
        return {"error": str(found)}
    row: dict[str, Any] = {
        "mode": str(found.mode),
        "risk": str(found.risk),
        "categories": list(found.categories),
        "refusal": found.refusal,
        "refusal_prob": found.refusal_probability,
        "parsed": found.parsed,
        "answer": found.answer or None,
        "is_cut": found.is_cut,
        "windows": found.windows,
        "decision": str(found.decision),
        "rule": found.finding.rule if found.finding else None,
    }
    if found.risk_probabilities:
        for risk in Risk:
            row[str(risk).lower()] = found.probability(risk)
    if found.category_probabilities is not None:
        # With the place of "None" among them.
        row["category_probs"] = json.loads(found.json())["category_probs"]
    if reward is not None:
        try:
            row["reward"] = found.reward(reward, float("nan") if isinstance(score, _Missing) else float(score))
        except GuardError as error:
            return {"error": str(error)}
    return row


def _with_columns(table: Any, columns: dict[str, list[Any]], prefix: str) -> Any:
    library = _library(table)
    if library == "pyarrow":
        return _with_arrays(table, columns, prefix)
    if library == "pandas":
        pandas = importlib.import_module("pandas")
        kinds = {"float32": "Float32", "float64": "Float64", "bool_": "boolean", "int64": "Int64"}
        made = {
            prefix + name: pandas.Series(pandas.array(column, dtype=kinds.get(_TYPES[name], "object")), table.index)
            for name, column in columns.items()
        }
        return table.assign(**made)
    return {**table, **{prefix + name: column for name, column in columns.items()}}


def _with_arrays(table: Any, columns: dict[str, list[Any]], prefix: str) -> Any:
    arrow = importlib.import_module("pyarrow")
    special = {"list": arrow.list_(arrow.string()), "map": arrow.map_(arrow.string(), arrow.float32())}
    for name, column in columns.items():
        kind = _TYPES[name]
        if kind == "map":
            column = [value if value is None else list(value.items()) for value in column]
        array = arrow.array(column, special[kind] if kind in special else getattr(arrow, kind)())
        if isinstance(table, arrow.RecordBatch):
            schema = table.schema.append(arrow.field(prefix + name, array.type))
            table = arrow.RecordBatch.from_arrays([*table.columns, array], schema=schema)
        else:
            table = table.append_column(prefix + name, array)
    return table
