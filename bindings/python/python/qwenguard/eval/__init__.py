"""Measures a guard on labelled data: ``qwenguard eval``. It needs numpy; plots need matplotlib.

The steps are functions of their own: :func:`read_cases`, :func:`judge_cases`, :func:`write_verdicts` and :func:`read_verdicts`,
:func:`evaluate`, :func:`decide`, :func:`replay_answers`, :func:`write_rows`, :func:`write_report`.
"""

from .cases import Case, DataError, read_cases
from .cli import main
from .judging import Judged, judge_cases, read_verdicts, write_verdicts
from .measures import Evaluation, evaluate
from .official import consecutive_unsafe, latency_bins, write_rows
from .replaying import Decided, Replayed, decide, decision_grid, policy_grid, replay_annotations, replay_answers, replay_prompts
from .report import write_report

__all__ = [
    "Case",
    "DataError",
    "Decided",
    "Evaluation",
    "Judged",
    "Replayed",
    "consecutive_unsafe",
    "decide",
    "decision_grid",
    "evaluate",
    "judge_cases",
    "latency_bins",
    "main",
    "policy_grid",
    "read_cases",
    "read_verdicts",
    "replay_annotations",
    "replay_answers",
    "replay_prompts",
    "write_report",
    "write_rows",
    "write_verdicts",
]
