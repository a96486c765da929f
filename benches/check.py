"""Whether steps got slower: `make bench-check base=REF`, or

    python check.py --help

The bench `steps` of another commit and that of this tree take turns on the same bundle, so that noise hits both alike. Fails if
a row is slower by more than is allowed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benches/peers"))

from table import CASES, OUT, Engine  # noqa: E402

FOLDER = ROOT / "target/check"


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, **options)


def build(tree, target):
    """The bench `steps` of a tree."""
    command = ["cargo", "bench", "--locked", "--no-run", "--bench", "steps", "--message-format", "json-render-diagnostics"]
    output = run(*command, cwd=tree, stdout=subprocess.PIPE, env={**os.environ, "CARGO_TARGET_DIR": str(target)}).stdout
    artifacts = [json.loads(line) for line in output.splitlines()]
    return next(
        artifact["executable"]
        for artifact in artifacts
        if artifact["reason"] == "compiler-artifact" and artifact["target"]["name"] == "steps"
    )


def checkout(ref):
    """A tree of another commit, kept for the next time."""
    commit = run("git", "rev-parse", "--verify", f"{ref}^{{commit}}", cwd=ROOT, stdout=subprocess.PIPE).stdout.strip()
    tree = FOLDER / commit[:12]
    if not tree.exists():
        run("git", "worktree", "prune", cwd=ROOT)
        run("git", "worktree", "add", "--quiet", "--detach", str(tree), commit, cwd=ROOT)
    return tree


def compare(engines, cases, rounds, times):
    """Rows of case, milliseconds of both, ratio."""
    for case in cases:
        samples = [[], []]
        for round_ in range(rounds + 1):
            for engine, found in zip(engines, samples, strict=True):
                answer = engine.ask(f"{case} {times if round_ else 1}")
                # The first round makes the streams.
                found += answer if round_ else []
        before, after = (statistics.median(found) for found in samples)
        yield case, before, after, after / before


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="a commit, such as the tag of the last release")
    parser.add_argument("--bundle", type=Path, default=OUT / "0.6B-int8")
    parser.add_argument("--base-bundle", type=Path, help="for a commit that reads another format of bundles")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=6, help="steps in a round")
    parser.add_argument("--allow", type=float, default=1.05, help="the largest ratio")
    options = parser.parse_args()

    os.environ.setdefault("ORT_DYLIB_PATH", str(ROOT / "target/onnxruntime"))
    programs = [build(checkout(options.base), FOLDER / "target"), build(ROOT, ROOT / "target")]
    bundles = [options.base_bundle or options.bundle, options.bundle]
    names = [options.base, "this tree"]
    engines = [
        Engine(name, [program, str(bundle.resolve())])
        for name, program, bundle in zip(names, programs, bundles, strict=True)
    ]
    print(f"| work | {names[0]}, ms | {names[1]}, ms | ratio |\n|---|---|---|---|")
    slower = []
    for case, before, after, ratio in compare(engines, options.cases.split(","), options.rounds, options.times):
        print(f"| {case} | {before:.1f} | {after:.1f} | {ratio:.2f} |", flush=True)
        slower += [case] if ratio > options.allow else []
    for engine in engines:
        engine.close()
    if slower:
        sys.exit(f"slower by more than {options.allow - 1:.0%}: {', '.join(slower)}")


if __name__ == "__main__":
    main()
