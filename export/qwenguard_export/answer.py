"""What a Gen model answers: the texts of its lines, as data, and the tokens that decide between them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from . import limits
from .errors import ExportError
from .files import is_text, read_bytes, shown

PROMPT, RESPONSE = MODES = ("prompt", "response")

# Ids of each piece of the grammar, by its text.
Pieces = dict[str, list[int]]
# Sequences of tokens that are decided between.
Choices = list[tuple[int, ...]]

# As Qwen3Guard-Gen's templates list them.
_CATEGORIES = (
    "Violent",
    "Non-violent Illegal Acts",
    "Sexual Content or Sexual Acts",
    "PII",
    "Suicide & Self-Harm",
    "Unethical Acts",
    "Politically Sensitive Topics",
    "Copyright Violation",
)


@dataclass(frozen=True)
class Safety:
    begin: str = "Safety:"
    labels: dict[str, str] = field(
        default_factory=lambda: {risk: f" {risk}" for risk in ("Safe", "Unsafe", "Controversial")}
    )


@dataclass(frozen=True)
class Categories:
    begin: str = "\nCategories:"
    none: str = " None"
    # What stands before every name, and after those that another follows.
    before: str = " "
    separator: str = ","
    prompt: tuple[str, ...] = (*_CATEGORIES, "Jailbreak")
    response: tuple[str, ...] = _CATEGORIES

    def names(self, mode: str) -> tuple[str, ...]:
        return self.prompt if mode == PROMPT else self.response

    def all_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.prompt, *self.response)))


@dataclass(frozen=True)
class Refusal:
    begin: str = "\nRefusal:"
    yes: str = " Yes"
    no: str = " No"
    modes: tuple[str, ...] = (RESPONSE,)


@dataclass(frozen=True)
class Grammar:
    """The texts of an answer. The defaults are Qwen3Guard-Gen's."""

    safety: Safety = field(default_factory=Safety)
    categories: Categories = field(default_factory=Categories)
    refusal: Refusal = field(default_factory=Refusal)

    def name(self, category: str) -> str:
        return self.categories.before + category

    def lines(self, mode: str) -> list[str]:
        return ["safety", "categories", *(["refusal"] if mode in self.refusal.modes else [])]

    def pieces(self) -> list[str]:
        """The texts that are tokenised each on its own."""
        safety, categories, refusal = self.safety, self.categories, self.refusal
        names = [self.name(category) for category in categories.all_names()]
        texts = [safety.begin, *safety.labels.values(), categories.begin, categories.none, categories.separator, *names]
        return [*texts, refusal.begin, refusal.yes, refusal.no] if refusal.modes else texts

    def answers(self, mode: str) -> Iterator[list[str]]:
        """Whole answers as pieces: every label, every category and every two of them in a row."""
        categories = [[self.categories.none]]
        names = [self.name(category) for category in self.categories.names(mode)]
        categories += [[name] for name in names]
        categories += [[a, self.categories.separator, b] for a in names for b in names if a != b]
        ends = [[]]
        if mode in self.refusal.modes:
            ends = [[self.refusal.begin, choice] for choice in (self.refusal.yes, self.refusal.no)]
        for label in self.safety.labels.values():
            for said in categories:
                for end in ends:
                    yield [self.safety.begin, label, self.categories.begin, *said, *end]

    def label_choices(self, pieces: Pieces) -> Choices:
        return [tuple(pieces[text]) for text in self.safety.labels.values()]

    def category_choices(self, mode: str, pieces: Pieces) -> Choices:
        """`None`, then the names of the mode."""
        texts = [self.categories.none, *map(self.name, self.categories.names(mode))]
        return [tuple(pieces[text]) for text in texts]

    def refusal_choices(self, pieces: Pieces) -> Choices:
        return [tuple(pieces[text]) for text in (self.refusal.yes, self.refusal.no)]

    def after_name(self, mode: str, pieces: Pieces, end: int) -> Choices:
        """What may follow a name: another one, or the end of the line."""
        ending = (pieces[self.refusal.begin][0],) if mode in self.refusal.modes else (end,)
        return [(pieces[self.categories.separator][0],), ending]

    def candidates(self, pieces: Pieces, end: int) -> tuple[int, ...]:
        """Every token that a decision is made by, in the order in which an answer has them."""
        decisions = [self.label_choices(pieces)]
        decisions += [self.category_choices(mode, pieces) for mode in MODES]
        decisions += [self.after_name(mode, pieces, end) for mode in MODES]
        decisions += [self.refusal_choices(pieces)] if self.refusal.modes else []
        return tuple(dict.fromkeys(token for choices in decisions for token in branching(choices)))

    def table(self, pieces: Pieces) -> dict[str, Any]:
        """The table `answer` of guard.toml."""

        def piece(text: str) -> dict[str, Any]:
            return {"text": text, "ids": pieces[text]}

        def named(names: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
            return [{"name": name, **piece(text)} for name, text in names]

        safety, categories, refusal = self.safety, self.categories, self.refusal
        table: dict[str, Any] = {
            mode: {"lines": self.lines(mode), "categories": list(categories.names(mode))} for mode in MODES
        }
        table["safety"] = {"begin": piece(safety.begin), "labels": named(safety.labels.items())}
        table["categories"] = {
            "begin": piece(categories.begin),
            "none": piece(categories.none),
            "separator": piece(categories.separator),
            "names": named((category, self.name(category)) for category in categories.all_names()),
        }
        if refusal.modes:
            table["refusal"] = {key: piece(getattr(refusal, key)) for key in ("begin", "yes", "no")}
        return table

    def request(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of_request(tables: dict[str, Any]) -> Grammar:
        tables = {table: _tuples(values) for table, values in tables.items()}
        return Grammar(Safety(**tables["safety"]), Categories(**tables["categories"]), Refusal(**tables["refusal"]))


def branching(choices: Choices) -> list[int]:
    """The tokens after which a decision is made, among sequences that may begin alike."""
    tokens: dict[int, None] = {}
    for length in range(max(map(len, choices))):
        following: dict[tuple[int, ...], dict[int, None]] = {}
        for choice in choices:
            if len(choice) > length:
                following.setdefault(choice[:length], {})[choice[length]] = None
        for children in following.values():
            if len(children) > 1:
                tokens |= children
    return list(tokens)


def _tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


# Reading a file of other texts


def read_grammar(path: Path) -> Grammar:
    """A TOML file with the tables of `Grammar`; what it leaves out is as in Qwen3Guard-Gen."""
    try:
        import tomllib
    except ModuleNotFoundError:
        import tomli as tomllib
    try:
        data = tomllib.loads(read_bytes(path, limits.ANSWER_BYTES).decode())
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{path}: not valid TOML: {shown(str(error))}") from error
    kinds = {"safety": Safety, "categories": Categories, "refusal": Refusal}
    tables: dict[str, Any] = {}
    for table, values in data.items():
        if table not in kinds:
            raise ExportError(f"{path}: {shown(table)}: unknown, expected one of {', '.join(kinds)}")
        tables[table] = _table(path, table, values, kinds[table])
    grammar = Grammar(**tables)
    check_grammar(grammar, path)
    return grammar


def _table(path: Path, table: str, values: Any, kind: type) -> Any:
    if not isinstance(values, dict):
        raise ExportError(f"{path}: {table}: expected a table")
    known = {entry.name: getattr(kind(), entry.name) for entry in fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise ExportError(f"{path}: {table}.{shown(key)}: unknown, expected one of {', '.join(known)}")
        wanted = {str: "a text", tuple: "a list of texts", dict: "a table of texts"}
        expected = type(known[key])
        texts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        given = tuple if isinstance(value, list) else type(value)
        if given is not expected or not all(isinstance(text, str) for text in texts):
            raise ExportError(f"{path}: {table}.{key}: expected {wanted[expected]}, found {shown(value)}")
    return kind(**_tuples(values))


def check_grammar(grammar: Grammar, path: Path) -> None:
    """Refuses texts that an answer could not be read back from."""
    try:
        _check_labels(grammar.safety.labels)
        _check_lines(grammar)
        _check_categories(grammar)
        _check_modes(grammar.refusal)
        _distinct("safety.labels", list(grammar.safety.labels.values()))
        _distinct("refusal.yes and refusal.no", [grammar.refusal.yes, grammar.refusal.no])
    except ValueError as error:
        raise ExportError(f"{path}: {error}") from error


def _check_labels(labels: dict[str, str]) -> None:
    for name, text in labels.items():
        if name not in limits.RISKS:
            raise ValueError(f"safety.labels: {shown(name)} is not a known level: {', '.join(limits.RISKS)}")
        _check_piece(f"safety.labels.{name}", text)
    if limits.RISKS[0] not in labels or len(labels) < 2:
        raise ValueError(f"safety.labels: expected {limits.RISKS[0]} and at least one level above it")


def _check_lines(grammar: Grammar) -> None:
    _check_piece("safety.begin", grammar.safety.begin)
    for key, text in (("categories.begin", grammar.categories.begin), ("refusal.begin", grammar.refusal.begin)):
        if not text.startswith("\n"):
            raise ValueError(f"{key}: expected a line break first, found {shown(repr(text))}")
        _check_piece(key, text[1:])


def _check_categories(grammar: Grammar) -> None:
    categories = grammar.categories
    for key in ("none", "separator"):
        _check_piece(f"categories.{key}", getattr(categories, key))
    for mode in MODES:
        names = categories.names(mode)
        if not 0 < len(names) <= limits.CATEGORIES:
            raise ValueError(f"categories.{mode}: {len(names)} names, 1 to {limits.CATEGORIES} are supported")
        for name in names:
            if not name.strip() or len(name.encode("utf-8", "surrogatepass")) > limits.LABEL_BYTES:
                raise ValueError(
                    f"categories.{mode}: {shown(repr(name))} is empty or has more than {limits.LABEL_BYTES} bytes"
                )
            if categories.separator in name:
                raise ValueError(f"categories.{mode}: {shown(repr(name))} has the separator in it")
            _check_piece(f"categories.{mode}", categories.before + name)
        _distinct(f"categories.{mode}", [categories.none, *map(grammar.name, names)])


def _check_modes(refusal: Refusal) -> None:
    for key in ("yes", "no"):
        _check_piece(f"refusal.{key}", getattr(refusal, key))
    for mode in refusal.modes:
        if mode not in MODES or refusal.modes.count(mode) > 1:
            raise ValueError(f"refusal.modes: expected some of {', '.join(MODES)}, found {shown(list(refusal.modes))}")


def _check_piece(key: str, text: str) -> None:
    if not text or not is_text(text) or any(unicodedata.category(letter) == "Cc" for letter in text):
        raise ValueError(f"{key}: empty, or has control characters: {shown(ascii(text))}")
    if len(text.encode()) > limits.PIECE_BYTES:
        raise ValueError(f"{key}: {len(text.encode())} bytes, at most {limits.PIECE_BYTES}")


def _distinct(key: str, texts: list[str]) -> None:
    """An answer with a text could be the beginning of one with another text, if that begins with it."""
    for index, text in enumerate(texts):
        for other in texts[:index] + texts[index + 1 :]:
            if other.startswith(text):
                raise ValueError(f"{key}: {shown(repr(text))} is the beginning of {shown(repr(other))}, or the same")
