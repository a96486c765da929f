#!/usr/bin/env python3
"""Compare the output of `qwenguard moderate --json --no-stop` with the reference.

    check.py CHECKPOINT CONVERSATIONS.jsonl EVENTS.jsonl [--tolerance 1e-3] [--labels-only 0.97]

Every conversation must have its prompt verdict, its end and one verdict for each token of its answer, with the
reference's token ids. Probabilities must agree within the tolerance; with --labels-only it is instead the share
of verdicts with the reference's risk and category that must reach the number given. Exits with 1 on a failure.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch
from reference import Expected, Reference, read_json_lines

SHOWN = 20  # failures printed; the rest are counted


@dataclass
class Report:
    verdicts: int = 0
    same_labels: int = 0
    tokens: int = 0
    largest: tuple[float, str] = (0.0, "-")
    failures: list[str] = field(default_factory=list)

    @property
    def agreement(self) -> float:
        return self.same_labels / max(self.verdicts, 1)


def by_name(row: torch.Tensor, names: list[str]) -> dict[str, float]:
    return dict(zip(names, row.tolist(), strict=True))


GRAVITY = {"Safe": 0, "Controversial": 1, "Unsafe": 2}


def likeliest(probabilities: dict[str, float]) -> str:
    """Of equally probable labels the gravest level, or the first category."""
    return max(probabilities, key=lambda name: (probabilities[name], GRAVITY.get(name, 0)))


def labels_of(risk: dict[str, float], category: dict[str, float]) -> tuple[str, str | None]:
    """A verdict's labels: a category has no meaning where the risk is Safe."""
    level = likeliest(risk)
    return level, None if level == "Safe" else likeliest(category)


def compare_verdict(
    where: str, verdict: dict, risk: dict[str, float], category: dict[str, float], report: Report
) -> None:
    report.verdicts += 1
    for kind, expected in (("risk", risk), ("category", category)):
        actual = verdict[f"{kind}_probs"]
        if actual.keys() != expected.keys():
            report.failures.append(f"{where}: {kind} labels {sorted(actual)} instead of {sorted(expected)}")
            return
        if not all(isinstance(value, float | int) and math.isfinite(value) for value in actual.values()):
            report.failures.append(f"{where}: {kind} probabilities that are no numbers: {actual}")
            return
        for name, probability in expected.items():
            difference = abs(actual[name] - probability)
            report.largest = max(report.largest, (difference, f"{where}, {kind} {name}"))
    stated = (verdict["risk"], verdict["category"])
    if stated != labels_of(verdict["risk_probs"], verdict["category_probs"]):
        report.failures.append(f"{where}: labels {stated} are not those of its own probabilities")
    report.same_labels += stated == labels_of(risk, category)


def compare_conversation(id: str, events: list[dict], expected: Expected, reference: Reference, report: Report) -> None:
    prompts = [event for event in events if event["event"] == "prompt"]
    tokens = [event for event in events if event["event"] == "token"]
    ends = [event for event in events if event["event"] == "end"]
    if len(prompts) != 1 or len(ends) != 1:
        report.failures.append(f"{id}: {len(prompts)} prompt events and {len(ends)} end events instead of one each")
        return
    risks, categories = reference.labels("query")
    prompt = expected.prompt
    risk, category = by_name(prompt.risk, risks), by_name(prompt.category, categories)
    compare_verdict(f"{id}, prompt", prompts[0]["verdict"], risk, category, report)

    ids = [event["token_id"] for event in tokens]
    answer = expected.ids.answer
    report.tokens += len(answer)
    if [event["index"] for event in tokens] != list(range(len(tokens))):
        report.failures.append(f"{id}: token events are out of order or missing")
        return
    if ids != answer:
        first = next((i for i, pair in enumerate(zip(ids, answer)) if pair[0] != pair[1]), min(len(ids), len(answer)))
        report.failures.append(
            f"{id}: {len(ids)} token ids, {len(answer)} expected; they part at {first}: "
            f"{ids[first : first + 5]} instead of {answer[first : first + 5]}"
        )
        return
    if ends[0]["tokens"] != len(answer):
        report.failures.append(f"{id}: the end counts {ends[0]['tokens']} tokens instead of {len(answer)}")
    risks, categories = reference.labels("response")
    for event, risk_row, category_row in zip(tokens, expected.answer.risk, expected.answer.category, strict=True):
        risk, category = by_name(risk_row, risks), by_name(category_row, categories)
        compare_verdict(f"{id}, token {event['index']}", event["verdict"], risk, category, report)


def compare(reference: Reference, conversations: list[dict], events: list[dict]) -> Report:
    report = Report()
    events_of = defaultdict(list)
    for event in events:
        events_of[event["id"]].append(event)
    for conversation in conversations:
        id = conversation["id"]
        expected = reference.expect(conversation["messages"])
        compare_conversation(id, events_of.pop(id, []), expected, reference, report)
    report.failures += [f"{id}: not among the conversations" for id in events_of]
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("conversations", type=Path)
    parser.add_argument("events", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-3, help="largest difference of a probability (1e-3)")
    parser.add_argument("--labels-only", type=float, metavar="SHARE", help="compare labels, not probabilities")
    arguments = parser.parse_args()

    conversations, events = read_json_lines(arguments.conversations), read_json_lines(arguments.events)
    report = compare(Reference(arguments.checkpoint), conversations, events)
    if not report.verdicts:
        report.failures.append("no verdict was compared")
    if arguments.labels_only is None:
        if report.largest[0] > arguments.tolerance:
            report.failures.append(f"the largest difference is above {arguments.tolerance:g}")
    elif report.agreement < arguments.labels_only:
        report.failures.append(f"fewer than {arguments.labels_only:.1%} of the labels agree")

    difference, where = report.largest
    print(
        f"{len(conversations)} conversations, {report.tokens} answer tokens, {report.verdicts} verdicts compared\n"
        f"largest difference of a probability: {difference:.3g} ({where})\n"
        f"labels agree: {report.same_labels} of {report.verdicts} ({report.agreement:.2%})"
    )
    for failure in report.failures[:SHOWN]:
        print(f"FAIL {failure}")
    if len(report.failures) > SHOWN:
        print(f"and {len(report.failures) - SHOWN} more")
    print("failed" if report.failures else "passed")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
