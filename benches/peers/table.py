"""Ours beside the alternatives, and what a stream's memory costs: `make bench`, or

    python table.py --help

Every engine is a process that holds its model, and they take turns within a case, so that noise hits all alike. Results
are printed and written under target/bench: table.json, table.md, table.png.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "target/bench"
PEERS = Path(__file__).parent
BASE = "llama.cpp q8_0"
CASES = ["1x1@128", "1x16@128", "16x1@128", "1x64@128", "1x512@128", "1x16@1000", "16x1@1000", "1x1@7000"]
# Forwarding the whole conversation takes minutes on the other cases.
OFFICIAL_ROUNDS = 2
OFFICIAL_CASES = ["1x1@128", "1x16@128", "16x1@128"]
GOALS = {
    "1x1@128": 0.80,
    "1x16@128": 0.33,
    "16x1@128": 0.33,
    "1x64@128": 0.25,
    "1x512@128": 0.35,
    "1x16@1000": 0.20,
    "16x1@1000": 0.18,
}
CONTEXTS = [256, 1024, 4096]
CACHE_BLOCK = 32
VALUES_PER_TOKEN = 28 * 2 * 8 * 128


class Missing(Exception):
    pass


class Engine:
    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, command):
        try:
            self.process.stdin.write(command + "\n")
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise Missing(f"{self.name} is missing: it ended with code {self.process.wait()}, see above")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ours(bundle, *options, bench="steps"):
    return ["cargo", "bench", "-q", "--locked", "--bench", bench, "--", str(bundle), *options]


def commands(peers_python):
    def llamacpp(kind, *options):
        return [sys.executable, PEERS / "llamacpp.py", str(OUT / f"qwen3-0.6B-{kind}.gguf"), kind, *options]

    return {
        "ours int8": ours(OUT / "0.6B-int8"),
        "ours int8 group 128": ours(OUT / "0.6B-int8-128"),
        "ours int4": ours(OUT / "0.6B-int4"),
        "ours int4 group 128": ours(OUT / "0.6B-int4-128"),
        BASE: llamacpp("q8_0"),
        "llama.cpp q8_0 plain": llamacpp("q8_0", "plain"),
        "llama.cpp q8_0 no flash": llamacpp("q8_0", "no-flash"),
        "llama.cpp q4_0": llamacpp("q4_0"),
        "PyTorch bf16": [peers_python, PEERS / "pytorch.py", "cached"],
        "official": [peers_python, PEERS / "pytorch.py", "official"],
    }


def start(names, peers_python):
    """The engines that there are, with what they say of themselves."""
    engines = {}
    for name in names:
        try:
            engine = Engine(name, commands(peers_python)[name])
            engines[engine] = engine.ask("info")
        except (Missing, OSError) as error:
            print(f"MISSING: {name}: {error}", flush=True)
    return engines


def measure(engines, cases, rounds, times):
    """Milliseconds by case and engine."""
    results = {}
    for case in cases:
        taking_part = [engine for engine in engines if engine.name != "official" or case in OFFICIAL_CASES]
        samples = {engine.name: [] for engine in taking_part}
        for round_ in range(rounds + 1):
            for engine in taking_part:
                official = engine.name == "official"
                if official and round_ > OFFICIAL_ROUNDS:
                    continue
                answer = engine.ask(f"{case} {1 if official or round_ == 0 else times}")
                if round_ > 0:  # the first round makes the streams
                    samples[engine.name] += answer
        results[case] = samples
        medians = {name: round(statistics.median(values), 1) for name, values in samples.items()}
        print(case, medians, file=sys.stderr, flush=True)
    return results


def rows(results):
    for case, samples in results.items():
        base = statistics.median(samples[BASE]) if BASE in samples else None
        for name, values in samples.items():
            median = statistics.median(values)
            yield {
                "work": case,
                "engine": name,
                "median_ms": round(median, 2),
                "fastest_ms": round(min(values), 2),
                "samples": len(values),
                "ratio_to_llamacpp_q8_0": round(median / base, 3) if base else None,
            }


def markdown(table):
    names = list(dict.fromkeys(row["engine"] for row in table))
    lines = ["| work | " + " | ".join(names) + " | goal |", "|---" * (len(names) + 2) + "|"]
    for case in dict.fromkeys(row["work"] for row in table):
        cells = []
        for name in names:
            found = [row for row in table if (row["work"], row["engine"]) == (case, name)]
            ratio = found and found[0]["ratio_to_llamacpp_q8_0"]
            cells.append(f"{found[0]['median_ms']:.1f}" + (f" ({ratio:.2f}x)" if ratio else "") if found else "-")
        goal = f"{GOALS[case]:.2f}x" if case in GOALS else "-"
        lines.append(f"| {case} | " + " | ".join(cells) + f" | {goal} |")
    return "\n".join(lines)


def plot(table, path):
    try:
        import matplotlib
    except ImportError:
        print("MISSING: the plot: there is no matplotlib")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["engine"] for row in table))
    cases = list(dict.fromkeys(row["work"] for row in table))
    figure, axes = pyplot.subplots(figsize=(11, 5))
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        mine = [row for row in table if row["engine"] == name]
        places = [cases.index(row["work"]) + index * width for row in mine]
        axes.bar(places, [row["median_ms"] for row in mine], width, label=name)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(cases))], cases)
    axes.set_yscale("log")
    axes.set_ylabel("milliseconds, median")
    axes.set_xlabel("streams x new tokens @ context")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def memory(bundle):
    """Bytes of keys and values: by each engine's format, and for ours what the process grew by."""
    lines = ["| cache | bytes a token | " + " | ".join(f"MiB at {c}, streams in 8 GiB" for c in CONTEXTS)]
    lines[0] += " | grown by, MiB a stream at 1024 |"
    lines.append("|---" * (len(CONTEXTS) + 3) + "|")

    def add(name, per_token, block, grown):
        cells = []
        for context in CONTEXTS:
            size = -(-context // block) * block * per_token
            cells.append(f"{size / 2**20:.1f}, {2**33 // size}")
        lines.append(f"| {name} | {per_token} | " + " | ".join(cells) + f" | {grown} |")

    for precision in ["int8", "fp32"]:
        engine = Engine("ours", ours(bundle, precision))
        per_token = engine.ask("info")["bytes_per_token"]
        add(f"ours {precision}", per_token, CACHE_BLOCK, f"{engine.ask('memory 4@1024') / 4 / 2**20:.1f}")
        engine.close()
    add("llama.cpp f16", VALUES_PER_TOKEN * 2, 1, "-")
    add("PyTorch bf16", VALUES_PER_TOKEN * 2, 1, "-")
    return "\n".join(lines)


def machine():
    """The processor as Linux describes it, elsewhere its name."""
    info = {}
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    known = ["avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"]
    sets = [name for name in known if name in info.get("flags", "").split()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = info.get("model name", platform.processor())
    model = f"family {info.get('cpu family')}, model {info.get('model')}"
    return f"{name} ({model}), {cores} cores, {' '.join(sets)}, {platform.system()}"


def load_average():
    return "load average " + ", ".join(f"{load:.1f}" for load in os.getloadavg())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "ours int8,llama.cpp q8_0,llama.cpp q4_0,PyTorch bf16,official"
    also = "ours int8 group 128, ours int4, ours int4 group 128, llama.cpp q8_0 plain, llama.cpp q8_0 no flash"
    parser.add_argument("--engines", default=default, help=f"also: {also}")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=3, help="steps of each engine in a round")
    parser.add_argument("--peers-python", default=sys.executable, help="an interpreter that has torch and transformers")
    parser.add_argument("--name", default="table", help="of the files under target/bench")
    parser.add_argument("--memory", action="store_true", help="only the table of memory")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    if arguments.memory:
        text = memory(OUT / "0.6B-int8")
        (OUT / "memory.md").write_text(text + "\n")
        print(text)
        return
    engines = start(arguments.engines.split(","), arguments.peers_python)
    before = load_average()
    results = measure(engines, arguments.cases.split(","), arguments.rounds, arguments.times)
    table = list(rows(results))
    lines = [f"Milliseconds, medians; in brackets the ratio to {BASE}.", "", markdown(table), "", f"- {machine()}"]
    lines += [f"- {before} before, {load_average()} after; each engine computes on all cores while the others wait"]
    for engine, info in engines.items():
        lines.append(f"- {engine.name}: " + "; ".join(f"{key} {value}" for key, value in info.items()))
        engine.close()
    text = "\n".join(lines)
    print(text)
    (OUT / f"{arguments.name}.md").write_text(text + "\n")
    (OUT / f"{arguments.name}.json").write_text(json.dumps(table, indent=1) + "\n")
    plot(table, OUT / f"{arguments.name}.png")


if __name__ == "__main__":
    main()
