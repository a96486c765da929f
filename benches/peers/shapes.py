"""The shapes of larger models with random weights: what opening, memory and steps cost.

    python shapes.py 4B 8B

Bundles are exported into target/bench and removed after use, because an 8B one has 8 GB. Prints a table.
"""

import shutil
import statistics
import subprocess
import sys

from table import OUT, ROOT, Engine, ours

PRECISIONS = ["int8", "int4"]
CASES = ["1x1@128", "4x1@128", "16x1@128", "1x64@128"]
ROUNDS, TIMES = 3, 5


def export(shape, precision):
    """A bundle that is there already is taken as it is."""
    bundle = OUT / f"{shape}-{precision}"
    if not bundle.exists():
        exporter = [ROOT / "target/venv/bin/qwenguard-export", "--random", shape, bundle, "--precision", precision]
        subprocess.run([*exporter, "--tokenizer", ROOT / "target/test-data/qwen3", "--no-parity"], check=True)
    return bundle


def row(shape, precision):
    bundle = export(shape, precision)
    engine = Engine(f"{shape} {precision}", ours(bundle))
    opened = engine.ask("info")
    times = {case: [] for case in CASES}
    for _ in range(ROUNDS):
        for case in CASES:
            times[case] += engine.ask(f"{case} {TIMES}")
    used = engine.ask("info")
    engine.close()
    size = sum(file.stat().st_size for file in bundle.iterdir())
    shutil.rmtree(bundle)
    medians = [(tokens(case), statistics.median(times[case])) for case in CASES]
    steps = [f"{ms:.0f} ({count * 1e3 / ms:.1f})" for count, ms in medians]
    gigabytes = [f"{value / 1e9:.2f}" for value in (size, used["mapped_bytes"], used["anonymous_bytes"])]
    return [shape, precision, gigabytes[0], f"{opened['opened_ms'] / 1e3:.1f}", *gigabytes[1:], *steps]


def tokens(case):
    streams, new = case.split("@")[0].split("x")
    return int(streams) * int(new)


def main():
    heads = ["shape", "weights", "bundle, GB", "opened in, s", "mapped, GB", "own memory, GB"]
    heads += [f"{case}, ms (tokens/s)" for case in CASES]
    print("| " + " | ".join(heads) + " |", "|---" * len(heads) + "|", sep="\n", flush=True)
    for shape in sys.argv[1:]:
        for precision in PRECISIONS:
            print("| " + " | ".join(row(shape, precision)) + " |", flush=True)


main()
