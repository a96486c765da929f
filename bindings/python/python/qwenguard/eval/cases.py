"""Labelled conversations, in the layouts that there are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._messages import pairs

LABELS = {"safe": "Safe", "unsafe": "Unsafe", "controversial": "Controversial"}


class DataError(ValueError):
    """A row that cannot be read: the file, the row and the field are named."""


@dataclass(slots=True)
class Case:
    """A labelled conversation."""

    id: str
    messages: list[tuple[str, str]]
    label: str
    """``Safe``, ``Unsafe`` or ``Controversial``."""
    category: str | None = None
    language: str | None = None
    token_range: tuple[int, int] | None = None
    """The first and the last token of the first unsafe sentence, counted in the whole rendered conversation."""
    onset: int | None = None
    """The first unsafe character of the answer."""
    input_ids: list[int] | None = None
    """The tokens of the rendered conversation, where the row has them."""
    row: dict[str, Any] = field(default_factory=dict)
    """The row as it was."""

    @property
    def is_prompt(self) -> bool:
        """Whether a prompt is judged: the last message is the user's."""
        return self.messages[-1][0] == "user"

    @property
    def answer(self) -> str:
        """The answer that is judged; empty for a prompt."""
        return "" if self.is_prompt else self.messages[-1][1]


def read_cases(path: str | Path, kind: str = "auto", limit: int | None = None) -> list[Case]:
    """Reads JSON lines, a JSON array or Parquet.

    The layouts are those of Qwen3GuardTest (``message``, ``label``, ``unsafe_type``, ``unsafe_start_index``), of SingStreamBench
    (``Query``, ``Response``, ``Response_Label``, ``Unsafe_Start_Index``) and plain rows: ``messages``, or ``prompt`` with or
    without ``response``; ``label``; and ``id``, ``category``, ``language``, ``onset`` (a character of the answer) if they are there.

    :param kind: ``prompt`` leaves answers out, ``response`` wants them; ``auto`` takes rows as they are.
    :raises DataError: at a row that cannot be read.
    """
    found: list[Case] = []
    for index, row in enumerate(_rows(Path(path))):
        if limit is not None and len(found) == limit:
            break
        try:
            found.append(_case(index, row, kind))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path}: row {index}: {reason}") from None
    if not found:
        raise DataError(f"{path}: there is no row")
    return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise DataError(f"{path}: Parquet needs the package pyarrow") from None
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
        return
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        yield from json.loads(text)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"{path}: line {number} is not JSON: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}: line {number} is not an object")
            yield row


def _case(index: int, row: dict[str, Any], kind: str) -> Case:
    if "Query" in row:
        case = _sing_stream(index, row, kind)
    else:
        case = _plain(index, row)
    if not case.messages:
        raise ValueError("there is no message")
    if kind == "prompt" and not case.is_prompt:
        case.messages, case.token_range, case.onset = case.messages[:-1], None, None
    if kind == "prompt" and not case.messages or kind == "response" and case.is_prompt:
        raise ValueError(f"there is no {kind} to judge")
    return case


def _label(name: str, value: Any) -> str:
    if isinstance(value, bool) or value in (0, 1):
        return "Unsafe" if value else "Safe"
    label = LABELS.get(str(value).strip().lower())
    if label is None:
        raise ValueError(f"{name} is {value!r}, not Safe, Unsafe or Controversial")
    return label


def _plain(index: int, row: dict[str, Any]) -> Case:
    conversation = row.get("messages") or row.get("message")
    if conversation is None:
        conversation = [("user", str(row["prompt"]))]
        if row.get("response") is not None:
            conversation.append(("assistant", str(row["response"])))
    start, end = row.get("unsafe_start_index"), row.get("unsafe_end_index")
    return Case(
        id=str(row.get("unique_id", row.get("id", index))),
        messages=pairs([_message(one) for one in conversation]),
        label=_label("label", row["label"]),
        category=_text(row, "unsafe_type", "category"),
        language=_text(row, "language", "lang"),
        token_range=None if start is None or end is None else (int(start), int(end)),
        onset=None if row.get("onset") is None else int(row["onset"]),
        input_ids=row.get("input_ids"),
        row=row,
    )


def _message(message: Any) -> Any:
    # Fields of a message that are not said by anybody are none of its text here.
    if isinstance(message, Mapping):
        return {name: message[name] for name in ("role", "content")}
    return tuple(message)


def _sing_stream(index: int, row: dict[str, Any], kind: str) -> Case:
    messages, label = [("user", str(row["Query"]))], _label("Query_Label", row["Query_Label"])
    onset = None
    if kind != "prompt":
        messages.append(("assistant", str(row["Response"])))
        label = _label("Response_Label", row["Response_Label"])
        # As long as the answer where that is safe.
        onset = int(row["Unsafe_Start_Index"]) if label != "Safe" else None
    return Case(
        id=str(row.get("id", row.get("ID", index))),
        messages=messages,
        label=label,
        category=_text(row, "Category", "category", "Unsafe_Type"),
        language=_text(row, "Language", "language"),
        onset=onset,
        row=row,
    )


def _text(row: dict[str, Any], *names: str) -> str | None:
    return next((str(row[name]) for name in names if row.get(name) not in (None, "")), None)
