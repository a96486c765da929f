"""Reads and checks a tokenizer and a chat template: what `text` runs in a process of its own.

Both are programs of a kind. A template can loop or make texts without end, and a tokenizer's steps as well; the library
that reads tokenizers may panic, or end the process when there is no memory. Here this ends nobody else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from . import limits
from .answer import MODES, PROMPT, RESPONSE, Grammar, Pieces
from .errors import ExportError
from .files import is_text, parse_json, shown

Message = dict[str, str]
# As in guard.toml: ids, and the list of ids that "user" is encoded to.
Tokens = dict[str, Any]

TEMPLATE_FILE = "chat_template.jinja"

# What templates are told beside the messages, as the official code does.
STREAM_SETTINGS = {"add_generation_prompt": False, "enable_thinking": False}
GEN_SETTINGS = {"add_generation_prompt": False}

_STATEMENTS = ("for", "if", "with", "filter", "macro", "call", "block", "autoescape")


def main() -> None:
    """Takes a request and the two files from standard input, answers on standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    # What the libraries have to say is not an answer.
    os.dup2(2, 1)
    _limit()
    request = json.loads(sys.stdin.buffer.readline())
    tokenizer, template = (sys.stdin.buffer.read(size) for size in request["sizes"])
    where = [Path(request["tokenizer"])]
    try:
        found, data = _check(request, tokenizer, template, where, answers)
    except ExportError as error:
        found, data = {"error": str(error)}, b""
    except MemoryError:
        found, data = {"error": f"{where[-1]}: needs more than {limits.TEXT_MEMORY_BYTES >> 20} MiB to be read"}, b""
    except BaseException as error:  # a panic is no Exception
        found, data = {"error": f"{where[-1]}: cannot be used: {shown(str(error))}"}, b""
    answers.write(json.dumps(found).encode() + b"\n" + data)
    answers.flush()
    # Freeing what a damaged tokenizer has built is of no use to anybody.
    os._exit(0)


def _limit() -> None:
    if os.name != "posix":
        return
    import resource

    for kind, most in (
        (resource.RLIMIT_AS, limits.TEXT_MEMORY_BYTES),
        (resource.RLIMIT_CPU, limits.TEXT_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (most, hard))
        except (ValueError, OSError):  # macOS knows the first by name only
            continue


def _check(
    request: dict[str, Any], tokenizer: bytes, template: bytes, where: list[Path], answers: BinaryIO
) -> tuple[dict[str, Any], bytes]:
    def reading(path: Path) -> Path:
        where.append(path)
        answers.write(json.dumps({"reading": str(path)}).encode() + b"\n")
        answers.flush()
        return path

    tokenizer_path = reading(where[0])
    tokenizer = without_truncation(tokenizer, tokenizer_path, request["vocab_size"])
    known = load_tokenizer(tokenizer, tokenizer_path)
    check_vocabulary(known, tokenizer_path, request["vocab_size"])
    tokens = special_tokens(known, tokenizer_path)
    template_path = reading(Path(request["template"]))
    text = template_text(template, template_path)
    grammar = Grammar.of_request(request["answer"]) if request["answer"] else None
    settings = STREAM_SETTINGS if grammar is None else GEN_SETTINGS
    rendered = [render(text, template_path, messages, settings) for messages in request["conversations"]]
    if grammar is not None:
        check_judging(rendered, request["conversations"], template_path)
    if grammar is not None and not request["answer_is_given"]:
        check_names(rendered, request["conversations"], grammar, template_path)
    reading(tokenizer_path)
    samples = [known.encode(one, add_special_tokens=False).ids for one in rendered]
    if grammar is not None:
        pieces = tokenize_answer(known, grammar, tokens, tokenizer_path)
        return {"tokens": tokens, "samples": samples, "template": text, "pieces": pieces}, tokenizer
    for ids in samples:
        check_user_turn(ids, tokens, template_path)
    return {"tokens": tokens, "samples": samples, "template": text}, tokenizer


def without_truncation(data: bytes, path: Path, vocab_size: int) -> bytes:
    """tokenizer.json with truncation and padding switched off; as it is if they are not on."""
    document = parse_json(data, path)
    if not isinstance(document, dict):
        raise ExportError(f"{path}: not a JSON object")
    check_definition(document, path, vocab_size)
    if document.get("truncation") is None and document.get("padding") is None:
        return data
    document |= {"truncation": None, "padding": None}
    try:
        return json.dumps(document, ensure_ascii=False, indent=2).encode()
    except UnicodeEncodeError as error:
        raise ExportError(f"{path}: not valid JSON: a lone surrogate") from error


def check_definition(document: dict[str, Any], path: Path, vocab_size: int) -> None:
    """What the library, which checks the same, would refuse."""
    try:
        _check_added(document.get("added_tokens"))
        for part, steps, check in (
            ("normalizer", "normalizers", _check_normalizer),
            ("pre_tokenizer", "pretokenizers", _check_pre_tokenizer),
        ):
            _check_steps(document.get(part), part, steps, check)
        _check_model(document.get("model"), vocab_size)
    except ValueError as error:
        raise ExportError(f"{path}: {error}") from error


def _check_added(added: Any) -> None:
    if added is None:
        return
    _expect(isinstance(added, list), "added_tokens: expected a list")
    _expect(len(added) <= limits.ADDED_TOKENS, f"added_tokens: {len(added)} tokens, at most {limits.ADDED_TOKENS}")
    seen = set()
    for token in added:
        content = token.get("content") if isinstance(token, dict) else None
        _expect(isinstance(content, str), "added_tokens: expected objects with a content")
        size = _bytes(content)
        _expect(0 < size <= limits.TOKEN_BYTES, f"added_tokens: {size} bytes, a token has 1 to {limits.TOKEN_BYTES}")
        _expect(content not in seen, f"added_tokens: {shown(content)} appears twice")
        seen.add(content)


def _check_steps(value: Any, part: str, steps: str, check: Callable[[Any, dict[str, Any]], None]) -> None:
    if value is None:
        return
    size = _bytes(json.dumps(value, ensure_ascii=False))
    _expect(size <= limits.TOKENIZER_STEP_BYTES, f"{part}: {size} bytes, at most {limits.TOKENIZER_STEP_BYTES}")
    _expect(isinstance(value, dict), f"{part}: expected an object")
    listed = value.get(steps) if value.get("type") == "Sequence" else [value]
    _expect(isinstance(listed, list), f"{part}.{steps}: expected a list")
    _expect(len(listed) <= limits.STEPS, f"{part}: {len(listed)} steps, at most {limits.STEPS}")
    for step in listed:
        _expect(isinstance(step, dict), f"{part}.{steps}: expected objects")
        check(step.get("type"), step)


def _check_normalizer(kind: Any, _: dict[str, Any]) -> None:
    _expect(kind in limits.NORMALIZERS, f"normalizer: {shown(kind)} is not supported")


def _check_pre_tokenizer(kind: Any, step: dict[str, Any]) -> None:
    if kind != "Split":
        _expect(kind in limits.PRE_TOKENIZERS, f"pre_tokenizer: {shown(kind)} is not supported")
        return
    match step.get("pattern"):
        case {"Regex": limits.SPLIT, **others} if not others:
            return
        case {"String": str(text), **others} if not others and 0 < _bytes(text) <= limits.SPLIT_BYTES:
            return
    _expect(False, "pre_tokenizer: Split.pattern: neither a short String nor Qwen's Regex")


def _check_model(model: Any, vocab_size: int) -> None:
    _expect(isinstance(model, dict), "model: expected an object")
    _expect(model.get("type") == "BPE", f"model.type: {shown(model.get('type'))} is not supported, only BPE is")
    _expect(model.get("dropout") in (None, 0), "model.dropout: expected null")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        _expect(model.get(key) in (None, ""), f"model.{key}: expected null")
    vocab, merges = model.get("vocab"), model.get("merges")
    _expect(isinstance(vocab, dict), "model.vocab: expected an object")
    _expect(isinstance(merges, list), "model.merges: expected a list")
    _expect(len(merges) <= limits.MERGES, f"model.merges: {len(merges)} merges, at most {limits.MERGES}")
    longest = max(map(_bytes, vocab), default=0)
    _expect(longest <= limits.TOKEN_BYTES, f"model.vocab: a token of {longest} bytes, at most {limits.TOKEN_BYTES}")
    seen = set()
    for token, number in vocab.items():
        valid = isinstance(number, int) and not isinstance(number, bool) and number >= 0
        _expect(valid, f"model.vocab: {shown(token)}: {shown(number)} is not a token id")
        # The message is that of check_vocabulary.
        _expect(number < vocab_size, f"token id {shown(number)} is outside the model's vocabulary of {vocab_size}")
        _expect(number not in seen, f"model.vocab: token id {number} appears twice")
        seen.add(number)


def _expect(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _bytes(text: object) -> int:
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0


def load_tokenizer(data: bytes, path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises nothing narrower
        raise ExportError(f"{path}: not a usable tokenizer: {shown(error)}") from error


def check_vocabulary(tokenizer: Any, path: Path, vocab_size: int) -> None:
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= vocab_size:
        raise ExportError(f"{path}: token id {largest} is outside the model's vocabulary of {vocab_size}")


def special_tokens(tokenizer: Any, path: Path) -> Tokens:
    tokens: Tokens = {
        "turn_start": _required_token(tokenizer, path, "<|im_start|>"),
        "turn_end": _required_token(tokenizer, path, "<|im_end|>"),
        "user": tokenizer.encode("user", add_special_tokens=False).ids,
    }
    if not 0 < len(tokens["user"]) <= limits.USER_TOKENS:
        raise ExportError(
            f'{path}: the text "user" is {len(tokens["user"])} tokens, 1 to {limits.USER_TOKENS} are supported'
        )
    for key, text in (("think_start", "<think>"), ("think_end", "</think>")):
        token = tokenizer.token_to_id(text)
        if token is not None:
            tokens[key] = token
    return tokens


def _required_token(tokenizer: Any, path: Path, text: str) -> int:
    token = tokenizer.token_to_id(text)
    if token is None:
        raise ExportError(f"{path}: special token {text} is missing")
    # Only of special tokens does the library know that nobody may spell them in a message.
    added = tokenizer.get_added_tokens_decoder().get(token)
    if added is None or not added.special:
        raise ExportError(f"{path}: {text} is in the vocabulary, but not as a special token")
    if tokenizer.encode(text, add_special_tokens=False).ids != [token]:
        raise ExportError(f"{path}: {text} is in the vocabulary, but text is not split at it")
    return token


def template_text(data: bytes, path: Path) -> str:
    """The template, from its own file or from a tokenizer_config.json."""
    template = _decode(data, path) if path.name == TEMPLATE_FILE else _template_of(parse_json(data, path), path)
    if not is_text(template):
        raise ExportError(f"{path}: the chat template holds a lone surrogate")
    if not template.strip():
        raise ExportError(f"{path}: the chat template is empty")
    size = len(template.encode())
    if size > limits.TEMPLATE_BYTES:
        raise ExportError(f"{path}: the chat template has {size} bytes, at most {limits.TEMPLATE_BYTES} are supported")
    lines, most = template.split("\n"), limits.TEMPLATE_LINES
    if len(lines) > most or any(len(line.encode()) > most for line in lines):
        raise ExportError(f"{path}: the chat template has more than {most} lines, or a line of more than {most} bytes")
    return template


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ExportError(f"{path}: not UTF-8: {error}") from error


def _template_of(tokenizer_config: object, path: Path) -> str:
    value = tokenizer_config.get("chat_template") if isinstance(tokenizer_config, dict) else None
    if value is None:
        raise ExportError(f"{path}: chat_template: missing")
    if isinstance(value, list):
        named = [entry.get("template") for entry in value if isinstance(entry, dict) and entry.get("name") == "default"]
        if len(named) != 1:
            raise ExportError(f'{path}: chat_template: {len(named)} templates with the name "default", expected one')
        value = named[0]
    if not isinstance(value, str):
        raise ExportError(f"{path}: chat_template: expected a text")
    return value


def render(template: str, path: Path, messages: list[Message], settings: dict[str, Any]) -> str:
    """A conversation as the library's engine renders it, which must be as the one renders that templates are written
    for. The library's comes first: it can be limited."""
    check_nesting(template, path)
    settings = {"messages": messages, "tools": None, **settings}
    ours = _rendered(_render_as_library, template, path, settings)
    if len(ours) > limits.RENDERED_BYTES:
        raise ExportError(f"{path}: the chat template makes {len(ours)} characters of a short conversation")
    if ours != _rendered(_render_as_transformers, template, path, settings):
        raise ExportError(f"{path}: the chat template is rendered differently by Jinja and by the library")
    return ours


def _rendered(renderer: Any, template: str, path: Path, settings: dict[str, Any]) -> str:
    try:
        return renderer(template, settings)
    except MemoryError:
        raise
    except Exception as error:  # a template is a program, and may fail in any way
        raise ExportError(f"{path}: the chat template cannot be used: {shown(error)}") from error


def _render_as_library(template: str, settings: dict[str, Any]) -> str:
    from minijinja import Environment

    environment = Environment(trim_blocks=True, lstrip_blocks=True)
    texts = sum(len(text.encode()) for message in settings["messages"] for text in message.values())
    environment.fuel = limits.TEMPLATE_FUEL + limits.TEMPLATE_FUEL_A_MESSAGE * len(settings["messages"]) + texts
    environment.add_function("raise_exception", _raise_exception)
    settings = {name: value for name, value in settings.items() if name != "tools"}
    return environment.render_str(template, **settings)


def _render_as_transformers(template: str, settings: dict[str, Any]) -> str:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise_exception
    return environment.from_string(template).render(**settings)


def _raise_exception(message: str) -> None:
    raise ValueError(message)


def check_nesting(template: str, path: Path) -> None:
    """The library's limits of a template's tags."""
    from jinja2 import Environment, TemplateError

    def expect(count: int, most: int, what: str, line: int) -> None:
        if count > most:
            raise ExportError(f"{path}: line {line} of the chat template: {what}, the limit is {most}")

    # The levels of every statement that is open.
    statements: list[int] = []
    size = brackets = 0
    begins = sets = member = False
    try:
        for line, kind, value in Environment(trim_blocks=True, lstrip_blocks=True).lex(template):
            if kind == "whitespace":
                continue
            size += 1
            if kind in ("block_begin", "variable_begin", "data"):
                size = brackets = 0
                sets = False
            elif kind == "block_end" and sets:
                # `{% set name %}` without a value goes on up to its `endset`.
                statements.append(1)
            elif kind == "operator":
                brackets += (value in ("(", "[", "{")) - (value in (")", "]", "}"))
                sets = sets and not (value == "=" and brackets == 0)
            elif begins:
                sets = value == "set"
                _count_statement(statements, value)
            if member and value == "format":
                raise ExportError(f"{path}: line {line} of the chat template: the method format is not supported")
            begins, member = kind == "block_begin", value == "."
            expect(size, limits.TEMPLATE_TAG_TOKENS, "too many words and signs in one tag", line)
            expect(brackets, limits.TEMPLATE_BRACKETS, "brackets are nested too deeply", line)
            expect(sum(statements), limits.TEMPLATE_DEPTH, "statements are nested too deeply", line)
    except TemplateError as error:
        raise ExportError(f"{path}: the chat template cannot be used: {shown(error)}") from error


def _count_statement(statements: list[int], name: str) -> None:
    if name in _STATEMENTS:
        statements.append(1)
    elif name == "elif" and statements:
        statements[-1] += 1
    elif name.startswith("end") and statements:
        statements.pop()


def check_user_turn(ids: list[int], tokens: Tokens, path: Path) -> None:
    """Prompt verdicts are read at the end of the user turn: without one the bundle would be of no use."""
    start = [tokens["turn_start"], *tokens["user"]]
    starts = [i for i in range(len(ids)) if ids[i : i + len(start)] == start]
    if not starts or tokens["turn_end"] not in ids[starts[-1] :]:
        raise ExportError(f"{path}: the chat template does not write a user turn between <|im_start|> and <|im_end|>")


def check_judging(rendered: list[str], conversations: list[list[Message]], path: Path) -> None:
    """A Gen template writes what is to be judged, and leaves the assistant's turn open."""
    for text, messages in zip(rendered, conversations, strict=True):
        for message in messages:
            if message["content"] not in text:
                raise ExportError(f"{path}: the chat template leaves out a message of the {message['role']}")
        if not text.strip() or text.rstrip().endswith("<|im_end|>"):
            raise ExportError(
                f"{path}: the chat template does not open the assistant's turn: it is not one of a Gen model"
            )


def check_names(rendered: list[str], conversations: list[list[Message]], grammar: Grammar, path: Path) -> None:
    """A model that was told other names would be forced to answer with ours."""
    for text, messages in zip(rendered, conversations, strict=True):
        mode = RESPONSE if messages[-1]["role"] == "assistant" else PROMPT
        for name in (*grammar.safety.labels.values(), *grammar.categories.names(mode)):
            if name.strip() not in text:
                raise ExportError(
                    f"{path}: the chat template does not name {shown(repr(name.strip()))} in {mode} mode: "
                    "give the answer's texts with --answer"
                )


def tokenize_answer(tokenizer: Any, grammar: Grammar, tokens: Tokens, path: Path) -> Pieces:
    """The ids of the answer's pieces, proved on whole answers: the model was trained on these."""

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    pieces = {text: encode(text) for text in grammar.pieces()}
    for text, ids in pieces.items():
        if not 0 < len(ids) <= limits.PIECE_TOKENS:
            raise ExportError(
                f"{path}: {shown(repr(text))} of the answer is {len(ids)} tokens, "
                f"1 to {limits.PIECE_TOKENS} are supported"
            )
    for mode in MODES:
        for answer in grammar.answers(mode):
            whole = "".join(answer)
            if encode(whole) != [token for text in answer for token in pieces[text]]:
                raise ExportError(
                    f"{path}: the answer {shown(repr(whole))} has other tokens than its pieces {shown(repr(answer))}"
                )
        another, ending = grammar.after_name(mode, pieces, tokens["turn_end"])
        if another == ending:
            raise ExportError(
                f"{path}: the separator of categories and the end of their line begin with the same token"
            )
    return pieces
