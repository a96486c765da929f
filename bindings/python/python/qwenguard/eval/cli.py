"""The command ``qwenguard eval``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .._errors import GuardError
from .._guard import Guard
from .cases import DataError, read_cases, read_text
from .judging import Judged, judge_cases, read_verdicts, write_verdicts
from .measures import RESAMPLES, SEED, Evaluation, evaluate
from .official import NO_ROWS, check_rows, write_rows
from .plots import figures
from .replaying import check_policy, decision_grid, policy_grid, replay_answers
from .report import text_report, write_report


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="qwenguard eval", description="Measures a guard on labelled conversations.")
    made.add_argument("data", nargs="*", help="JSON lines, a JSON array or Parquet, in a layout of docs/evaluation.md")
    made.add_argument("--from-verdicts", metavar="FILE", help="measure kept verdicts, without the model")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--bundle", metavar="DIR", help="the guard; without one the built-in guard of streams")
    which.add_argument("--nano-gen", action="store_true", help="the built-in guard that writes its verdicts")
    made.add_argument("--config", metavar="FILE", help="how the guard is opened, in TOML")
    made.add_argument("--kind", choices=["auto", "prompt", "response"], default="auto", help="what of each row is judged")
    made.add_argument("--limit", type=int, metavar="N", help="the first N rows of each file")
    made.add_argument("--policy", metavar="FILE", help="the rules of what is decided, in TOML; by default the strict ones")
    made.add_argument("--verdicts", metavar="FILE", help="keep the verdicts")
    made.add_argument("--rows", metavar="FILE", help="write the rows of the official script")
    made.add_argument("--grid", action="store_true", help="try a grid of policies")
    made.add_argument("--report", metavar="FILE", help="write a report as one HTML file")
    made.add_argument("--json", metavar="FILE", help="write all numbers as JSON")
    made.add_argument("--conversation", metavar="ID", help="the answer whose risk over tokens the report shows")
    made.add_argument("--seed", type=int, default=SEED, help="of the bootstrap")
    made.add_argument("--resamples", type=int, default=RESAMPLES, help="of the bootstrap")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. 0, or 1 if something could not be judged, 2 if the command line or the data is wrong."""
    options = parser().parse_args(arguments)
    if bool(options.data) == bool(options.from_verdicts):
        print("qwenguard eval: either files with data or --from-verdicts", file=sys.stderr)
        return 2
    try:
        policy = read_text(options.policy) if options.policy else None
        # Before the model runs, which takes long.
        check_policy([], policy)
        judged = _judged(options)
        evaluation = evaluate(judged, policy, options.seed, options.resamples)
        grids = (policy_grid(judged), decision_grid(judged)) if options.grid else ([], [])
        print(text_report(evaluation, *grids), end="")
        if options.grid and not any(grids):
            print("Note: there is no grid: nothing could be judged")
        _write(options, judged, evaluation, policy, grids)
    except (DataError, OSError, GuardError) as error:
        print(f"qwenguard eval: {error}", file=sys.stderr)
        return 2
    return 1 if evaluation.errors else 0


def _judged(options: argparse.Namespace) -> list[Judged]:
    if options.from_verdicts:
        kept = read_verdicts(options.from_verdicts)
        if options.rows:
            check_rows(kept)
        return kept
    cases = [case for path in options.data for case in read_cases(path, options.kind, options.limit)]
    config = read_text(options.config) if options.config else None
    if options.bundle:
        guard = Guard.open(options.bundle, config=config)
    else:
        guard = Guard.nano_gen(config=config) if options.nano_gen else Guard.nano(config=config)
    with guard:
        if options.rows and guard.info()["variant"] == "gen":
            raise DataError(NO_ROWS)
        judged = judge_cases(guard, cases)
    if options.verdicts:
        write_verdicts(options.verdicts, judged)
    return judged


def _write(
    options: argparse.Namespace,
    judged: list[Judged],
    evaluation: Evaluation,
    policy: str | None,
    grids: tuple[list[dict[str, object]], list[dict[str, object]]],
) -> None:
    if options.rows:
        left_out = len(judged) - write_rows(options.rows, judged)
        if left_out:
            print(f"qwenguard eval: {options.rows} is without {left_out} rows, which could not be judged", file=sys.stderr)
    grid, decisions = grids
    if options.json:
        numbers = {**evaluation.to_dict(), "policy_grid": grid, "decision_grid": decisions}
        Path(options.json).write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    if options.report:
        shown = _shown(judged, options.conversation)
        try:
            made = figures(evaluation, replay_answers(judged, policy), grid or policy_grid(judged), shown)
        except ImportError as error:
            print(f"qwenguard eval: {options.report} has no figures: {error}", file=sys.stderr)
            made = {}
        title = "Evaluation of " + ", ".join(options.data or [options.from_verdicts])
        write_report(options.report, evaluation, title, made, grid, decisions)


def _shown(judged: list[Judged], wanted: str | None) -> Judged | None:
    """The answer whose risk is shown: the one that is named, or the first unsafe one."""
    if wanted is not None:
        found = next((one for one in judged if one.case.id == wanted), None)
        if found is None:
            raise DataError(f"there is no conversation {wanted!r}")
        if not found.risks:
            raise DataError(f"the conversation {wanted!r} has no judged tokens to show")
        return found
    answers = [one for one in judged if one.risks]
    return next((one for one in answers if one.case.label != "Safe"), answers[0] if answers else None)
