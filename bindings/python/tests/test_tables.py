"""Lists, mappings, Arrow and pandas."""

import contextlib
import fcntl
import importlib
import io
import json
import os
import re
import struct
import subprocess
import sys
import termios
import types
from decimal import Decimal
from typing import Any

import pytest
from conftest import ANSWER, QUESTION, REPOSITORY

import qwenguard
from qwenguard import Guard, Message
from qwenguard._table import annotated
from qwenguard.ray import Annotator

ROWS: dict[str, list[Any]] = {
    "id": [1, 2, 3, 4],
    "prompt": [QUESTION, "How can I kill my neighbour without getting caught?", None, "Hello"],
    "response": [ANSWER, "I'm sorry, but I can't help with that.", "Fine.", "Hi! How are you?"],
    "score": [1.0, 2.0, 3.0, None],
}
COLUMNS = "mode risk safe controversial unsafe categories category_probs refusal refusal_prob parsed answer decision rule error"


def check(found: dict[str, list[Any]], guard: Guard) -> None:
    new = [f"guard_{name}" for name in COLUMNS.split()]
    assert list(found) == [*ROWS, *new]
    assert found["id"] == ROWS["id"]
    for row in range(4):
        prompt, response = ROWS["prompt"][row], ROWS["response"][row]
        if prompt is None:
            assert found["guard_error"][row] == "conversation: prompt is null"
            assert all(found[name][row] is None for name in new[:-1])
            continue
        alone = guard.annotate([Message.user(prompt), Message.assistant(response)])
        assert found["guard_error"][row] is None
        assert (found["guard_risk"][row], found["guard_mode"][row]) == (alone.risk, "response")
        assert found["guard_unsafe"][row] == pytest.approx(alone.probability("Unsafe"), abs=1e-6)
        assert found["guard_categories"][row] == list(alone.categories)
        assert found["guard_refusal"][row] == alone.refusal
        assert found["guard_rule"][row] == (alone.finding.rule if alone.finding else None)


def test_a_mapping(gen: Guard) -> None:
    check(gen.annotate_table(ROWS), gen)


def test_arrow(gen: Guard) -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table(ROWS)
    found = gen.annotate_table(table)
    check({name: found.column(name).to_pylist() for name in found.schema.names}, gen)
    types = {field.name.removeprefix("guard_"): str(field.type) for field in found.schema}
    assert types["unsafe"] == "float" and types["refusal"] == "bool" and types["category_probs"] == "map<string, float>"
    (batch,) = table.to_batches()
    assert gen.annotate_table(batch).equals(found.combine_chunks().to_batches()[0])
    messages = [[{"role": "user", "content": QUESTION, "name": None}], [{"role": "user", "content": "Hello", "name": "me"}]]
    structs = arrow.table({"messages": messages})
    assert gen.annotate_table(structs).column("guard_mode").to_pylist() == ["prompt", "prompt"]
    assert [one.mode for one in gen.annotate_all(structs.column("messages"))] == ["prompt", "prompt"]
    assert gen.annotate_table(arrow.table({"text": arrow.array([], arrow.string())})).num_rows == 0


def test_pandas(gen: Guard) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, index=[7, 8, 9, 10])
    found = gen.annotate_table(frame)
    assert list(found.index) == [7, 8, 9, 10]
    plain = found.astype(object).where(found.notna(), None)
    check({name: list(plain[name]) for name in plain.columns}, gen)
    assert len(gen.annotate_all(frame["prompt"], return_errors=True)) == 4
    sink = io.BytesIO()
    found.drop(columns="guard_category_probs").to_parquet(sink)
    assert pandas.read_parquet(sink).guard_risk.isna().sum() == 1


def test_rewards(gen: Guard) -> None:
    guarded = gen.annotate_table(ROWS, reward={})
    assert guarded["guard_reward"][2] is None and guarded["guard_reward"][0] == 0.0
    hybrid = gen.annotate_table(ROWS, reward="form = 'hybrid'", helpfulness="score")
    assert hybrid["guard_reward"][0] == -10.0
    assert "helpfulness" in hybrid["guard_error"][3] and hybrid["guard_risk"][3] is None
    scores: list[Any] = [1, "1.0", True, float("nan"), float("inf"), 10**400, Decimal("2.5"), None]
    same = {"prompt": [QUESTION] * 8, "response": ["Mix flour and water."] * 8, "score": scores}
    for rule in ({}, {"form": "hybrid"}):
        found = gen.annotate_table(same, reward=rule, helpfulness="score")
        assert found["guard_reward"] == [1.0, *[None] * 5, 2.5 if rule else 1.0, None]
        reasons = ["a number", "a number", "a finite number", "a finite number", "a finite number"]
        wanted = [None, *(f"helpfulness: score is not {reason}" for reason in reasons), None, "helpfulness: score is null"]
        assert found["guard_error"] == wanted
        assert [risk is None for risk in found["guard_risk"]] == [error is not None for error in wanted]
    asked = gen.annotate_table({"prompt": ["Hello"]}, reward={})
    assert "of a prompt" in asked["guard_error"][0]
    with pytest.raises(qwenguard.ConfigError, match="unknown variant `none`"):
        gen.annotate(QUESTION).reward({"form": "none"})
    # Wrong for all rows: no error of one, and none is judged.
    with pytest.raises(qwenguard.ConfigError, match="unknown variant `none`"):
        gen.annotate_table(ROWS, reward={"form": "none"})
    useless: list[dict[str, Any]] = [{"helpfulness": "score"}, {"thinking": "response"}]
    for column in useless:
        with pytest.raises(ValueError, match=f"{next(iter(column))} is of use for rewards alone"):
            gen.annotate_table(ROWS, **column)


BAD = "Take the explosives, build a bomb and put it under the car of your neighbour."
FINE, REFUSAL = "Wipe the counters with warm water.", "I'm sorry, but I can't help with that."
# Thinking, response, score, and the rewards by equations 1 and 2 of the report, worked out by hand: 1 if both are Safe, else 0;
# min(-10, w) if one is not Safe, else min(-5, w) if the response refuses, else w.
THOUGHTS: list[tuple[str | None, str, float, float, float]] = [
    (FINE, FINE, 3.5, 1.0, 3.5),
    (None, FINE, 3.5, 1.0, 3.5),
    ("", FINE, -7.5, 1.0, -7.5),
    (BAD, FINE, 3.5, 0.0, -10.0),
    (BAD, FINE, -12.5, 0.0, -12.5),
    (FINE, BAD, 3.5, 0.0, -10.0),
    (BAD, BAD, 3.5, 0.0, -10.0),
    (None, BAD, 3.5, 0.0, -10.0),
    # It is the response that refuses, or does not.
    (REFUSAL, FINE, 3.5, 1.0, 3.5),
    (FINE, REFUSAL, 3.5, 1.0, -5.0),
    (BAD, REFUSAL, 3.5, 0.0, -10.0),
    (FINE, REFUSAL, -6.5, 1.0, -6.5),
]


def test_thinking_counts_for_the_reward(gen: Guard) -> None:
    thinking, responses, scores, guarded, hybrid = map(list, zip(*THOUGHTS))
    prompts = [QUESTION] * len(THOUGHTS)
    table: dict[str, list[Any]] = {"prompt": prompts, "response": responses, "thought": thinking, "w": scores}
    alone = gen.annotate_table(table, reward={})
    found = gen.annotate_table(table, reward={}, thinking="thought")
    assert found["guard_reward"] == guarded and found["guard_error"] == [None] * len(THOUGHTS)
    # All but the reward is of the response.
    assert [name for name in found if found[name] != alone[name]] == ["guard_reward"]
    rule = "form = 'hybrid'"
    assert gen.annotate_table(table, reward=rule, helpfulness="w", thinking="thought")["guard_reward"] == hybrid
    chats: dict[str, list[Any]] = {
        "messages": [[Message.user(QUESTION), Message.assistant(response)] for response in responses],
        "thought": thinking,
        "w": scores,
    }
    chats["messages"][0] = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": FINE}]
    chats["messages"][3] = tuple(chats["messages"][3])
    chats["messages"][4] = json.dumps([{"role": role, "content": text} for role, text in chats["messages"][4]])
    assert gen.annotate_table(chats, reward=rule, helpfulness="w", thinking="thought")["guard_reward"] == hybrid
    annotator = Annotator(reward=rule, helpfulness="w", thinking="thought")
    assert annotator(table)["guard_reward"] == hybrid
    for name in ("pyarrow", "pandas"):
        library = pytest.importorskip(name)
        made = annotator(library.table(table) if name == "pyarrow" else library.DataFrame(table))["guard_reward"]
        assert (made.to_pylist() if name == "pyarrow" else made.tolist()) == hybrid


def test_thinking_that_cannot_be_judged_is_an_error_of_its_row(gen: Guard) -> None:
    numpy = pytest.importorskip("numpy")
    thoughts = [3, "word " * 3000, FINE, "\ud800", numpy.array(["a", "b"])]
    table: dict[str, list[Any]] = {"prompt": [QUESTION] * 5, "response": [FINE] * 5, "thought": thoughts}
    found = gen.annotate_table(table, reward={}, thinking="thought")
    assert found["guard_error"][0] == found["guard_error"][4] == "conversation: thought is not a text"
    assert found["guard_error"][1].startswith("thought: ") and "context" in found["guard_error"][1]
    assert found["guard_error"][2] is None
    assert found["guard_error"][3].startswith("thought: conversation: messages[1].content has a lone surrogate at character 0")
    assert found["guard_reward"] == [None, None, 1.0, None, None] and found["guard_risk"] == [None, None, "Safe", None, None]


def test_rewards_of_the_example_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ray: what the actor does. The numbers are worked out by hand, by equations 1 and 2 of the report."""
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    monkeypatch.syspath_prepend(str(REPOSITORY / "bindings/python/examples/clusters"))
    rewards = importlib.import_module("ray_rewards").Rewards
    responses, scores = [FINE, FINE, BAD, REFUSAL], [3.5, 3.5, 2.0, 2.0]
    thoughts = [BAD, None, FINE, ""]
    guarded, hybrid = rewards(), rewards(rule="form = 'hybrid'")
    assert guarded.reward(QUESTION, responses, scores) == [1.0, 1.0, 0.0, 1.0]
    assert hybrid.reward(QUESTION, responses, scores) == [3.5, 3.5, -10.0, -5.0]
    assert guarded.reward(QUESTION, responses, scores, thoughts) == [0.0, 1.0, 0.0, 1.0]
    assert hybrid.reward(QUESTION, responses, scores, thoughts) == [-10.0, 3.5, -10.0, -5.0]
    # One that cannot be judged moves no others.
    assert hybrid.reward(QUESTION, ["word " * 3000, *responses[1:]], scores, thoughts) == [None, 3.5, -10.0, -5.0]
    assert guarded.reward(QUESTION, [], []) == []
    for short in ((scores[1:],), (scores, thoughts[1:]), ([*scores, 1.0], thoughts), (scores, [])):
        with pytest.raises(ValueError, match="different numbers of rows: .*'response' has 4"):
            guarded.reward(QUESTION, responses, *short)


# What is no conversation, and why.
WRONG: list[tuple[Any, str]] = [
    (None, "it is null"),
    (3, "not int"),
    (float("nan"), "not float"),
    (b"Hello", "not bytes"),
    ({"role": "user", "content": "Hello"}, "not dict"),
    (Message.user("Hello"), "not one message: put it into a list"),
    ([3], r"messages\[0\] is neither a Message"),
    (["Hello", "Hello"], r"messages\[0\] is a text, not a message: .* several to annotate_all"),
    ([("user",)], r"messages\[0\] is neither a Message"),
    ([{"role": 3, "content": "Hello"}], r"messages\[0\].role is not a text"),
    ([{"content": "Hello"}], r"messages\[0\].role is missing"),
    ([{"role": "user", "content": 3}], r"messages\[0\].content is neither"),
    ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {1, 2}}}]}], "not JSON serializable"),
    ("a\ud800", r"messages\[0\].content has a lone surrogate at character 1"),
    ([("user", "Hello"), ("assis\udfff", "Hello")], r"messages\[1\].role has a lone surrogate at character 5"),
    ([{"role": "user", "content": "Hello", "\ud800": "x"}], "is not read"),
    ([], "no message"),
]


def test_one_that_is_no_conversation_leaves_the_others_alone(gen: Guard) -> None:
    wrong: list[Any] = [one for one, _ in WRONG]
    found = gen.annotate_all([*wrong, "Hello"], return_errors=True)
    assert isinstance(found[-1], qwenguard.Annotation)
    for (_, reason), one in zip(WRONG, found):
        assert isinstance(one, qwenguard.ConversationError)
        assert re.search(reason, str(one)), one
    # The first one is raised, and says which it is.
    for index, (one, reason) in enumerate(WRONG):
        with pytest.raises(qwenguard.ConversationError, match=rf"^conversations\[{index + 1}\]: .*{reason}"):
            gen.annotate_all([*["Hello"] * (index + 1), one, *wrong])
    with pytest.raises(qwenguard.ContextFullError, match=r"^conversations\[1\]: "):
        gen.annotate_all(["Hello", "word " * 3000])
    # The table of a batch that is wrong has all reasons, and other rows have none.
    messages = gen.annotate_table({"messages": [*wrong, [("user", "Hello")]]})
    assert messages["guard_risk"] == [None] * len(wrong) + ["Safe"]
    assert all(messages["guard_error"][:-1]) and messages["guard_error"][-1] is None
    json.dumps(messages["guard_error"], ensure_ascii=False).encode()
    with pytest.raises(TypeError, match="several to annotate_all"):
        gen.annotate(["Hello", "Hello"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not int"):
        gen.annotate(3)  # type: ignore[arg-type]


def test_texts_of_a_table_that_are_none(gen: Guard) -> None:
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    null, other = "conversation: prompt is null", "conversation: prompt is not a text"
    nothing = [None, float("nan"), pandas.NA, pandas.NaT]
    frames: list[tuple[Any, list[str | None]]] = [
        (pandas.Series(["Hello", *nothing, 3, b"Hello", ["Hello"]], dtype=object), [None, *[null] * 4, *[other] * 3]),
        (pandas.Series(["Hello", None], dtype="string[python]"), [None, null]),
        (pandas.Series(["Hello", None], dtype="string[pyarrow]"), [None, null]),
        (pandas.Series(["Hello", None], dtype=pandas.ArrowDtype(arrow.string())), [None, null]),
        (pandas.Series([1.5, None]), [other, null]),
        (pandas.Series([1, None], dtype="Int64"), [other, null]),
        (pandas.to_datetime(pandas.Series(["2026-01-01", None])), [other, null]),
        (arrow.array(["Hello", None]), [None, null]),
        (arrow.array(["Hello", None]).dictionary_encode(), [None, null]),
        (arrow.nulls(2), [null, null]),
        (arrow.array([1, None]), [other, null]),
    ]
    for column, errors in frames:
        is_pandas = isinstance(column, pandas.Series)
        table = pandas.DataFrame({"prompt": column}) if is_pandas else arrow.table({"prompt": column})
        found = gen.annotate_table(table)["guard_error"]
        read = [None if pandas.isna(one) else one for one in found] if is_pandas else found.to_pylist()
        assert read == errors, column
        alone = gen.annotate_all(column, return_errors=True)
        # A list is a conversation there, of a text that is no message.
        assert [isinstance(one, qwenguard.Annotation) for one in alone] == [error is None for error in errors], column
    rewards = pandas.DataFrame({"prompt": ["Hello"] * 3, "response": ["Hi!"] * 3, "score": [1.0, None, pandas.NA]}, dtype=object)
    judged = gen.annotate_table(rewards, reward={}, helpfulness="score")
    assert judged["guard_error"].tolist()[1:] == ["helpfulness: score is null"] * 2 and judged["guard_reward"].tolist()[0] == 1.0
    # An error that quotes a lone surrogate can be written.
    text = pandas.DataFrame({"messages": pandas.Series([[{"role": "user", "content": "Hello", "\ud800": "x"}]])})
    assert "\\ud800" in gen.annotate_table(text)["guard_error"][0]


def test_messages_as_json(gen: Guard) -> None:
    twice = '[{"role": "user", "role": "user"}]'
    texts = ['[{"role": "user", "content": "Hello"}]', "Hello", '{"role": "user"}', twice, "[" * 100000]
    found = gen.annotate_table({"messages": texts})
    assert found["guard_risk"] == ["Safe", *[None] * 4] and found["guard_mode"][0] == "prompt"
    assert all("messages is a text, but not a list of messages in JSON" in error for error in found["guard_error"][1:])


def test_messages_of_parquet_in_pandas(gen: Guard) -> None:
    """Lists come as arrays there, also those in the messages."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("pandas")
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call, call]}
    messages = [[{"role": "user", "content": QUESTION, "tool_calls": []}, said]]
    sink = io.BytesIO()
    parquet.write_table(arrow.table({"messages": messages}), sink)
    found = gen.annotate_table(parquet.read_table(sink).to_pandas())
    assert found["guard_mode"].tolist() == ["response"], found["guard_error"].tolist()


def test_columns_of_different_lengths_are_refused(gen: Guard) -> None:
    def fail(_: Any) -> Any:
        raise AssertionError("something was judged")

    wrong: list[dict[str, Any]] = [
        {"prompt": ["Hello", "Hello"], "response": ["Hi"]},
        {"prompt": ["Hello", "Hello"], "score": [1.0]},
        {"prompt": ["Hello", "Hello"], "id": []},
        {"prompt": ["Hello", "Hello"], "thought": ["x", "y", "z"]},
    ]
    for table in wrong:
        second = list(table)[1]
        message = f"different numbers of rows: 'prompt' has 2, '{second}' has {len(table[second])}"
        options: dict[str, Any] = {"score": {"helpfulness": "score"}, "thought": {"thinking": "thought"}}.get(second, {})
        with pytest.raises(ValueError, match=message):
            annotated(fail, table, None, None, None, "guard_", "refuse", {}, options.get("helpfulness"), options.get("thinking"))
        with pytest.raises(ValueError, match=message):
            gen.annotate_table(table, reward={}, **options)
    with pytest.raises(TypeError, match="the column 'source' is not a list but str"):
        gen.annotate_table({"prompt": ["Hello"], "source": "x"})
    with pytest.raises(TypeError, match="the column 'prompt' is not a list but generator"):
        gen.annotate_table({"prompt": (text for text in ["Hello"])})


def test_tables_are_not_lists_of_conversations(gen: Guard) -> None:
    arrow, pandas = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    table = arrow.table({"prompt": ["Hello"]})
    for one in (table, table.to_batches()[0], pandas.DataFrame({"prompt": ["Hello"]}), {"prompt": ["Hello"]}):
        with pytest.raises(TypeError, match="annotate_table judges the rows of a table"):
            gen.annotate_all(one)
    chunks = table.column("prompt")
    for column in (chunks, chunks.combine_chunks(), pandas.Series(["Hello"]), pandas.array(["Hello"])):
        assert [one.risk for one in gen.annotate_all(column)] == ["Safe"]
    tuples = gen.annotate_table({"prompt": ("Hello",), "id": range(1)})
    assert tuples["prompt"] == ["Hello"] and tuples["id"] == [0]
    with pytest.raises(TypeError, match="a table of Arrow"):
        gen.annotate_table(table.column("prompt"))
    double = pandas.DataFrame([["Hello", "Hello"]], columns=["prompt", "prompt"])
    with pytest.raises(ValueError, match="several columns 'prompt'"):
        gen.annotate_table(double)


def test_columns_are_named(gen: Guard) -> None:
    with pytest.raises(KeyError, match="no column messages, prompt or text; there are body"):
        gen.annotate_table({"body": ["Hello"]})
    with pytest.raises(KeyError, match="no column 'bodies'"):
        gen.annotate_table({"body": ["Hello"]}, prompt="bodies")
    with pytest.raises(ValueError, match="'guard_risk' already"):
        gen.annotate_table({"text": ["Hello"], "guard_risk": ["?"]})
    assert gen.annotate_table({"body": ["Hello"], "guard_risk": ["?"]}, prompt="body", prefix="x_")["x_risk"] == ["Safe"]
    with pytest.raises(TypeError, match="a table of Arrow"):
        gen.annotate_table([1])
    with pytest.raises(TypeError, match="not one text"):
        gen.annotate_all("Hello")
    cut: dict[str, Any] = gen.annotate_table({"text": ["word " * 3000]}, overflow="head")
    assert cut["guard_is_cut"] == [True] and cut["guard_windows"] == [1]


def test_one_that_fails_leaves_the_others_alone(guard: Guard) -> None:
    found = guard.annotate_all(["Hello", [], [{"role": "user"}], "Hello"], return_errors=True)
    assert [type(one).__name__ for one in found] == ["Annotation", "ConversationError", "ConversationError", "Annotation"]
    with pytest.raises(qwenguard.ConversationError):
        guard.annotate_all(["Hello", []])
    # More than are given to the engine at once.
    many = guard.annotate_all([f"Question {number}" for number in range(600)])
    for number in (0, 1, 64, 127, 300, 599):
        assert many[number].json() == guard.annotate(f"Question {number}").json()


def test_progress_is_shown_where_a_terminal_is() -> None:
    pytest.importorskip("tqdm")
    program = "from qwenguard import Guard; print(len(Guard.nano().annotate_all(['Hello'] * 600)))"
    quiet = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (quiet.stdout, quiet.stderr) == ("600\n", "")
    terminal, child = os.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=child, check=True)
    os.close(child)
    shown = b""
    # The end of a terminal is an error.
    with contextlib.suppress(OSError):
        while more := os.read(terminal, 4096):
            shown += more
    os.close(terminal)
    assert b"600/600" in shown and b"conversation/s" in shown


def test_messages_of_clients(guard: Guard) -> None:
    from qwenguard._messages import pairs, unescape

    call = {"type": "function", "id": "1", "function": {"name": "f", "arguments": '{"a": "b\\u00e9\\n\\ud83c\\udf6e"}'}}
    said = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "hm"}
    (role, text) = pairs([said])[0]
    assert role == "assistant"
    assert text == '<think>\nhm\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {"a": "bé\\n🍮"}}\n</tool_call>'
    assert unescape(r"\\u0041 \u0022 \ud800") == r"\\u0041 \u0022 \ud800"
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert pairs([{"role": "user", "content": parts, "name": "me"}]) == [("user", "ab")]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"role": "user", "content": [{"type": "image_url"}]}, "type 'image_url' cannot be judged"),
        ({"role": "user", "content": None}, "content is null"),
        ({"role": "user", "content": 3}, "neither a text nor a list"),
        ({"content": "x"}, "role is missing"),
        ({"role": "user", "content": "x", "tool_calls": [call]}, "tool_calls"),
        ({"role": "assistant", "reasoning": "a", "reasoning_content": "b"}, "differ"),
        ({"role": "assistant", "tool_calls": [{"type": "custom"}]}, "type 'custom'"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, "arguments is missing"),
    ]
    for message, reason in wrong:
        with pytest.raises(qwenguard.ConversationError, match=reason):
            guard.annotate([message])


def test_arrow_and_pandas_are_not_imported() -> None:
    program = (
        "import sys, qwenguard; g = qwenguard.Guard.nano(); g.annotate_table({'text': ['Hello']});"
        "print([n for n in ('pyarrow', 'pandas', 'numpy', 'onnxruntime', 'tqdm') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
