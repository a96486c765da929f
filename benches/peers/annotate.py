"""Annotation beside llama.cpp: `make bench-annotate`, or

    python annotate.py --help

Both engines are processes that hold their models, and they take turns: ours annotates new texts and says what decided
them, and llama.cpp computes chunks of the same lengths for the same decisions. Results are printed and written under
target/bench: annotate.json, annotate.md.
"""

import argparse
import json
import statistics
import sys

from table import BASE, OUT, PEERS, Engine, load_average, machine, ours

# Rounds, at most; texts of a call that llama.cpp computes; and the goal: our milliseconds beside those of llama.cpp. With
# 64 texts of 1,000 tokens it would take a quarter of an hour on two cores; a text costs it the same in 16 as in 64.
CASES = {
    "label 1x100": (9, 1, 0.75),
    "verdict 1x100": (9, 1, 0.75),
    "label 1x1000": (3, 1, 0.75),
    "verdict 1x1000": (3, 1, 0.75),
    "label 64x100": (1, 64, 0.45),
    "verdict 64x100": (1, 64, 0.45),
    "label 64x1000": (1, 16, 0.45),
    "verdict 64x1000": (1, 16, 0.45),
}


def measure(case, most_rounds, mine, peer):
    """What a text of a case costs each engine: medians of the rounds."""
    rounds, peer_texts, goal = CASES[case]
    rounds = min(rounds, most_rounds)
    texts, tokens = map(int, case.split()[1].split("x"))
    runs = []
    # With one text the first round only warms up.
    for round_ in range(rounds + (texts == 1)):
        run = mine.ask(case)
        other = peer.ask(json.dumps({"prefix": run["prefix"], "texts": run["texts"][:peer_texts]}))
        if texts > 1 or round_ > 0:
            runs.append((run, other))

    def median(key):
        return statistics.median(run[key] for run, _ in runs) / texts

    def peer_median(key):
        return statistics.median(other[key] for _, other in runs) / peer_texts

    return {
        "work": case,
        "rounds": rounds,
        "llamacpp_texts": peer_texts,
        "ours_ms": round(median("ms"), 2),
        "llamacpp_ms": round(peer_median("ms"), 2),
        "ratio": round(median("ms") / peer_median("ms"), 3),
        "goal": goal,
        "ours_texts_per_s": round(1e3 / median("ms"), 3),
        "llamacpp_texts_per_s": round(1e3 / peer_median("ms"), 3),
        "own_tokens": tokens,
        "prefix": runs[0][0]["prefix"],
        "ours_computed": round(median("computed"), 1),
        "llamacpp_computed": round(peer_median("computed"), 1),
        "pieces": round(statistics.mean(len(text) for run, _ in runs for text in run["texts"]), 2),
        "ours_steps": round(median("steps"), 2),
    }


def markdown(table):
    lines = [f"| work | ours, ms | {BASE}, ms | ratio | goal | ours, texts/s | {BASE}, texts/s |"]
    lines[0] += " own tokens | ours, computed | llama.cpp, computed | pieces |"
    lines.append("|---" * 11 + "|")
    for row in table:
        cells = [row["work"], f"{row['ours_ms']:.1f}", f"{row['llamacpp_ms']:.1f}", f"{row['ratio']:.2f}x"]
        cells += [f"{row['goal']:.2f}x", f"{row['ours_texts_per_s']:.2f}", f"{row['llamacpp_texts_per_s']:.2f}"]
        cells += [f"{row[key]:.0f}" for key in ("own_tokens", "ours_computed", "llamacpp_computed")]
        lines.append("| " + " | ".join(cells) + f" | {row['pieces']:.1f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=9, help="at most")
    parser.add_argument("--name", default="annotate", help="of the files under target/bench")
    parser.add_argument("peer", nargs="*", help="options of llamacpp_annotate.py, after `--`")
    arguments = parser.parse_args()
    mine = Engine("ours int8", ours(OUT / "gen-0.6B-int8", bench="annotate"))
    model = OUT / "qwen3-0.6B-vocabulary-q8_0.gguf"
    peer = Engine(BASE, [sys.executable, PEERS / "llamacpp_annotate.py", str(model), *arguments.peer])
    infos = {engine.name: engine.ask("info") for engine in (mine, peer)}
    before, table = load_average(), []
    for case in arguments.cases.split(","):
        table.append(measure(case, arguments.rounds, mine, peer))
        print(table[-1], file=sys.stderr, flush=True)
    lines = ["Milliseconds and tokens of one text, medians.", "", markdown(table), "", f"- {machine()}"]
    lines += [f"- {before} before, {load_average()} after; each engine computes on all cores while the other waits"]
    lines += [f"- {name}: " + "; ".join(f"{key} {value}" for key, value in info.items()) for name, info in infos.items()]
    for engine in (mine, peer):
        engine.close()
    print("\n".join(lines))
    (OUT / f"{arguments.name}.md").write_text("\n".join(lines) + "\n")
    (OUT / f"{arguments.name}.json").write_text(json.dumps(table, indent=1) + "\n")


main()
