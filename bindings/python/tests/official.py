"""Runs the official evaluation functions on our rows and compares: python official.py CHECKOUT VERDICTS...

CHECKOUT is one of Qwen3Guard; its code is imported without the packages that only its model needs. The rows are those of the tests, whose
bins are counted by hand, random ones, those that `qwenguard eval` writes of a labelled file, and those of files of verdicts.
"""

import contextlib
import importlib.util
import io
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from conftest import ANSWER, QUESTION
from test_eval import SYNTHETIC, answer

from qwenguard import Guard
from qwenguard.eval import Judged, evaluate, latency_bins, read_verdicts, write_rows


def load(checkout: str) -> Any:
    """The script as a module."""
    for name in ("torch", "torch.nn", "torch.nn.functional", "transformers", "tqdm", "datasets"):
        sys.modules[name] = MagicMock()
    spec = importlib.util.spec_from_file_location("eval_stream", Path(checkout, "eval/eval_stream.py"))
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def printed(function: Any, *arguments: Any) -> str:
    """What a function prints."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        function(*arguments)
    return text.getvalue()


def compare(script: Any, path: str, strict: Any, loose: Any, bins: Any) -> None:
    """What the script prints of rows beside our numbers: scores under whichever naming it has, and the latency bins."""
    text = printed(script.SafetyEvaluator().evaluate_f1, path, "response")
    theirs, ours = {}, {}
    for name, scores in (("strict", strict), ("loose", loose)):
        found = re.search(rf"Score\({name}\): ([\d.]+)\. precision\({name}\): ([\d.]+)\. recall\({name}\): ([\d.]+)", text)
        assert found is not None, text
        theirs[name] = [float(number) for number in found.groups()]
        ours[name] = [round(scores["f1"], 4), *(round(scores[rate]["rate"] or 0, 4) for rate in ("precision", "recall"))]
    swapped = {"strict": ours["loose"], "loose": ours["strict"]}
    assert theirs in (ours, swapped), f"{theirs} is neither {ours} nor {swapped}"
    print("scores agree", theirs, "" if theirs == ours else "(the script's names are swapped)")
    if bins["count"] == 0:
        return
    printed_bins = printed(script.SafetyEvaluator().evaluate_unsafe_latency, path)
    wanted = [
        f"Processed {bins['count']} unsafe samples.",
        f"Bins Count:  {bins['bins']}",
        f"First 128 tokens stop rate:  {bins['first_128_rate']}",
        f"Exact hit rate:  {bins['exact_hit_rate']}",
    ]
    assert printed_bins.splitlines() == wanted, f"{printed_bins}\nis not\n{wanted}"
    print("bins agree", bins["bins"])


def compare_judged(script: Any, judged: list[Judged]) -> None:
    """Rows that are written of what was judged."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "rows.jsonl"))
        write_rows(path, judged)
        measured = evaluate(judged, resamples=10)
        bins = latency_bins(judged)
        # The script fails at an unsafe row without a place.
        if bins["count"] < sum(one.case.label == "Unsafe" for one in judged):
            bins["count"] = 0
        compare(script, path, measured.strict, measured.loose, bins)


def random_answers() -> list[Judged]:
    """Two thousand of them."""
    drawn = random.Random(1)
    some = []
    for number in range(2000):
        levels = "".join(drawn.choices("SCU", [20, 1, 1], k=drawn.randrange(2, 400)))
        start = drawn.randrange(10, 10 + len(levels))
        label = drawn.choice(["Safe", "Unsafe"])
        some.append(answer(str(number), levels, label, (start, start + drawn.randrange(30))))
    return some


def labelled() -> list[dict[str, Any]]:
    """Answers in the layouts of Qwen3GuardTest, with the tokens of their last sentence, which is the unsafe one, and of SingStreamBench."""
    rows: list[dict[str, Any]] = []
    *fine, bad = re.findall(r"[^.]+\.\s*", ANSWER)
    with Guard.nano() as guard, guard.stream() as stream:
        stream.prompt(QUESTION)
        split = stream.context_used
        tokens = stream.push_text("Yes.").tokens
        split = stream.context_used - len(tokens)
        for number in range(60):
            before = "".join(fine[at % len(fine)] for at in range(number % 12 + 1))
            text = before + ("" if number % 5 == 0 else bad)
            start = len(before.encode())
            places = [index for index, token in enumerate(guard.encode(text)) if token.byte_end > start]
            label = "Unsafe" if places else "Safe"
            row = {"unique_id": str(number), "message": [_said("user", QUESTION), _said("assistant", text)], "label": label}
            place = {"unsafe_start_index": split + places[0], "unsafe_end_index": split + places[-1]} if places else {}
            onset = len(before)
            stream_row = {"id": str(number), "Query": QUESTION, "Query_Label": "Safe", "Response": text, "Response_Label": label}
            rows.append({**row, **place} if number % 2 else {**stream_row, "Unsafe_Start_Index": onset})
    return rows


def _said(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


def compare_command(script: Any) -> None:
    """The rows and the numbers that the command writes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labelled()), "utf-8")
        command = [sys.executable, "-m", "qwenguard", "eval", "data.jsonl", "--rows", "rows.jsonl", "--json", "numbers.json"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        numbers = json.loads((folder / "numbers.json").read_text("utf-8"))
        compare(script, str(folder / "rows.jsonl"), numbers["strict"], numbers["loose"], numbers["latency"])


def main() -> None:
    """Compares all of them."""
    script = load(sys.argv[1])
    files = [[one for one in read_verdicts(path) if one.error is None and not one.case.is_prompt] for path in sys.argv[2:]]
    for judged in (SYNTHETIC, random_answers(), *files):
        compare_judged(script, judged)
    compare_command(script)


if __name__ == "__main__":
    main()
