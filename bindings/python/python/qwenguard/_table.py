"""Columns of Arrow and pandas, which are imported only where they are handed in."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from numbers import Real
from typing import Any

from . import _native
from ._errors import ArgumentError, ConversationError, GuardError
from ._results import Annotation, Message, Risk, TextOverflow
from ._settings import Settings, document

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
    if isinstance(column, Mapping) or _is_table(column):
        raise TypeError(f"a list or a column is wanted, not {type(column).__name__}: annotate_table judges the rows of a table")
    if library == "pyarrow":
        found: list[Any] = column.to_pylist()  # type: ignore[attr-defined]
    elif library in ("pandas", "numpy"):
        found = [_unwrapped(value) for value in column.tolist()]  # type: ignore[attr-defined]
    elif isinstance(column, (str, bytes)):
        raise TypeError("a list of conversations is wanted, not one text")
    else:
        found = list(column)
    return found


def _unwrapped(value: Any) -> Any:
    library = _library(value)
    if library == "pandas" and type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float) and value != value:
        return None
    # Lists of a column of Parquet come as arrays, also those inside of messages.
    if library == "numpy" and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_unwrapped(one) for one in value]
    if isinstance(value, dict):
        return {name: _unwrapped(one) for name, one in value.items()}
    return value


def _is_table(value: Any) -> bool:
    attribute = {"pyarrow": "schema", "pandas": "columns"}.get(_library(value))
    return attribute is not None and hasattr(value, attribute)


def _names(table: Any) -> list[str]:
    if isinstance(table, Mapping):
        return list(table)
    if _is_table(table):
        return [str(name) for name in (table.schema.names if _library(table) == "pyarrow" else table.columns)]
    kind = f"{type(table).__module__}.{type(table).__name__}"
    raise TypeError(f"a table of Arrow, a data frame of pandas or a mapping of lists is wanted, not {kind}")


def _check_lengths(table: Any) -> None:
    """Columns of a mapping may be of any length, and a shorter one would put its values beside those of other rows."""
    if not isinstance(table, Mapping):
        return
    for name, column in table.items():
        if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
            raise TypeError(f"the column {name!r} is not a list but {type(column).__name__}")
    lengths = {name: len(column) for name, column in table.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise ValueError(f"the columns have different numbers of rows: {said}")


def _column(table: Any, names: list[str], name: str) -> list[Any]:
    if name not in names:
        raise KeyError(f"there is no column {name!r}; there are {', '.join(names)}")
    if names.count(name) > 1:
        raise ValueError(f"there are several columns {name!r}")
    return values(table[name] if _library(table) != "pyarrow" else table.column(name))


def conversations(table: Any, messages: str | None, prompt: str | None, response: str | None) -> list[Any]:
    """The conversation of each row, or the error that there is none."""
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
        return [_messages(messages, value) for value in _column(table, names, messages)]
    assert prompt is not None
    asked = [_text(prompt, value) for value in _column(table, names, prompt)]
    if response is None:
        return [text if isinstance(text, GuardError) else [("user", text)] for text in asked]
    answered = [_text(response, value) for value in _column(table, names, response)]
    return [_talk(*both) for both in zip(asked, answered, strict=True)]


def _talk(asked: str | GuardError, answered: str | GuardError) -> Any:
    for text in (asked, answered):
        if isinstance(text, GuardError):
            return text
    return [("user", asked), ("assistant", answered)]


def _messages(name: str, value: Any) -> Any:
    """A conversation: a list of messages, or that as JSON in a text."""
    if value is None:
        return ConversationError(f"conversation: {name} is null")
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        return ConversationError(f"conversation: {name} is a text, but not a list of messages in JSON: {error}")
    if not isinstance(found, list):
        return ConversationError(f"conversation: {name} is a text, but not a list of messages in JSON")
    return found


def _once(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(fields)
    if len(found) < len(fields):
        raise ValueError("a key stands there twice")
    return found


def _text(name: str, value: Any) -> str | GuardError:
    if isinstance(value, str):
        return value
    return ConversationError(f"conversation: {name} is {'null' if value is None else 'not a text'}")


def _score(name: str, value: Any) -> float | GuardError:
    if value is None:
        return ArgumentError(f"helpfulness: {name} is null")
    if isinstance(value, (Real, Decimal)) and not isinstance(value, bool):
        try:
            score = float(value)
        except (OverflowError, ValueError):
            score = math.inf
        return score if math.isfinite(score) else ArgumentError(f"helpfulness: {name} is not a finite number")
    return ArgumentError(f"helpfulness: {name} is not a number")


def _thinking(name: str, value: Any, row: Any) -> Any:
    """The conversation with the thinking as its answer; none where there was no thinking."""
    if value is None or isinstance(value, str) and not value:
        return None
    text = _text(name, value)
    if isinstance(text, GuardError):
        return text
    if isinstance(row, (list, tuple)) and not isinstance(row, Message):
        return [*row[:-1], ("assistant", text)]
    return ConversationError("conversation: it is not a list of messages")


def _check_rule(rule: Settings) -> None:
    """A rule that is wrong is no error of a row."""
    # There is nothing to reward, which is what is said if the rule is fine.
    with suppress(ArgumentError):
        _native.reward([], document(rule), 0.0)


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
    thinking: str | None,
) -> Any:
    """The table with columns for what ``annotate`` says of each row."""
    names = _names(table)
    _check_lengths(table)
    for argument, name in (("helpfulness", helpfulness), ("thinking", thinking)):
        if name is not None and reward is None:
            raise ValueError(f"{argument} is of use for rewards alone: give reward, too")
    if reward is not None:
        _check_rule(reward)
    wanted = column_names(overflow, reward is not None)
    taken = [prefix + name for name in wanted if prefix + name in names]
    if taken:
        raise ValueError(f"the table has a column {taken[0]!r} already: choose another prefix")
    rows = conversations(table, messages, prompt, response)
    scores: list[float | GuardError] = [0.0] * len(rows)
    thoughts: list[Any] = [None] * len(rows)
    if helpfulness is not None:
        scores = [_score(helpfulness, value) for value in _column(table, names, helpfulness)]
    if thinking is not None:
        column = _column(table, names, thinking)
        thoughts = [_thinking(thinking, value, row) for value, row in zip(column, rows, strict=True)]
    # What is judged of each row. Thinking and answer are neighbours: what comes before them is computed once.
    judged: list[list[Any]] = []
    for row, score, thought in zip(rows, scores, thoughts, strict=True):
        wrong = next((one for one in (row, score, thought) if isinstance(one, GuardError)), None)
        judged.append([wrong] if wrong is not None else [row] if thought is None else [thought, row])
    found = iter(annotate([one for some in judged for one in some]))
    made = [
        _row([next(found) for _ in some], reward, score, thinking) for some, score in zip(judged, scores, strict=True)
    ]
    return _with_columns(table, {name: [row.get(name) for row in made] for name in wanted}, prefix)


def _row(
    judged: list[Annotation | GuardError], reward: Settings | None, score: float | GuardError, thinking: str | None
) -> dict[str, Any]:
    *before, found = judged
    thought = before[0] if before else None
    if isinstance(found, GuardError):
        return _error(str(found))
    if isinstance(score, GuardError):
        return _error(str(score))
    if isinstance(thought, GuardError):
        return _error(f"{thinking}: {thought}")
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
            row["reward"] = found.reward(reward, score, thought)
        except GuardError as error:
            return _error(str(error))
    return row


def _error(reason: str) -> dict[str, Any]:
    # What is wrong may be quoted from the row, with surrogates that no column of texts takes.
    return {"error": reason.encode(errors="backslashreplace").decode()}


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
    # Arrays stay what they are; what is a sequence without being a list, such as a tuple, is one then.
    given = {name: list(column) if isinstance(column, Sequence) else column for name, column in table.items()}
    return given | {prefix + name: column for name, column in columns.items()}


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
