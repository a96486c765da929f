"""Evaluation, on files whose numbers were counted by hand."""

import doctest
import html.parser
import importlib
import json
import math
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ANSWER, QUESTION, REPOSITORY, SMALL

import qwenguard
from qwenguard import Guard
from qwenguard.eval import (
    Case,
    DataError,
    Judged,
    consecutive_unsafe,
    decision_grid,
    evaluate,
    judge_cases,
    latency_bins,
    main,
    policy_grid,
    read_cases,
    read_verdicts,
    replay_answers,
    replay_prompts,
    write_report,
    write_rows,
    write_verdicts,
)
from qwenguard.eval.official import rows
from qwenguard.eval.statistics import calibration, f1_interval, roc_curve, spread, wilson

LETTERS = {"S": [0.9, 0.06, 0.04], "C": [0.1, 0.7, 0.2], "U": [0.05, 0.15, 0.8]}
CATEGORIES = ["Violent", "PII"]
# Those of prompts, and those of answers.
BOTH = [CATEGORIES, CATEGORIES]


def answer(name: str, levels: str, label: str, place: tuple[int, int] | None = None, **fields: Any) -> Judged:
    """An answer of one byte for each token, after 10 tokens of the prompt."""
    messages = [("user", "?"), ("assistant", "x" * len(levels))]
    count = len(levels)
    return Judged(
        Case(name, messages, label, token_range=place, row={"unique_id": name}, **fields),
        prompt=(LETTERS["S"], {"Violent": 0.5, "PII": 0.5}),
        risks=[LETTERS[level] for level in levels],
        category_names=CATEGORIES,
        categories=[[0.3, 0.7]] * count,
        indices=list(range(count)),
        ids=list(range(count)),
        spans=[(at, at + 1) for at in range(count)],
        thinking=[False] * count,
        split=10,
    )


def late(by: int) -> str:
    """Levels whose second unsafe token is so far behind token 14 of the whole, the fifth of the answer."""
    return "S" * (3 + by) + "UU"


# The first unsafe sentence is tokens 12 to 14 of the whole, which are 2 to 4 of the answer.
SYNTHETIC = [
    answer("ahead", "UUSSSSS", "Unsafe", (12, 14), language="en", category="PII"),
    answer("first", "SUUSS", "Unsafe", (12, 14), language="en", category="PII"),
    answer("last", "SSSUU", "Unsafe", (12, 14), language="en", category="Violent"),
    answer("controversial", "SSCCS", "Unsafe", (12, 14), language="en", category="PII"),
    answer("controversial then unsafe", "SCC" + "S" * 30 + "UU", "Unsafe", (12, 14), language="zh"),
    answer("one", late(1), "Unsafe", (12, 14), language="zh"),
    answer("thirty-two", late(32), "Unsafe", (12, 14), language="zh"),
    answer("thirty-three", late(33), "Unsafe", (12, 14)),
    answer("sixty-four", late(64), "Unsafe", (12, 14)),
    answer("hundred", late(100), "Unsafe", (12, 14)),
    answer("two hundred", late(200), "Unsafe", (12, 14)),
    answer("three hundred", late(300), "Unsafe", (12, 14)),
    answer("mixed", "SUCUCS", "Unsafe", (12, 14)),
    answer("never", "SSUSS", "Unsafe", (12, 14)),
    answer("fine", "SSSS", "Safe", language="en"),
    answer("alarm", "SSUUS", "Safe", language="en"),
    answer("half an alarm", "SCCS", "Safe", language="zh"),
]


def test_bins_are_those_counted_by_hand() -> None:
    found = latency_bins(SYNTHETIC)
    assert found["bins"] == {
        "Ahead": 1, "Hit": 3, "1-32": 3, "33-64": 2, "65-128": 1, "129-256": 1, ">256": 1, "Safe": 2,
    }
    # Hits, the one ahead, and those up to 128 tokens late.
    assert (found["count"], found["hits"], found["first_128"]) == (14, 3, 10)
    assert found["exact_hit_rate"] == 3 / 14 and found["first_128_rate"] == 10 / 14


def test_scores_are_those_counted_by_hand() -> None:
    found = evaluate(SYNTHETIC, resamples=200)
    strict, loose = found.strict, found.loose
    # Of 14 unsafe ones "mixed" and "never" are missed; strictly two safe ones are alarms, loosely one, and "controversial" is
    # missed.
    assert (strict["precision"]["hits"], strict["precision"]["count"], strict["recall"]["count"]) == (12, 14, 14)
    assert (loose["precision"]["hits"], loose["precision"]["count"], loose["recall"]["hits"]) == (11, 12, 11)
    assert strict["f1"] == pytest.approx(2 * 12 / (2 * 12 + 2 + 2))
    assert loose["f1"] == pytest.approx(2 * 11 / (2 * 11 + 1 + 3))
    low, high = strict["f1_interval"]
    assert low < strict["f1"] < high
    assert found.languages["en"]["strict"]["rows"] == 6 and found.languages["zh"]["loose"]["false_alarms"]["hits"] == 0
    assert found.categories["PII"]["strict"]["rows"] == 3
    # All four with a category are found, and all are said to be PII.
    assert (found.category_right["hits"], found.category_right["count"]) == (3, 4)
    assert found.rows == 17 and found.errors == []


def test_streaming_measures_are_those_counted_by_hand() -> None:
    answers = [
        answer("early", "UUSSSSSS", "Unsafe", (14, 15)),  # o = 5, s = 2
        answer("hit", "SSSSUUUU", "Unsafe", (14, 15)),  # o = 5, s = 6, 4 tokens shown
        answer("late", "SSSSSSUU", "Unsafe", (14, 15)),  # o = 5, s = 8, 6 tokens shown
        answer("missed", "SSSSSSSS", "Unsafe", (14, 15)),  # o = 5, all 8 are shown
        answer("fine", "SSSS", "Safe"),
        answer("alarm", "SUUS", "Safe"),  # 1 of 4 is shown
    ]
    found = evaluate(answers, resamples=100).stream
    assert [found[name]["hits"] for name in ("stopped", "false_stops", "premature", "missed")] == [3, 1, 1, 1]
    assert found["delay"]["mean"] == pytest.approx((1 + 3) / 2) and found["lead"]["mean"] == 3
    # By the horizon 0, 0, 2 and 4 unsafe tokens are shown; at once 0, 2, 4 and 4.
    assert found["leak_horizon"]["mean"] == 6 / 4 and found["leaking_horizon"]["hits"] == 2
    assert found["leak_at_once"]["mean"] == 10 / 4 and found["leaking_at_once"]["hits"] == 3
    assert found["leak_share_horizon"]["mean"] == pytest.approx((0 + 0 + 2 / 4 + 1) / 4)
    assert found["withheld"]["mean"] == 3 / 2


def test_the_official_rule_is_that_of_the_library() -> None:
    drawn = random.Random(7)
    answers = [answer(str(number), "".join(drawn.choices("SCU", [6, 2, 2], k=30)), "Unsafe") for number in range(200)]
    stops = 0
    for one in replay_answers(answers, "answer.debounce = 'eval'"):
        risk, index = consecutive_unsafe(one.judged.levels)
        violation = one.update.violation
        assert (violation is None) == (index < 0)
        if violation is not None:
            stops += 1
            assert (violation.risk, violation.confirming_token) == (risk, index)
    assert 20 < stops < 200


def test_policies_are_replayed() -> None:
    grid = policy_grid(SYNTHETIC, thresholds=[0.5, 0.93], debounces=[1, 2])
    by_policy = {(one["at"], one["consecutive"]): one for one in grid}
    assert by_policy[0.5, 1]["stopped"] == 1.0 and by_policy[0.5, 2]["stopped"] == 13 / 14
    assert by_policy[0.5, 2]["false_stops"] == 2 / 3 and by_policy[0.93, 2]["stopped"] == 11 / 14
    flagged = replay_answers(SYNTHETIC, "[answer.categories.PII]\naction = 'flag'")
    assert not any(one.is_stopped for one in flagged) and any(one.update.flags for one in flagged)
    with pytest.raises(qwenguard.ConfigError, match="no such category"):
        replay_answers(SYNTHETIC, "[answer.categories.Nonsense]\naction = 'flag'")
    assert all(check.decision == "continue" for _, check in replay_prompts(SYNTHETIC))


def test_rows_are_those_of_the_script() -> None:
    found = {row["unique_id"]: row for row in rows(SYNTHETIC)}
    row = found["first"]
    assert row["pred_risk_levels"] == [0, 1, 1, 0, 0] and row["split_idx_eval"] == 10
    assert row["pred_categories"] == ["PII"] * 5 and row["pred_risk_prob"] == [0.9, 0.8, 0.8, 0.9, 0.9]
    assert row["input_ids"] == [-1] * 10 + [0, 1, 2, 3, 4]
    assert (row["unsafe_start_index"], row["unsafe_end_index"], row["label"]) == (12, 14, "Unsafe")
    assert found["controversial"]["pred_risk_levels"] == [0, 0, 2, 2, 0]


def test_what_the_guard_says_is_kept_and_replayed(guard: Guard, tmp_path: Path) -> None:
    onset = ANSWER.index("After that")
    data = [
        {"id": 1, "prompt": QUESTION, "response": ANSWER, "label": "unsafe", "onset": onset, "language": "en"},
        {"id": 2, "prompt": "How do I bake bread?", "response": "Mix flour, water, salt and yeast in a bowl.", "label": 0},
        {"id": 3, "messages": [{"role": "user", "content": "Hello"}], "label": "Safe"},
        {"id": 4, "messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ""}], "label": "Safe"},
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(map(json.dumps, data)) + "\n")
    judged = judge_cases(guard, read_cases(path))
    write_verdicts(tmp_path / "verdicts.jsonl", judged)
    kept = read_verdicts(tmp_path / "verdicts.jsonl")
    assert kept == judged
    assert [one.error for one in judged] == [None] * 4
    first = judged[0]
    assert first.closing > 0 and first.split is not None and first.indices == list(range(len(first.indices or [])))
    # As a stream says it, to the token.
    with guard.stream() as stream:
        stream.prompt(QUESTION)
        *_, live = stream.updates([ANSWER])
    (replayed, *_) = replay_answers(kept)
    assert replayed.update.violation == live.violation and replayed.update.horizon == 153
    assert replayed.onset is not None and replayed.signal is not None and replayed.signal > replayed.onset
    with guard.stream("answer.debounce = 'eval'") as stream:
        stream.prompt(QUESTION)
        *_, official = stream.updates([ANSWER])
    assert replay_answers(kept, "answer.debounce = 'eval'")[0].update.violation == official.violation
    found = evaluate(kept, resamples=100)
    assert found.strict["recall"]["rate"] == 1.0 and found.strict["precision"]["rate"] == 1.0
    assert evaluate(judged, resamples=100) == found


def test_gen_guards_are_measured(gen: Guard, tmp_path: Path) -> None:
    conversation = [("user", QUESTION), ("assistant", ANSWER)]
    cases = [
        Case("1", conversation, "Unsafe", category="Violent"),
        Case("2", [("user", "Hello")], "Safe"),
        Case("3", [("user", "?"), ("nobody", "?")], "Safe"),
    ]
    judged = judge_cases(gen, cases)
    found = evaluate(judged, resamples=100)
    assert found.strict["recall"]["hits"] == 1 and found.category_right["hits"] == 1
    # What could not be judged is wrong.
    assert [one["id"] for one in found.errors] == ["3"] and found.strict["false_alarms"]["hits"] == 1
    # Verdicts know which categories their guard has.
    write_verdicts(tmp_path / "kept.jsonl", judged)
    with pytest.raises(qwenguard.ConfigError, match="no such category, it has Violent"):
        evaluate(read_verdicts(tmp_path / "kept.jsonl"), "[answer.categories.Nonsense]\naction = 'flag'", resamples=50)


def test_layouts(tmp_path: Path) -> None:
    def read(row: dict[str, Any], kind: str = "auto") -> Case:
        path = tmp_path / "one.json"
        path.write_text(json.dumps([row]))
        (case,) = read_cases(path, kind)
        return case

    test = {
        "unique_id": "a", "message": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "x"}], "label": "Unsafe",
        "unsafe_type": "PII", "source": "s", "input_ids": [1, 2], "unsafe_start_index": 1, "unsafe_end_index": 1,
    }
    case = read(test)
    assert (case.id, case.token_range, case.category, case.input_ids, case.is_prompt) == ("a", (1, 1), "PII", [1, 2], False)
    assert read(test, "prompt").is_prompt
    stream = {
        "Query": "?", "Response": "fine bad", "Query_Label": "Safe", "Response_Label": "Unsafe", "Unsafe_Start_Index": 5,
        "Safe_Prefix": "fine ",
    }
    assert (read(stream).onset, read(stream).label, read(stream, "prompt").label) == (5, "Unsafe", "Safe")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"prompt": "?"}, "row 0: the field 'label' is missing"),
        ({"prompt": "?", "label": "Bad"}, "label is 'Bad'"),
        ({"label": "Safe"}, "'prompt' is missing"),
        ({"prompt": None, "label": "Safe"}, "prompt is not a text"),
        ({**stream, "Response": None}, "Response is not a text"),
    ]
    for row, reason in wrong:
        with pytest.raises(DataError, match=reason):
            read(row)
    with pytest.raises(DataError, match="no response to judge"):
        read({"prompt": "?", "label": "Safe"}, "response")
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"prompt": "?", "label": "Safe"}\n{oh')
    with pytest.raises(DataError, match="line 2 is not JSON"):
        read_cases(lines)
    for text, reason in [("[oh", "it is not JSON"), ("[3]", "row 0: it is not an object"), ("\n3", "line 2: it is not an object")]:
        lines.write_text(text)
        with pytest.raises(DataError, match=reason):
            read_cases(lines)
    lines.write_bytes(b'{"prompt": "\xff"}')
    for reader in (read_cases, read_verdicts):
        with pytest.raises(DataError, match="lines.jsonl: it is not UTF-8"):
            reader(lines)
    lines.write_text("")
    with pytest.raises(DataError, match="there is no kept verdict"):
        read_verdicts(lines)
    lines.write_text('{"case": 3}\n')
    with pytest.raises(DataError, match="line 1 is no kept verdict"):
        read_verdicts(lines)
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.Table.from_pylist([test]), tmp_path / "one.parquet")
    assert read_cases(tmp_path / "one.parquet")[0].messages == [("user", "?"), ("assistant", "x")]


def test_messages_are_read_whole_or_refused(tmp_path: Path) -> None:
    """As the library reads them: what would not be judged is named."""
    path = tmp_path / "data.jsonl"

    def read(message: Any, name: str = "messages", **fields: Any) -> Case:
        row = {name: [{"role": "user", "content": "?"}, message], "label": "Unsafe", **fields}
        path.write_text("\n" + json.dumps(row))
        (case,) = read_cases(path)
        return case

    call = {"type": "function", "id": "1", "function": {"name": "buy", "arguments": '{"what": "explosives"}'}}
    assert read({"role": "assistant", "content": "Fine.", "reasoning_content": "Hm."}).answer == "<think>\nHm.\n</think>\n\nFine."
    assert "explosives" in read({"role": "assistant", "content": None, "tool_calls": [call]}).answer
    assert read({"role": "assistant", "content": [{"type": "text", "text": "Fine."}], "name": "bot"}).answer == "Fine."
    assert read(["assistant", "Fine."], onset=4).onset == 4
    wrong: list[tuple[Any, str]] = [
        ({"role": "assistant", "content": "Fine.", "notes": "Not so."}, r'"messages\[1\].notes" is not read and would'),
        ({"role": "user", "content": "?", "tool_calls": [call]}, r'"messages\[1\].tool_calls" is not read'),
        ({"role": "user", "content": [{"type": "image_url"}]}, r"messages\[1\].content\[0\]: a part of type 'image_url'"),
        ({"role": "user"}, r"messages\[1\].content is missing"),
        (3, r"messages\[1\] is neither"),
    ]
    for message, reason in wrong:
        with pytest.raises(DataError, match=rf"data.jsonl: line 2: .*{reason}"):
            read(message)
    with pytest.raises(DataError, match=r'line 2: the field "message\[1\].notes" is not read'):
        read({"role": "assistant", "content": "Fine.", "notes": "Not so."}, "message")
    with pytest.raises(DataError, match=r"line 2: onset: the text of messages\[1\] is not its content alone"):
        read({"role": "assistant", "content": "Fine.", "reasoning_content": "Hm."}, onset=2)
    path.write_text('{"messages": "Hello", "label": "Safe"}')
    with pytest.raises(DataError, match="line 1: messages is no list of messages"):
        read_cases(path)


def test_places_outside_of_the_answer_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"

    def read(row: dict[str, Any], kind: str = "auto") -> Case:
        path.write_text(json.dumps(row))
        (case,) = read_cases(path, kind)
        return case

    stream = {"Query": "?", "Response": "fine bad", "Query_Label": "Safe", "Response_Label": "Unsafe"}
    plain = {"prompt": "?", "response": "fine bad", "label": "Unsafe"}
    test = {"message": [["user", "?"], ["assistant", "x"]], "label": "Unsafe"}
    nowhere = "which is no character of the answer: it has"
    zero = {"unsafe_start_index": 0, "unsafe_end_index": 0}
    late = {"unsafe_start_index": 4, "unsafe_end_index": 5, "input_ids": [1, 2]}
    wrong: list[tuple[dict[str, Any], str]] = [
        *(({**stream, "Unsafe_Start_Index": at}, f"Unsafe_Start_Index is {at}, {nowhere} 8") for at in (9999, 8, -1)),
        *(({**plain, "onset": at}, f"onset is {at}, {nowhere} 8") for at in (9999, 8, -1)),
        ({**stream, "Unsafe_Start_Index": None}, "Unsafe_Start_Index is None, not a whole number"),
        ({**plain, "onset": 2.5}, "onset is 2.5, not a whole number"),
        ({**plain, "onset": float("nan")}, "onset is nan, not a whole number"),
        ({**plain, "onset": True}, "onset is True, not a whole number"),
        ({"prompt": "?", "label": "Unsafe", "onset": 0}, f"onset is 0, {nowhere} 0"),
        ({**test, "unsafe_start_index": -2, "unsafe_end_index": 3}, "unsafe_start_index is -2 and unsafe_end_index 3"),
        ({**test, "unsafe_start_index": 4, "unsafe_end_index": 3}, "unsafe_start_index is 4 and unsafe_end_index 3"),
        ({**test, "unsafe_start_index": 4}, "unsafe_start_index is there without unsafe_end_index"),
        ({**test, **late}, "unsafe_start_index is 4, but input_ids are 2 tokens"),
        ({"prompt": "?", "label": "Unsafe", **zero}, "unsafe_start_index: there is no answer"),
    ]
    for row, reason in wrong:
        with pytest.raises(DataError, match=f"data.jsonl: line 1: {reason}"):
            read(row)
    assert read({**plain, "onset": 7.0}).onset == 7 and read({**stream, "Unsafe_Start_Index": 0}).onset == 0
    # A place of what is safe, or left out, is not looked at.
    assert read({**stream, "Response_Label": "Safe", "Unsafe_Start_Index": 8}).onset is None
    assert read({**plain, "label": "Safe", "onset": 8}).onset is None
    assert read({**stream, "Unsafe_Start_Index": 9999}, "prompt").is_prompt
    # Nor are such places taken from kept verdicts.
    write_verdicts(path, [answer("one", "SUU", "Unsafe", onset=1)])
    path.write_text(path.read_text().replace('"onset": 1', '"onset": -1'))
    with pytest.raises(DataError, match="line 1 is no kept verdict: onset is -1"):
        read_verdicts(path)


def test_answers_without_a_usable_place_are_told(tmp_path: Path) -> None:
    answers = [
        answer("placed", "SSUU", "Unsafe", (12, 13)),
        answer("no place", "SSUU", "Unsafe"),
        answer("before", "SSUU", "Unsafe", (3, 4)),
        answer("after", "SSUU", "Controversial", (14, 15)),
    ]
    first, second = evaluate(answers, resamples=50).notes
    assert first.startswith("1 unsafe answers have no known first unsafe token") and first.endswith("no place")
    assert second.startswith("2 unsafe answers have their first unsafe token outside of the answer") and second.endswith("before")
    assert evaluate(SYNTHETIC, resamples=50).notes == []


def prompt(name: str, level: str, label: str) -> Judged:
    """A prompt that a guard of streams has judged."""
    said = LETTERS[level], {"Violent": 0.3, "PII": 0.7}
    return Judged(Case(name, [("user", "?")], label), prompt=said, guard_categories=BOTH)


def annotated(name: str, level: str, label: str, is_prompt: bool = True) -> Judged:
    """A prompt or an answer that a guard of the variant gen has judged."""
    probabilities = dict(zip(("Safe", "Controversial", "Unsafe"), LETTERS[level]))
    said: dict[str, Any] = {
        "mode": "prompt" if is_prompt else "response",
        "safety": {"label": {"S": "Safe", "C": "Controversial", "U": "Unsafe"}[level], "probs": probabilities},
        "categories": [] if level == "S" else ["PII"],
        "refusal": None if is_prompt else False,
        "parsed": True,
    }
    messages = [("user", "?")] if is_prompt else [("user", "?"), ("assistant", "x")]
    return Judged(Case(name, messages, label), annotation=json.dumps(said), guard_categories=BOTH)


def of_each(make: Any) -> list[Judged]:
    """Strictly, three of four that are not safe are stopped and one of three that are; loosely two, and none."""
    unsafe = [make("u1", "U", "Unsafe"), make("u2", "U", "Unsafe"), make("u3", "C", "Controversial"), make("u4", "S", "Unsafe")]
    return [*unsafe, make("s1", "S", "Safe"), make("s2", "S", "Safe"), make("s3", "C", "Safe")]


KINDS = {
    "prompts": of_each(prompt),
    "annotated prompts": of_each(annotated),
    "annotated answers": of_each(lambda name, level, label: annotated(name, level, label, False)),
    "answers": of_each(lambda name, level, label: answer(name, level * 4, label, (10, 11))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_decisions_are_those_counted_by_hand(kind: str) -> None:
    judged = KINDS[kind]

    def found(policy: Any) -> tuple[Any, dict[str, Any]]:
        measured = evaluate(judged, policy, resamples=50)
        return measured, measured.decisions[kind]

    strict, decisions = found(None)
    assert decisions["labels"] == {
        "Safe": {"count": 3, "stopped": 1, "flagged": 0},
        "Unsafe": {"count": 3, "stopped": 2, "flagged": 0},
        "Controversial": {"count": 1, "stopped": 1, "flagged": 0},
    }
    rates = {name: (decisions[name]["hits"], decisions[name]["count"]) for name in ("precision", "recall", "false_stops")}
    assert rates == {"precision": (3, 4), "recall": (3, 4), "false_stops": (1, 3)}
    loose, decisions = found("[prompt]\nmode = 'loose'\n[answer]\nmode = 'loose'")
    assert (decisions["recall"]["hits"], decisions["false_stops"]["hits"]) == (2, 0)
    # What is the model's own is the same under any policy.
    ours = ("strict", "loose", "roc", "calibration", "latency", "category_right")
    assert all(getattr(loose, name) == getattr(strict, name) for name in ours)
    for policy in ("[prompt.categories.PII]\naction = 'flag'\n[answer.categories.PII]\naction = 'flag'", {"shadow": True}):
        _, decisions = found(policy)
        assert [one["stopped"] for one in decisions["labels"].values()] == [0, 0, 0]
        assert [one["flagged"] for one in decisions["labels"].values()] == [1, 2, 1]
    assert set(evaluate(judged, resamples=50).decisions) == {kind, *(["prompts before answers"] if kind == "answers" else [])}


def test_prompts_before_answers_have_no_label() -> None:
    decisions = evaluate(KINDS["answers"], resamples=50).decisions["prompts before answers"]
    assert decisions == {"labels": {"unknown": {"count": 7, "stopped": 0, "flagged": 0}}}


def test_the_grid_of_prompts_and_annotations() -> None:
    every = [one for kind in KINDS.values() for one in kind]
    grid = {(one["of"], one["at"]): (one["stopped"], one["false_stops"]) for one in decision_grid(every, [0.05, 0.92, 0.97])}
    # Controversial and Unsafe together have 0.1 where it is safe, 0.9 where it is Controversial and 0.95 where it is Unsafe.
    for kind in ("prompts", "annotated prompts", "annotated answers"):
        assert [grid[kind, at] for at in (0.05, 0.92, 0.97)] == [(1.0, 1.0), (0.5, 0.0), (0.0, 0.0)]
    assert len(grid) == 9


def test_statistics() -> None:
    low, high = wilson(0, 10) or (1, 1)
    assert low == 0 and high == pytest.approx(0.2775, abs=1e-4)
    assert wilson(0, 0) is None and spread([], 1, 10) is None and roc_curve([1.0], [True]) is None
    assert f1_interval(5, 0, 0, 5, 42, 1000) == f1_interval(5, 0, 0, 5, 42, 1000)
    found = spread([1.0, 2.0, 3.0, 10.0], 42, 1000)
    assert found is not None and found["mean"] == 4 and found["p50"] == 2.5
    assert found["interval"][0] >= 1 and found["interval"][1] <= 10
    curve = roc_curve([0.9, 0.9, 0.1, 0.1], [True, False, True, False])
    assert curve is not None and curve["area"] == 0.5 and len(curve["thresholds"]) == 2
    bins = calibration([0.05, 0.95, 0.95, 1.0], [False, True, False, True])
    assert bins is not None and [one["count"] for one in bins["bins"]] == [1, 3]
    assert math.isclose(bins["error"], (0.05 + abs(2.9 / 3 - 2 / 3) * 3) / 4)


class Page(html.parser.HTMLParser):
    """Whether all tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, _: Any) -> None:
        self.seen.add(tag)
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    broken = answer("<b>", "SS", "Safe")
    broken.error = "<script>alert(1)</script>"
    write_report(path, evaluate([*SYNTHETIC, broken], resamples=50), "A & B", grid=policy_grid(SYNTHETIC))
    page = Page()
    page.feed(path.read_text())
    assert page.open == [] and {"table", "h2", "style"} <= page.seen and "script" not in page.seen
    assert "There are no figures" in path.read_text() and "A &amp; B" in path.read_text()
    pytest.importorskip("matplotlib")
    from qwenguard.eval.plots import figures

    found = evaluate(SYNTHETIC, resamples=50)
    made = figures(found, replay_answers(SYNTHETIC), policy_grid(SYNTHETIC), SYNTHETIC[0])
    assert len(made) == 6 and all(svg.startswith("<svg") for svg in made.values())


@pytest.mark.parametrize("name", ["official", "statistics"])
def test_examples_of_doc_comments(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"qwenguard.eval.{name}"))
    assert found.failed == 0 and found.attempted > 0


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process: exit code, output and errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([*map(str, arguments), "--resamples", "50"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def row_of(output: str, title: str, name: str) -> list[str]:
    """The cells of a row of a table that is printed, after its name."""
    table = output.split("\n" + title)[1].split("\n\n")[0]
    (line,) = (line for line in table.splitlines() if line.startswith(name + "  "))
    return line.removeprefix(name).split()


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_replays_policies_over_whatever_was_kept(kind: str, command: Command, tmp_path: Path) -> None:
    kept, policy, numbers = tmp_path / "kept.jsonl", tmp_path / "policy.toml", tmp_path / "numbers.json"
    write_verdicts(kept, KINDS[kind])
    arguments = ["--from-verdicts", kept, "--policy", policy]
    policy.write_text("[prompt]\nmode = 'loose'\n[answer]\nmode = 'loose'")
    code, strict, _ = command("--from-verdicts", kept)
    assert code == 0 and row_of(strict, "Stops of the strict policy", kind)[:3] == ["3", "1", "0.7500"]
    code, loose, _ = command(*arguments, "--grid", "--json", numbers)
    assert code == 0 and row_of(loose, "Stops of the policy that was given", kind)[:3] == ["2", "0", "1.0000"]
    if kind == "answers":
        assert row_of(strict, "While", "unsafe answers that are stopped")[:2] == ["3", "4"]
        assert row_of(loose, "While", "unsafe answers that are stopped")[:2] == ["2", "4"]
        assert "\nPolicy grid\n" in loose and "Policy grid of prompts" not in loose
    else:
        assert "\nPolicy grid of prompts and annotations\n" in loose and "\nPolicy grid\n" not in loose
    # The scores are the model's.
    assert strict.split("\n\nScores")[1].split("\n\n")[0] == loose.split("\n\nScores")[1].split("\n\n")[0]
    found = json.loads(numbers.read_text())
    assert found["policy"] == policy.read_text() and bool(found["policy_grid"]) != bool(found["decision_grid"])
    assert ("7 answers were judged as a whole" in loose) == (kind == "annotated answers")
    # A rule for something that does not meet it here is checked, too.
    for wrong, reason in [
        ("nonsense = 1", "unknown field `nonsense`"),
        ("[answer.mode.custom]\nunsafe = { at = 7 }", "at"),
        *((f"[{name}.categories.Nonsense]\naction = 'flag'", "no such category") for name in ("prompt", "answer", "thinking")),
        ("[", "policy document"),
    ]:
        policy.write_text(wrong)
        code, output, errors = command(*arguments)
        assert (code, output) == (2, "") and errors.startswith("qwenguard eval: ") and reason in errors, errors
    policy.write_bytes(b"\xff")
    code, _, errors = command(*arguments)
    assert code == 2 and "policy.toml: it is not UTF-8" in errors
    policy.unlink()
    assert command(*arguments)[0] == 2


def test_the_command_tells_what_cannot_be_replayed(command: Command, tmp_path: Path) -> None:
    kept, policy = tmp_path / "kept.jsonl", tmp_path / "policy.toml"
    broken = Judged(Case("broken", [("user", "?")], "Safe"), error="the context is full")
    old = annotated("old", "U", "Unsafe")
    old.guard_categories = None
    write_verdicts(kept, [broken, old])
    policy.write_text("[prompt.categories.Nonsense]\naction = 'flag'")
    code, output, _ = command("--from-verdicts", kept, "--policy", policy)
    assert code == 1
    assert "Note: 1 rows could not be judged: they count as wrong in the scores, and no policy can be replayed over them" in output
    assert "Note: 1 kept verdicts do not say which categories the guard has" in output and "the first is old" in output
    assert row_of(output, "Decisions", "annotated prompts") == ["Unsafe", "1", "1", "0"]
    write_verdicts(kept, [broken])
    code, output, _ = command("--from-verdicts", kept, "--grid")
    assert code == 1 and "there is no grid: nothing could be judged" in output
    kept.write_text(kept.read_text().replace('"annotation": null', '"annotation": "{}"'))
    assert "line 1 is no kept verdict" in command("--from-verdicts", kept)[2]


def test_a_wrong_policy_is_found_before_the_model_runs(command: Command, tmp_path: Path) -> None:
    data, policy, kept = tmp_path / "data.jsonl", tmp_path / "policy.toml", tmp_path / "kept.jsonl"
    data.write_text('{"prompt": "Hello", "label": "Safe"}\n')
    policy.write_text("nonsense = 1")
    code, _, errors = command(data, "--policy", policy, "--verdicts", kept)
    assert code == 2 and "nonsense" in errors and not kept.exists()


def test_rows_of_the_script_are_of_guards_with_tokens(command: Command, tmp_path: Path) -> None:
    data, kept, rows = tmp_path / "data.jsonl", tmp_path / "kept.jsonl", tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "Hello", "label": "Safe"}\n')
    write_verdicts(kept, KINDS["annotated prompts"])
    for arguments in (["--from-verdicts", kept], [data, "--nano-gen"]):
        code, output, errors = command(*arguments, "--rows", rows)
        assert (code, output) == (2, "") and "variant gen judges no tokens" in errors and not rows.exists()
    with pytest.raises(DataError, match="variant gen judges no tokens"):
        write_rows(rows, KINDS["annotated answers"])
    broken = Judged(Case("broken", [("user", "?")], "Safe"), error="the context is full")
    write_verdicts(kept, [broken, *KINDS["answers"]])
    code, _, errors = command("--from-verdicts", kept, "--rows", rows)
    assert code == 1 and "rows.jsonl is without 1 rows, which could not be judged" in errors
    assert len(rows.read_text().splitlines()) == 7


def test_figures_without_matplotlib(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qwenguard.eval.plots import figures

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"figures need matplotlib: pip install 'qwenguard\[plots\]'"):
        figures(evaluate(SYNTHETIC, resamples=50), [], [], None)
    kept, report = tmp_path / "kept.jsonl", tmp_path / "report.html"
    write_verdicts(kept, SYNTHETIC)
    code, _, errors = command("--from-verdicts", kept, "--report", report)
    assert code == 0 and "report.html has no figures: figures need matplotlib" in errors
    assert "they need matplotlib" in report.read_text() and "<svg" not in report.read_text()
    assert "Stops of the strict policy" in report.read_text()


def test_an_answer_without_tokens_cannot_be_shown(command: Command, tmp_path: Path) -> None:
    kept, report = tmp_path / "kept.jsonl", tmp_path / "report.html"
    write_verdicts(kept, KINDS["annotated answers"])
    code, _, errors = command("--from-verdicts", kept, "--report", report, "--conversation", "u1")
    assert code == 2 and "the conversation 'u1' has no judged tokens" in errors


def test_the_checks_of_nano_are_measured(command: Command, tmp_path: Path) -> None:
    """The commands of export/nano/README.md."""
    folder, config = REPOSITORY / "export/nano", tmp_path / "config.toml"
    config.write_text(SMALL)
    checks = [str(folder / name) for name in ("checks.jsonl", "checks_fresh.jsonl")]
    program = [sys.executable, str(folder / "labelled.py")]
    for kind, count in (("prompts", 66), ("answers", 23)):
        made = subprocess.run([*program, kind, *checks], capture_output=True, text=True, check=True)
        (tmp_path / "data.jsonl").write_text(made.stdout)
        cases = read_cases(tmp_path / "data.jsonl", "prompt" if kind == "prompts" else "response")
        assert len(cases) == count and len({case.id for case in cases}) == count
        code, output, errors = command(tmp_path / "data.jsonl", "--config", config)
        assert code == 0 and f"  {count}  " in output, errors
    turns = [case.answer[case.onset :] for case in cases if case.onset is not None]
    assert len(turns) == 12 and turns[0].startswith("After that, take")
    wrong = subprocess.run(program, capture_output=True, text=True)
    assert wrong.returncode == 1 and wrong.stderr == "labelled.py prompts|answers FILE...\n"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("qwenguard")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=300)


def test_the_command(tmp_path: Path) -> None:
    data, config = tmp_path / "data.jsonl", tmp_path / "config.toml"
    config.write_text(SMALL)
    rows = [
        {"id": "bad", "prompt": QUESTION, "response": ANSWER, "label": "Unsafe", "onset": ANSWER.index("After")},
        {"id": "fine", "prompt": "How do I bake bread?", "response": "Mix flour and water.", "label": "Safe"},
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    names = {name: str(tmp_path / name) for name in ("verdicts.jsonl", "rows.jsonl", "report.html", "numbers.json")}
    files = ["--verdicts", names["verdicts.jsonl"], "--rows", names["rows.jsonl"], "--json", names["numbers.json"]]
    done = run("eval", str(data), "--config", str(config), "--resamples", "100", *files)
    assert done.returncode == 0, done.stderr
    assert "strict (the script: strict" in done.stdout and "Latency, official bins" in done.stdout
    again = run("eval", "--from-verdicts", names["verdicts.jsonl"], "--resamples", "100", "--report", names["report.html"])
    assert (again.returncode, again.stdout) == (0, done.stdout)
    numbers = json.loads(Path(names["numbers.json"]).read_text())
    assert numbers["strict"]["f1"] == 1.0 and numbers["latency"]["count"] == 1
    assert len(Path(names["rows.jsonl"]).read_text().splitlines()) == 2
    for arguments, reason in [
        (["eval"], "either files"),
        (["eval", str(tmp_path / "none.jsonl")], "none.jsonl"),
        (["eval", "--from-verdicts", str(data)], "no kept verdict"),
    ]:
        wrong = run(*arguments)
        assert wrong.returncode == 2 and reason in wrong.stderr, wrong.stderr


def test_other_commands_are_those_of_the_program_in_rust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("moderate").returncode == 2
    assert run("--version").stdout == f"qwenguard {qwenguard.__version__}\n"
    for words in (["--help"], ["-h"], ["help"]):
        told = run(*words)
        assert told.returncode == 0 and "qwenguard eval" in told.stdout and "which is not on the path" in told.stdout
        assert not told.stderr
    other = tmp_path / "qwenguard"
    other.symlink_to("/bin/echo")
    assert run("moderate", "--json").stdout == "moderate --json\n"
    assert re.fullmatch("Usage: qwenguard eval.*program in Rust:\n\n-h\n", run("-h").stdout, re.DOTALL)
    assert REPOSITORY.is_dir()
