"""Labelled conversations, in the layouts that there are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .._errors import ConversationError
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

    def __post_init__(self) -> None:
        if self.onset is not None:
            _check_onset("onset", self.onset, self.answer)
        if self.token_range is not None and not 0 <= self.token_range[0] <= self.token_range[1]:
            raise ValueError("the tokens {} to {} of the first unsafe sentence are no range".format(*self.token_range))

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
    without ``response``; ``label``; and if they are there ``id``, ``category``, ``language``, ``onset`` (a character of the
    answer).

    Messages are read as :meth:`Guard.annotate` reads them: a field with text that would not be judged is an error. Places are
    not looked at where the label is Safe.

    :param kind: ``prompt`` leaves answers out, ``response`` wants them; ``auto`` takes rows as they are.
    :raises DataError: at a row that cannot be read.
    """
    found: list[Case] = []
    for index, (place, row) in enumerate(_rows(Path(path))):
        if limit is not None and len(found) == limit:
            break
        try:
            if not isinstance(row, dict):
                raise ValueError("it is not an object")
            found.append(_case(index, row, kind))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path}: {place}: {reason}") from None
    if not found:
        raise DataError(f"{path}: there is no row")
    return found


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows with their places: lines from 1, as editors count them, and rows from 0 where there are no lines."""
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise DataError(f"{path}: Parquet needs the package pyarrow") from None
        rows = (row for batch in parquet.ParquetFile(path).iter_batches() for row in batch.to_pylist())
        yield from ((f"row {index}", row) for index, row in enumerate(rows))
        return
    text = read_text(path)
    if text.lstrip().startswith("["):
        yield from ((f"row {index}", row) for index, row in enumerate(_json(f"{path}: it", text)))
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", _json(f"{path}: line {number}", line)


def read_text(path: str | Path) -> str:
    """The text of a file.

    :raises DataError: if it is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: it is not UTF-8: {error}") from None


def _json(at: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{at} is not JSON: {error}") from None


def _case(index: int, row: dict[str, Any], kind: str) -> Case:
    if "Query" in row:
        case = _sing_stream(index, row, kind)
    else:
        case = _plain(index, row, kind)
    if kind == "prompt" and not case.is_prompt:
        case.messages = case.messages[:-1]
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


def _plain(index: int, row: dict[str, Any], kind: str) -> Case:
    name = next((name for name in ("messages", "message") if row.get(name) is not None), None)
    if name is not None:
        messages = _messages(name, row[name])
    else:
        messages = [("user", _said(row, "prompt"))]
        if row.get("response") is not None:
            messages.append(("assistant", _said(row, "response")))
    label = _label("label", row["label"])
    # A safe answer has no place, and that of an answer which is left out does not matter.
    placed = label != "Safe" and kind != "prompt"
    onset = _whole("onset", row["onset"]) if placed and row.get("onset") is not None else None
    if onset is not None and name is not None:
        _check_content(name, row[name], messages)
    return Case(
        id=str(row.get("unique_id", row.get("id", index))),
        messages=messages,
        label=label,
        category=_text(row, "unsafe_type", "category"),
        language=_text(row, "language", "lang"),
        token_range=_token_range(row, messages) if placed else None,
        onset=onset,
        input_ids=row.get("input_ids"),
        row=row,
    )


def _messages(name: str, conversation: Any) -> list[tuple[str, str]]:
    if not isinstance(conversation, list) or not conversation:
        raise ValueError(f"{name} is no list of messages" if conversation != [] else f"{name}: there is no message")
    try:
        return pairs([tuple(one) if isinstance(one, list) else one for one in conversation])
    except (ConversationError, TypeError) as error:
        # The library calls the list so, whatever the row calls it.
        raise ValueError(str(error).removeprefix("conversation: ").replace("messages[", f"{name}[", 1)) from None


def _check_content(name: str, conversation: list[Any], messages: list[tuple[str, str]]) -> None:
    """A place among the characters of the content means another one where thinking or tool calls are judged with it."""
    last = conversation[-1]
    if isinstance(last, Mapping) and last.get("content") != messages[-1][1]:
        at = f"{name}[{len(messages) - 1}]"
        raise ValueError(f"onset: the text of {at} is not its content alone, so that it is not known which character is meant")


def _token_range(row: dict[str, Any], messages: list[tuple[str, str]]) -> tuple[int, int] | None:
    names = "unsafe_start_index", "unsafe_end_index"
    there = [name for name in names if row.get(name) is not None]
    if not there:
        return None
    if len(there) == 1:
        raise ValueError(f"{there[0]} is there without {names[1 - names.index(there[0])]}")
    if messages[-1][0] == "user":
        raise ValueError(f"{names[0]}: there is no answer")
    start, end = (_whole(name, row[name]) for name in names)
    if start < 0 or end < start:
        raise ValueError(f"{names[0]} is {start} and {names[1]} {end}, which is no range of tokens")
    if row.get("input_ids") is not None and start >= len(row["input_ids"]):
        raise ValueError(f"{names[0]} is {start}, but input_ids are {len(row['input_ids'])} tokens")
    return start, end


def _whole(name: str, value: Any) -> int:
    try:
        number = int(value)
        if isinstance(value, bool) or number != float(value):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {value!r}, not a whole number") from None
    return number


def _check_onset(name: str, onset: int, answer: str) -> None:
    if not 0 <= onset < len(answer):
        raise ValueError(f"{name} is {onset}, which is no character of the answer: it has {len(answer)}")


def _said(row: dict[str, Any], name: str) -> str:
    if not isinstance(row[name], str):
        raise ValueError(f"{name} is not a text")
    return str(row[name])


def _sing_stream(index: int, row: dict[str, Any], kind: str) -> Case:
    messages, label = [("user", _said(row, "Query"))], _label("Query_Label", row["Query_Label"])
    onset = None
    if kind != "prompt":
        messages.append(("assistant", _said(row, "Response")))
        label = _label("Response_Label", row["Response_Label"])
        # As long as the answer where that is safe.
        if label != "Safe":
            onset = _whole("Unsafe_Start_Index", row["Unsafe_Start_Index"])
            _check_onset("Unsafe_Start_Index", onset, messages[-1][1])
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
