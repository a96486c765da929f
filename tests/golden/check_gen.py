#!/usr/bin/env python3
"""Compare the output of `qwenguard annotate --json` with the reference.

    check_gen.py CHECKPOINT CONVERSATIONS.jsonl ANNOTATIONS.jsonl [--tolerance 1e-4] [--labels-only 0.97] [--free]

Every conversation must have one line, with the reference's label, categories and refusal, its probabilities within the
tolerance, and where the line has them its prompt's ids and its whole answer; with --labels-only it is instead the share
of equal labels that must reach the number given. --free compares with what the model writes by itself. Exits with 1 on
a failure.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

from reference import read_json_lines
from reference_gen import GenReference

SHOWN = 20  # failures printed; the rest are counted


@dataclass
class Report:
    texts: int = 0
    same_labels: int = 0
    largest: tuple[float, str] = (0.0, "-")
    failures: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # lines that are missing or no annotation: never forgiven

    def equal(self, where: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.failures.append(f"{where} is {found!r} instead of {wanted!r}")

    def near(self, where: str, found: dict[str, float], wanted: dict[str, float]) -> None:
        if found.keys() != wanted.keys():
            self.failures.append(f"{where}: names {sorted(found)} instead of {sorted(wanted)}")
            return
        for name, probability in wanted.items():
            self.largest = max(self.largest, (abs(found[name] - probability), f"{where} {name}"))


def compare_ids(line: dict, ids: list[int], report: Report) -> None:
    if "n_ids" in line:
        report.equal(f"{line['id']}: n_ids", line["n_ids"], len(ids))
    if "ids_sha256" in line:
        digest = hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()
        report.equal(f"{line['id']}: ids_sha256", line["ids_sha256"], digest)


def compare(line: dict, messages: list[dict], reference: GenReference, free: bool, report: Report) -> None:
    where = line["id"]
    report.texts += 1
    report.equal(f"{where}: mode", line.get("mode"), reference.mode(messages))
    compare_ids(line, reference.tokenize(messages), report)
    wanted = reference.free(messages) if free else reference.constrained(messages)
    report.same_labels += line["safety"]["label"] == wanted.risk
    report.equal(f"{where}: label", line["safety"]["label"], wanted.risk)
    report.equal(f"{where}: categories", line["categories"], wanted.categories)
    report.equal(f"{where}: refusal", line["refusal"], wanted.refusal)
    if "answer" in line:
        report.equal(f"{where}: answer", line["answer"], wanted.answer)
    if free:
        return
    report.near(f"{where}: safety", line["safety"]["probs"], wanted.risk_probs)
    if "category_probs" in line:
        report.near(f"{where}: categories", line["category_probs"] or {}, wanted.category_probs or {})
    if wanted.refusal_prob is not None and "refusal_prob" in line:
        report.near(f"{where}: refusal", {"yes": line["refusal_prob"]}, {"yes": wanted.refusal_prob})


def compare_all(reference: GenReference, conversations: list[dict], lines: list[dict], free: bool) -> Report:
    report = Report()
    if [line["id"] for line in lines] != [conversation["id"] for conversation in conversations]:
        report.broken.append("the lines are not those of the conversations, in their order")
        return report
    for line, conversation in zip(lines, conversations, strict=True):
        if "error" in line:
            report.broken.append(f"{line['id']}: {line['error']}")
        else:
            compare(line, conversation["messages"], reference, free, report)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("conversations", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest difference of a probability (1e-4)")
    parser.add_argument("--labels-only", type=float, metavar="SHARE", help="compare labels, nothing else")
    parser.add_argument("--free", action="store_true", help="what the model writes by itself")
    arguments = parser.parse_args()

    conversations, lines = read_json_lines(arguments.conversations), read_json_lines(arguments.annotations)
    report = compare_all(GenReference(arguments.checkpoint), conversations, lines, arguments.free)
    failures = report.failures
    if not report.texts:
        report.broken.append("no text was compared")
    share = report.same_labels / max(report.texts, 1)
    if arguments.labels_only is not None:
        failures = (
            [f"fewer than {arguments.labels_only:.1%} of the labels agree"] if share < arguments.labels_only else []
        )
    elif report.largest[0] > arguments.tolerance:
        failures.append(f"the largest difference is above {arguments.tolerance:g}")
    print(
        f"{report.texts} texts compared; largest difference of a probability: {report.largest[0]:.3g} ({report.largest[1]})"
    )
    failures = report.broken + failures
    print(f"labels agree: {report.same_labels} of {report.texts} ({share:.2%})")
    for failure in failures[:SHOWN]:
        print(f"FAIL {failure}")
    if len(failures) > SHOWN:
        print(f"and {len(failures) - SHOWN} more")
    print("failed" if failures else "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
