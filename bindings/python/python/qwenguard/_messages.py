"""Messages as callers have them, read so that no text in them is lost: what is not judged is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

from ._errors import ConversationError, GuardError
from ._results import Message

Conversation = Union[str, Sequence[Union[Message, Mapping[str, Any], tuple[str, str]]]]
"""A prompt as text, or messages: :class:`Message`, pairs of role and content, or mappings as OpenAI's clients write them."""

_LABELS = {"name", "tool_call_id", "id", "status", "type"}
_SAID = {"reasoning_content", "reasoning", "refusal", "tool_calls", "function_call"}


def pairs(conversation: Conversation) -> list[tuple[str, str]]:
    """The messages as pairs of role and content.

    :raises ConversationError: if a message cannot be read without a loss.
    :raises TypeError: if it is no conversation at all.
    """
    if isinstance(conversation, str):
        return [_checked(0, "user", conversation)]
    if isinstance(conversation, Message):
        raise TypeError("a conversation is a text or a sequence of messages, not one message: put it into a list")
    if isinstance(conversation, (bytes, Mapping)) or not isinstance(conversation, Iterable):
        raise TypeError(f"a conversation is a text or a sequence of messages, not {type(conversation).__name__}")
    return [_checked(index, *_pair(index, message)) for index, message in enumerate(conversation)]


def read(row: Any) -> list[tuple[str, str]] | GuardError:
    """The messages of one of many conversations, or why there are none: one that is wrong leaves the others alone."""
    if isinstance(row, GuardError):
        return row
    if row is None:
        return ConversationError("conversation: it is null")
    try:
        return pairs(row)
    except GuardError as error:
        return error
    except MemoryError:
        raise
    except Exception as error:  # whatever a foreign object raises when it is looked at
        return ConversationError(f"conversation: {error}")


def _pair(index: int, message: Any) -> tuple[str, str]:
    if isinstance(message, Mapping):
        return _read(f"messages[{index}]", message)
    if isinstance(message, tuple) and len(message) == 2:
        role, content = message
        if isinstance(role, str) and isinstance(content, str):
            return role, content
    if isinstance(message, str):
        raise TypeError(
            f"messages[{index}] is a text, not a message: a prompt is given as a text alone, several to annotate_all"
        )
    raise TypeError(f"messages[{index}] is neither a Message, a pair of texts nor a mapping")


def _checked(index: int, role: str, content: str) -> tuple[str, str]:
    for field, text in (("role", role), ("content", content)):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            reason = f"has a lone surrogate at character {error.start}, which no text has"
            raise ConversationError(f"conversation: messages[{index}].{field} {reason}") from None
    return role, content


def _read(at: str, message: Mapping[str, Any]) -> tuple[str, str]:
    role = _text(at, message, "role")
    if role is None:
        raise ConversationError(f"conversation: {at}.role is missing")
    known = {"role", "content"}
    content, thinking, calls = _content(f"{at}.content", message.get("content")), "", []
    refusal = None
    if role == "assistant":
        known |= _SAID
        thinking, refusal, calls = _thinking(at, message), _text(at, message, "refusal"), _calls(at, message)
    _check_rest(at, message, known, _LABELS)
    if content is None and refusal is None and not thinking and not calls:
        raise ConversationError(f"conversation: {at}.content is {'null' if 'content' in message else 'missing'}")
    text = "\n".join(text for text in [content, refusal, *calls] if text)
    if any("</think>" in call for call in calls):
        raise ConversationError(f"conversation: {at} has </think> in a tool call")
    if thinking:
        text = "<think>\n" + thinking.strip("\n") + "\n</think>\n\n" + text
    return role, text


def _content(at: str, content: Any) -> str | None:
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, Iterable) or isinstance(content, Mapping):
        raise ConversationError(f"conversation: {at} is neither a text nor a list of parts")
    return "".join(_part(f"{at}[{index}]", part) for index, part in enumerate(content))


def _part(at: str, part: Any) -> str:
    if not isinstance(part, Mapping):
        raise ConversationError(f"conversation: {at} is not an object")
    kind = part.get("type")
    if kind not in ("text", "input_text", "output_text", "refusal"):
        raise ConversationError(f"conversation: {at}: a part of type {kind!r} cannot be judged")
    field = "refusal" if kind == "refusal" else "text"
    _check_rest(at, part, {"type", field, "cache_control"}, {"id"})
    text = _text(at, part, field)
    if text is None:
        raise ConversationError(f"conversation: {at}.{field} is missing")
    return text


def _thinking(at: str, message: Mapping[str, Any]) -> str:
    content, plain = _text(at, message, "reasoning_content") or "", _text(at, message, "reasoning") or ""
    if content and plain and content != plain:
        raise ConversationError(f"conversation: {at}.reasoning_content and {at}.reasoning differ")
    return content or plain


def _calls(at: str, message: Mapping[str, Any]) -> list[str]:
    calls = message.get("tool_calls") or []
    if not isinstance(calls, Iterable) or isinstance(calls, (str, Mapping)):
        raise ConversationError(f"conversation: {at}.tool_calls is not a list")
    written = [_call(f"{at}.tool_calls[{index}]", call) for index, call in enumerate(calls)]
    function = message.get("function_call")
    return written if function is None else [*written, _function(f"{at}.function_call", function, set())]


def _call(at: str, call: Any) -> str:
    if not isinstance(call, Mapping):
        raise ConversationError(f"conversation: {at} is not an object")
    if call.get("type") not in (None, "function"):
        raise ConversationError(f"conversation: {at}: a tool call of type {call['type']!r} cannot be judged")
    function = call.get("function")
    if function is None:
        return _function(at, call, {"type", "id"})
    _check_rest(at, call, {"type", "function"}, {"id"})
    return _function(f"{at}.function", function, set())


def _function(at: str, function: Any, labels: set[str]) -> str:
    """A call as Qwen's template writes it."""
    if not isinstance(function, Mapping):
        raise ConversationError(f"conversation: {at} is not an object")
    _check_rest(at, function, {"name", "arguments"}, labels)
    name = _text(at, function, "name")
    if name is None or "arguments" not in function:
        raise ConversationError(f"conversation: {at}.{'arguments' if name is not None else 'name'} is missing")
    arguments = function["arguments"]
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{name}", "arguments": {unescape(arguments)}}}\n</tool_call>'


_ESCAPE = re.compile(r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(?s:.))")


def unescape(text: str) -> str:
    """JSON with the letters that ``\\u`` escapes stand for: the model is to see what whoever parses it sees."""

    def letter(found: re.Match[str]) -> str:
        high, low, plain = found.groups()
        if high:
            code = 0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00
        elif plain:
            code = int(plain, 16)
        else:
            return found.group()
        stays = code < 0x20 or 0x7F <= code < 0xA0 or code in (0x22, 0x5C) or 0xD800 <= code < 0xE000
        return found.group() if stays else chr(code)

    return _ESCAPE.sub(letter, text)


def _text(at: str, mapping: Mapping[str, Any], field: str) -> str | None:
    text = mapping.get(field)
    if text is None or isinstance(text, str):
        return text
    raise ConversationError(f"conversation: {at}.{field} is not a text")


def _check_rest(at: str, mapping: Mapping[str, Any], read: set[str], labels: set[str]) -> None:
    for field, value in mapping.items():
        if field in read or value is None or isinstance(value, (bool, int, float)):
            continue
        if isinstance(value, str) and (not value or field in labels):
            continue
        if isinstance(value, (list, tuple, Mapping)) and not value:
            continue
        raise ConversationError(f'conversation: the field "{at}.{field}" is not read and would not be judged')
