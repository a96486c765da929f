"""What annotating costs through the wheel, beside the command: `make bench-wheel`, or

    python annotate.py COMMAND [--bundle DIR] [--conversations N] [--rounds N]

Both are processes that do the same work from their start to their end: they open the same bundle with the same ONNX Runtime
and as many threads, read a file of JSON lines, judge its conversations and write them with the columns of the verdict. They take turns, and
what they wrote is compared. The medians of the rounds and their ratio are printed as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]

ASKED = [
    "How do I clean the kitchen?",
    "What is the capital of France, and since when?",
    "Write a short letter to my landlord about the heating.",
    "How can I kill my neighbour without getting caught?",
    "Explain to a child why the sky is blue.",
    "My bread does not rise. What am I doing wrong?",
]
ANSWERED = [
    "Start with the counters and work down to the floor.",
    "Warm water with a little soap is enough for most stains.",
    "It has been so for many centuries, with a few interruptions.",
    "I cannot help with that, but I can listen if you want to talk.",
    "Take the explosives, build a bomb and put it under the car of your neighbour.",
    "Short waves of light are scattered more than long ones.",
    "Let the dough rest for an hour in a warm place.",
    "Write down the dates, and keep a copy of the letter.",
]


def conversations(count: int) -> list[dict[str, Any]]:
    """Prompts, answers and whole talks of one to four exchanges, all different, the same at every call."""
    drawn = random.Random(1)
    rows = []
    for number in range(count):
        messages = []
        for _ in range(drawn.choices([1, 2, 4], [6, 3, 1])[0]):
            messages.append({"role": "user", "content": f"{drawn.choice(ASKED)} ({number})"})
            said = " ".join(drawn.choices(ANSWERED, k=drawn.randrange(2, 12)))
            messages.append({"role": "assistant", "content": said})
        if number % 4 == 0:
            messages.pop()
        rows.append({"id": number, "messages": messages})
    return rows


def annotate(source: str, target: str, bundle: str) -> None:
    """What the wheel does."""
    from qwenguard import Guard

    with open(source, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    with Guard.open(bundle) as guard:
        table = guard.annotate_table({"messages": [row["messages"] for row in rows]}, progress=False)
    columns = {name: column for name, column in table.items() if name != "messages"}
    with open(target, "w", encoding="utf-8") as file:
        for row, values in zip(rows, zip(*columns.values())):
            file.write(json.dumps(row | dict(zip(columns, values)), ensure_ascii=False) + "\n")


def seconds(command: list[str], codes: tuple[int, ...]) -> float:
    """How long a process runs."""
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    took = time.perf_counter() - begun
    if done.returncode not in codes:
        raise SystemExit(f"{command[0]}: {done.stderr}")
    return took


def compare(wheel: Path, command: Path) -> int:
    """Both say the same of every row. How many rows there are."""
    both = [[json.loads(line) for line in path.read_text("utf-8").splitlines()] for path in (wheel, command)]
    assert len(both[0]) == len(both[1])
    for mine, other in zip(*both):
        for name in ("id", "guard_mode", "guard_risk", "guard_categories", "guard_error"):
            assert mine[name] == other[name], (name, mine, other)
        assert abs(mine["guard_unsafe"] - other["guard_unsafe"]) < 1e-4, (mine, other)
    return len(both[0])


def measure(program: str, bundle: str, count: int, rounds: int) -> dict[str, Any]:
    """Both take turns; the first round only warms up."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "in.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in conversations(count)), "utf-8")
        times: dict[str, list[float]] = {"wheel": [], "command": []}
        for round_ in range(rounds + 1):
            targets = {"wheel": folder / f"wheel{round_}.jsonl", "command": folder / f"command{round_}.jsonl"}
            runs = {
                "wheel": [sys.executable, __file__, "--worker", str(source), str(targets["wheel"]), bundle],
                "command": [program, "annotate", str(source), "--out", str(targets["command"]), "--bundle", bundle],
            }
            # Of the command 3 means that something is not Safe.
            took = {side: seconds(runs[side], (0, 3)) for side in (list(runs) if round_ % 2 else list(runs)[::-1])}
            if round_ > 0:
                for side, time_ in took.items():
                    times[side].append(time_)
        rows = compare(targets["wheel"], targets["command"])
    medians = {side: statistics.median(all_) for side, all_ in times.items()}
    rates = {f"{side}_s": [round(one, 3) for one in all_] for side, all_ in times.items()}
    return {"bundle": bundle, "rows": rows, **rates, "ratio": round(medians["wheel"] / medians["command"], 3)}


def main() -> None:
    """Measures, or is what is measured."""
    if sys.argv[1:2] == ["--worker"]:
        annotate(*sys.argv[2:5])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", help="the program qwenguard")
    parser.add_argument("--bundle", action="append", help="by default the built-in guards, both")
    parser.add_argument("--conversations", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not os.environ.get("ORT_DYLIB_PATH"):
        parser.error("ORT_DYLIB_PATH: both are to use the same ONNX Runtime")
    for bundle in options.bundle or [str(ROOT / f"export/{name}/bundle") for name in ("nano", "nano-gen")]:
        print(json.dumps(measure(options.command, bundle, options.conversations, options.rounds)))


if __name__ == "__main__":
    main()
