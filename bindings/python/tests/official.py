"""Runs the official evaluation functions on our rows and compares: python official.py CHECKOUT VERDICTS...

CHECKOUT is one of Qwen3Guard; its code is imported without the packages that only its model needs.
"""

import contextlib
import importlib.util
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

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


def compare_scores(script: Any, judged: list[Judged], path: str) -> None:
    """F1, precision and recall, under whichever naming the script has."""
    text = printed(script.SafetyEvaluator().evaluate_f1, path, "response")
    theirs = {}
    for name in ("strict", "loose"):
        found = re.search(rf"Score\({name}\): ([\d.]+)\. precision\({name}\): ([\d.]+)\. recall\({name}\): ([\d.]+)", text)
        assert found is not None, text
        theirs[name] = [float(number) for number in found.groups()]
    measured = evaluate(judged, resamples=10)
    ours = {}
    for name, scores in (("strict", measured.strict), ("loose", measured.loose)):
        ours[name] = [round(scores["f1"], 4), *(round(scores[rate]["rate"] or 0, 4) for rate in ("precision", "recall"))]
    swapped = {"strict": ours["loose"], "loose": ours["strict"]}
    assert theirs in (ours, swapped), f"{theirs} is neither {ours} nor {swapped}"
    print("scores agree", theirs, "" if theirs == ours else "(the script's names are swapped)")


def compare_bins(script: Any, judged: list[Judged], path: str) -> None:
    """The latency bins and both rates."""
    text = printed(script.SafetyEvaluator().evaluate_unsafe_latency, path)
    ours = latency_bins(judged)
    wanted = [
        f"Processed {ours['count']} unsafe samples.",
        f"Bins Count:  {ours['bins']}",
        f"First 128 tokens stop rate:  {ours['first_128_rate']}",
        f"Exact hit rate:  {ours['exact_hit_rate']}",
    ]
    assert text.splitlines() == wanted, f"{text}\nis not\n{wanted}"
    print("bins agree", ours["bins"])


def main() -> None:
    """Compares on the synthetic answers of the tests, on random ones, and on files of verdicts."""
    import random

    from test_eval import SYNTHETIC, answer

    script = load(sys.argv[1])
    drawn = random.Random(1)
    some = []
    for number in range(2000):
        levels = "".join(drawn.choices("SCU", [20, 1, 1], k=drawn.randrange(2, 400)))
        start = drawn.randrange(10, 10 + len(levels))
        label = drawn.choice(["Safe", "Unsafe"])
        some.append(answer(str(number), levels, label, (start, start + drawn.randrange(30))))
    files = [[one for one in read_verdicts(path) if one.error is None and not one.case.is_prompt] for path in sys.argv[2:]]
    for judged in (SYNTHETIC, some, *files):
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "rows.jsonl"))
            write_rows(path, judged)
            compare_scores(script, judged, path)
            if all("unsafe_start_index" in line for line in open(path, encoding="utf-8") if '"label": "Unsafe"' in line):
                compare_bins(script, judged, path)


if __name__ == "__main__":
    main()
