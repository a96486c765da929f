"""Evaluation, on files whose numbers were counted by hand."""

import html.parser
import json
import math
import random
import subprocess
import sys
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
    evaluate,
    judge_cases,
    latency_bins,
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
    # Of 14 unsafe ones "mixed" and "never" are missed; strictly two safe ones are alarms, loosely one, and "controversial" is missed.
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


def test_gen_guards_are_measured(gen: Guard) -> None:
    conversation = [("user", QUESTION), ("assistant", ANSWER)]
    cases = [Case("1", conversation, "Unsafe", category="Violent"), Case("2", [("user", "Hello")], "Safe"), Case("3", [("user", "?"), ("nobody", "?")], "Safe")]
    judged = judge_cases(gen, cases)
    found = evaluate(judged, resamples=100)
    assert found.strict["recall"]["hits"] == 1 and found.category_right["hits"] == 1
    # What could not be judged is wrong.
    assert [one["id"] for one in found.errors] == ["3"] and found.strict["false_alarms"]["hits"] == 1


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
        ({"messages": [{"role": "user"}], "label": "Safe"}, "'content' is missing"),
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
    lines.write_text('{"case": 3}\n')
    with pytest.raises(DataError, match="line 1 is no kept verdict"):
        read_verdicts(lines)
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.Table.from_pylist([test]), tmp_path / "one.parquet")
    assert read_cases(tmp_path / "one.parquet")[0].messages == [("user", "?"), ("assistant", "x")]


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
    assert "matplotlib is not installed" in path.read_text() and "A &amp; B" in path.read_text()
    pytest.importorskip("matplotlib")
    from qwenguard.eval.plots import figures

    found = evaluate(SYNTHETIC, resamples=50)
    made = figures(found, replay_answers(SYNTHETIC), policy_grid(SYNTHETIC), SYNTHETIC[0])
    assert len(made) == 6 and all(svg.startswith("<svg") for svg in made.values())


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
    other = tmp_path / "qwenguard"
    other.symlink_to("/bin/echo")
    assert run("moderate", "--json").stdout == "moderate --json\n"
    assert REPOSITORY.is_dir()
