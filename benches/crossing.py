"""What a call costs from every language, beside the same call in Rust.

    python crossing.py --run rust='cargo bench -q --bench crossing' --run c=target/c/crossing ...

Every command prints one line of JSON: `language`, `empty_push_ns` (nothing to compute: the crossing alone) and
`token_push_us` (one token of the nano model). The commands take turns, so that noise hits all alike; the table has the
medians of their rounds. It is printed, and written to target/bench/crossing.json.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "target/bench/crossing.json"
BASE = "rust"
FIELDS = ("empty_push_ns", "token_push_us")


def named_command(text):
    name, equals, command = text.partition("=")
    if not (name and equals and command):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COMMAND")
    return name, shlex.split(command)


def measure(name, command):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    if result["language"] != name:
        raise SystemExit(f"{name}: the command is one for {result['language']}")
    return {field: float(result[field]) for field in FIELDS}


def summary(rounds):
    medians = {}
    for name, results in rounds.items():
        medians[name] = {field: statistics.median(result[field] for result in results) for field in FIELDS}
    return medians


def table(medians):
    base = medians[BASE]
    lines = [
        "| language | empty push, ns | more than Rust, ns | token push, us | beside Rust |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, result in medians.items():
        more = result["empty_push_ns"] - base["empty_push_ns"]
        beside = result["token_push_us"] / base["token_push_us"] - 1
        lines.append(
            f"| {name} | {result['empty_push_ns']:.0f} | {more:+.0f} | {result['token_push_us']:.1f} | {beside:+.1%} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="append", required=True, type=named_command, metavar="NAME=COMMAND")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    commands = dict(arguments.run)
    if BASE not in commands or len(commands) != len(arguments.run):
        parser.error(f"every language once, {BASE} among them")
    if arguments.rounds < 1:
        parser.error("--rounds: at least one")

    rounds = {name: [] for name in commands}
    for _ in range(arguments.rounds):
        for name, command in commands.items():
            rounds[name].append(measure(name, command))
    medians = summary(rounds)
    print(table(medians))
    OUT.parent.mkdir(parents=True, exist_ok=True)
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    OUT.write_text(json.dumps({"machine": machine, "medians": medians, "rounds": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
