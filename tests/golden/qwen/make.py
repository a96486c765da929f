"""Writes conversations.json: conversations with tools and reasoning, as clients of OpenAI's interface write them, as the
command line hands them to the library, and the ids that Qwen's own template and tokenizer give for the former.

    python tests/golden/qwen/make.py target/test-data/qwen3

Needs transformers, and the tokenizer that `make test-data` fetches. The template itself is not part of this repository.
"""

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer

CALL = '<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>'


def user(text):
    return {"role": "user", "content": text}


def said(text, **more):
    return {"role": "assistant", "content": text, **more}


def tool(text, **more):
    return {"role": "tool", "content": text, **more}


def called(name, arguments):
    return {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}


# Name, messages of a client, and what they are for the library where that differs.
CASES = [
    ("plain", [user("Where does the river end?")], None),
    ("system", [{"role": "system", "content": "Be brief."}, user("Where does it end?")], None),
    ("turns", [user("Hi"), said("Hello!"), user("Wie spät ist es?"), said("Halb drei."), user("谢谢，再见")], None),
    (
        "reasoning",
        [user("3 + 4?"), said("7", reasoning_content="Three and four.\nSeven."), user("and 5 more?")],
        [user("3 + 4?"), said("7"), user("and 5 more?")],
    ),
    (
        "thinking in the text",
        [user("3 + 4?"), said("<think>\nThree and four.\n</think>\n\n7"), user("and 5 more?")],
        None,
    ),
    (
        "tool",
        [
            user("How warm is it in Oslo?"),
            said("", tool_calls=[called("weather", {"city": "Oslo", "days": [1, 2], "note": "så \"kort\""})]),
            tool("{\"celsius\": 18}", tool_call_id="c1"),
        ],
        [
            user("How warm is it in Oslo?"),
            said(CALL.format("weather", '{"city": "Oslo", "days": [1, 2], "note": "så \\"kort\\""}')),
            tool("{\"celsius\": 18}"),
        ],
    ),
    (
        "reasoning before a tool",
        [
            user("How warm is it in Oslo?"),
            said("One moment.", reasoning_content="I have to look.", tool_calls=[called("weather", {"city": "Oslo"})]),
            tool("18"),
        ],
        [
            user("How warm is it in Oslo?"),
            said("<think>\nI have to look.\n</think>\n\nOne moment.\n" + CALL.format("weather", '{"city": "Oslo"}')),
            tool("18"),
        ],
    ),
    (
        "two tools, then a question",
        [
            user("Oslo and Rome?"),
            said("", tool_calls=[called("weather", {"city": "Oslo"}), called("weather", {"city": "Rome"})]),
            tool("18"),
            tool("27"),
            said("18 and 27 degrees."),
            user("Which is warmer?"),
        ],
        [
            user("Oslo and Rome?"),
            said(CALL.format("weather", '{"city": "Oslo"}') + "\n" + CALL.format("weather", '{"city": "Rome"}')),
            tool("18"),
            tool("27"),
            said("18 and 27 degrees."),
            user("Which is warmer?"),
        ],
    ),
]


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    cases = []
    for name, client, library in CASES:
        text = tokenizer.apply_chat_template(client, tokenize=False, enable_thinking=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        cases.append({"name": name, "client": client, "messages": library or client, "ids": ids})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (Path(__file__).parent / "conversations.json").write_text(f"[\n{lines}\n]\n", "utf-8")


if __name__ == "__main__":
    main()
