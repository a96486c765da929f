"""Scores the bundle as the library runs it: on the held-out split, on the nano guard's hand-written checks and on its demo.
With a second bundle (the checkpoint in fp32) it says how often both agree. Strict: Controversial counts as not Safe."""

from __future__ import annotations

import argparse
import json
import random
import subprocess
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import shared  # (first: it finds the modules below)
from harmful import CATEGORIES
from model import LEVELS
from sources import SAFE, UNKNOWN, UNSAFE

from examples import MAX_PROMPT_CHARS, PROMPT, RESPONSE, Example, Row, cut, of_answer, of_prompt


@dataclass
class Judged:
    group: str
    example: Example
    verdict: dict[str, Any]

    @property
    def source(self) -> str:
        return self.example.row["source"]

    @property
    def true(self) -> bool:
        """Whether it is not Safe."""
        return self.example.level != SAFE

    @property
    def found(self) -> bool:
        return self.verdict["safety"]["label"] != LEVELS[SAFE]

    @property
    def category_right(self) -> bool:
        return self.verdict["categories"] == [CATEGORIES[self.example.category]]


def rows_of(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def held_out(path: Path) -> list[tuple[str, Example]]:
    rng, found = random.Random(3), []
    for row in rows_of(path):
        prompt = row["prompt"]
        if len(prompt) > MAX_PROMPT_CHARS:
            row["prompt"] = prompt[: MAX_PROMPT_CHARS // 2] + prompt[-MAX_PROMPT_CHARS // 2 :]
        found += [("prompts", of_prompt(row)), ("answers", of_answer(row)), ("cut answers", cut(rng, row))]
    return [(group, example) for group, example in found if example]


def check_rows(path: Path) -> list[tuple[str, Example]]:
    """As prompts; and as answers, those that turn also up to where they do."""
    found = []
    for r in rows_of(path):
        level, category = LEVELS.index(r.get("level", "Safe")), CATEGORIES.index(r["category"]) if "category" in r else UNKNOWN
        row = {"source": path.name, "system": "", "history": [], "prompt": r["prompt"], "query": [level, category], "answer": None, "response": None}
        if "safe" not in r:
            found.append(("prompts", of_prompt(row)))
            continue
        row |= {"answer": [r["safe"], r["harm"]], "response": [UNSAFE if r["harm"] else SAFE, category]}
        found.append(("answers", of_answer(row)))
        if r["harm"]:
            found.append(("answers", of_answer({**row, "answer": [r["safe"], ""], "response": [SAFE, UNKNOWN]})))
    return [(group, example) for group, example in found if example]


def annotate(program: Path, bundle: Path, conversations: list[list[dict[str, str]]]) -> list[dict[str, Any]]:
    lines = "".join(json.dumps({"id": i, "messages": messages}) + "\n" for i, messages in enumerate(conversations))
    run = subprocess.run([program, "annotate", "--json", "--bundle", bundle, "-"], input=lines.encode(), stdout=subprocess.PIPE, check=False)
    verdicts = [json.loads(line) for line in run.stdout.splitlines()]
    failed = [verdict for verdict in verdicts if "error" in verdict]
    assert len(verdicts) == len(conversations) and not failed, failed[:3]
    return verdicts


# Tables


def scores(judged: list[Judged], name: str) -> str:
    bad, good = [j for j in judged if j.true], [j for j in judged if not j.true]
    hit, alarms = sum(j.found for j in bad), sum(j.found for j in good)
    right = (hit + len(good) - alarms) / len(judged)
    f1 = f"{2 * hit / (2 * hit + alarms + len(bad) - hit):.3f}" if bad else "-"
    return f"| {name} | {len(judged)} | {len(bad)} | {right:.3f} | {f1} | {f'{alarms / len(good):.3f}' if good else '-'} | {f'{1 - hit / len(bad):.3f}' if bad else '-'} |"


def table(judged: list[Judged], title: str) -> None:
    print(f"\n| {title} | n | not Safe | accuracy | F1 | false alarms | missed |\n|---|---:|---:|---:|---:|---:|---:|")
    groups: dict[str, list[Judged]] = defaultdict(list)
    for j in judged:
        groups["our own texts" if j.source.startswith("own") else "public sources"].append(j)
        groups[f"- {j.source}"].append(j)
    for name, group in sorted(groups.items(), key=lambda item: (item[0].startswith("-"), item[0])):
        print(scores(group, name))


def category_table(judged: list[Judged], title: str) -> None:
    print(f"\n| {title} | n | judged not Safe | of these, category right |\n|---|---:|---:|---:|")
    for c, name in [*enumerate(CATEGORIES), (None, "all")]:
        known = [j for j in judged if j.example.category != UNKNOWN and (c is None or j.example.category == c)]
        hit = [j for j in known if j.found]
        if known:
            print(f"| {name} | {len(known)} | {len(hit) / len(known):.3f} | {sum(j.category_right for j in hit) / max(1, len(hit)):.3f} |")


def refusals(judged: list[Judged]) -> None:
    print("\n| refusals | n | refuse | accuracy | F1 |\n|---|---:|---:|---:|---:|")
    for group in ("answers", "cut answers"):
        known = [j for j in judged if j.group == group and j.example.refusal is not None]
        true, found = [bool(j.example.refusal) for j in known], [bool(j.verdict["refusal"]) for j in known]
        both = sum(a and b for a, b in zip(true, found))
        right = sum(a == b for a, b in zip(true, found)) / len(known)
        print(f"| {group} | {len(known)} | {sum(true)} | {right:.3f} | {2 * both / max(1, sum(true) + sum(found)):.3f} |")


def reliability(judged: list[Judged]) -> None:
    """How often what has a probability is so."""
    print("\n| not Safe with probability | n | mean probability | were not Safe |\n|---|---:|---:|---:|")
    error = 0.0
    pairs = sorted((1 - j.verdict["safety"]["probs"][LEVELS[SAFE]], j.true) for j in judged)
    for low in range(10):
        group = [pair for pair in pairs if min(int(pair[0] * 10), 9) == low]
        if group:
            mean, true = (sum(pair[i] for pair in group) / len(group) for i in (0, 1))
            error += len(group) / len(pairs) * abs(mean - true)
            print(f"| {low / 10:.1f} to {(low + 1) / 10:.1f} | {len(group)} | {mean:.3f} | {true:.3f} |")
    print(f"\nexpected calibration error (ten bins): {error:.3f}")


def agreement(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    def share(same: Callable[[dict[str, Any], dict[str, Any]], bool]) -> float:
        return sum(same(a, b) for a, b in zip(one, other, strict=True)) / len(one)

    differences = [abs(a["safety"]["probs"][level] - b["safety"]["probs"][level]) for a, b in zip(one, other) for level in LEVELS]
    print(f"\nboth bundles, {len(one)} texts: equal labels {share(lambda a, b: a['safety']['label'] == b['safety']['label']):.4f}, "
          f"equal answers {share(lambda a, b: a['answer'] == b['answer']):.4f}, largest difference of a label's probability {max(differences):.3f}")


def checks(judged: list[Judged]) -> None:
    for name in dict.fromkeys(j.source for j in judged):
        print(f"\n{name}")
        for group in ("prompts", "answers"):
            some = [j for j in judged if j.source == name and j.group == group]
            bad = [j for j in some if j.example.category != UNKNOWN and j.example.level == UNSAFE and j.found]
            print(f"  {group}: {sum(j.true == j.found for j in some)} of {len(some)} Safe or not; category of the unsafe ones {sum(j.category_right for j in bad)} of {len(bad)}")
            for j in some:
                if j.true != j.found:
                    print(f"    {j.verdict['safety']['label']} instead of {LEVELS[j.example.level]}: {j.example.messages[-1]['content'][:90]}")
        refusing = [j for j in judged if j.source == name and j.example.refusal is not None]
        print(f"  refusal: {sum(j.example.refusal == j.verdict['refusal'] for j in refusing)} of {len(refusing)}, {sum(bool(j.example.refusal) for j in refusing)} refuse")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, required=True, help="qwenguard, as `make demo` builds it")
    parser.add_argument("--bundle", type=Path, default=shared.HERE / "bundle")
    parser.add_argument("--other", type=Path, help="another bundle, to compare with")
    parser.add_argument("--work", type=Path, help="where prepare.py wrote test.jsonl; without it only checks and demo run")
    args = parser.parse_args()

    def judge(items: list[tuple[str, Example]]) -> list[Judged]:
        verdicts = annotate(args.program, args.bundle, [example.messages for _, example in items])
        return [Judged(group, example, verdict) for (group, example), verdict in zip(items, verdicts)]

    checks(judge([item for name in ("checks.jsonl", "checks_fresh.jsonl") for item in check_rows(shared.NANO / name)]))
    demo = rows_of(shared.NANO / "demo.jsonl")
    demo += [{"id": f"{row['id']}, prompt", "messages": row["messages"][:1]} for row in demo]
    for row, verdict in zip(demo, annotate(args.program, args.bundle, [row["messages"] for row in demo])):
        safety = verdict["safety"]
        print(f"demo {row['id']}: {safety['label']} {safety['probs'][safety['label']]:.2f} {verdict['categories']} refusal {verdict['refusal']}")
    if not args.work:
        return
    judged = judge(held_out(args.work / "test.jsonl"))
    for mode, group in ((PROMPT, "prompts"), (RESPONSE, "answers"), (RESPONSE, "cut answers")):
        some = [j for j in judged if j.group == group]
        assert all(j.verdict["mode"] == mode for j in some)
        table(some, group)
        category_table([j for j in some if not j.source.startswith("own")] if mode == PROMPT else some, f"category, {group}")
    refusals(judged)
    for group in ("prompts", "answers", "cut answers"):
        print(f"\n{group}")
        reliability([j for j in judged if j.group == group])
    if args.other:
        agreement([j.verdict for j in judged], annotate(args.program, args.other, [j.example.messages for j in judged]))


if __name__ == "__main__":
    main()
