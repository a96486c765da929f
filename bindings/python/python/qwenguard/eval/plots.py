"""Figures as SVG, with matplotlib if that is installed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from .judging import Judged
from .measures import Evaluation
from .replaying import Replayed


def figures(
    evaluation: Evaluation, replayed: Sequence[Replayed], grid: Sequence[dict[str, Any]], shown: Judged | None
) -> dict[str, str]:
    """Figures by their titles: those that there is something to draw for.

    :raises ImportError: without matplotlib.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise ImportError("figures need matplotlib: pip install 'qwenguard[plots]'") from None
    made = {
        "ROC": _roc(pyplot, evaluation),
        "Precision and recall": _precision(pyplot, evaluation),
        "Calibration": _calibration(pyplot, evaluation),
        "Stopping": _stopping(pyplot, replayed),
        "Policy grid": _grid(pyplot, grid),
        f"Risk over tokens: {shown.case.id if shown else ''}": _tokens(pyplot, shown),
    }
    return {title: svg for title, svg in made.items() if svg is not None}


def _svg(pyplot: Any, figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _axes(pyplot: Any, x: str, y: str) -> tuple[Any, Any]:
    figure, axes = pyplot.subplots(figsize=(5, 3.6))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _roc(pyplot: Any, evaluation: Evaluation) -> str | None:
    curve = evaluation.roc
    if curve is None:
        return None
    figure, axes = _axes(pyplot, "false positive rate", "true positive rate")
    axes.plot(curve["false_positive_rate"], curve["true_positive_rate"], label=f"area {curve['area']:.3f}")
    axes.plot([0, 1], [0, 1], "k:", linewidth=0.8)
    axes.legend()
    return _svg(pyplot, figure)


def _precision(pyplot: Any, evaluation: Evaluation) -> str | None:
    curve = evaluation.roc
    if curve is None:
        return None
    figure, axes = _axes(pyplot, "recall", "precision")
    axes.plot(curve["recall"], curve["precision"], label=f"average precision {curve['average_precision']:.3f}")
    axes.set_ylim(0, 1.02)
    axes.legend()
    return _svg(pyplot, figure)


def _calibration(pyplot: Any, evaluation: Evaluation) -> str | None:
    found = evaluation.calibration
    if found is None:
        return None
    figure, axes = _axes(pyplot, "probability that it is not Safe", "share that is not")
    axes.plot([0, 1], [0, 1], "k:", linewidth=0.8)
    bins = found["bins"]
    axes.plot([one["mean_score"] for one in bins], [one["share"] for one in bins], "o-", label=f"error {found['error']:.3f}")
    axes.legend()
    return _svg(pyplot, figure)


def _stopping(pyplot: Any, replayed: Sequence[Replayed]) -> str | None:
    placed = [one for one in replayed if one.onset is not None]
    if not placed:
        return None
    figure, axes = _axes(pyplot, "tokens after the first unsafe one", "share of answers that are stopped")
    distances = sorted(one.signal - (one.onset or 0) for one in placed if one.signal is not None)
    shares = [(index + 1) / len(placed) for index in range(len(distances))]
    axes.step(distances, shares, where="post")
    axes.axvline(0, color="k", linewidth=0.8, linestyle=":")
    axes.set_ylim(0, 1.02)
    return _svg(pyplot, figure)


def _grid(pyplot: Any, grid: Sequence[dict[str, Any]]) -> str | None:
    known = [one for one in grid if one["stopped"] is not None and one["false_stops"] is not None]
    if not known:
        return None
    figure, axes = _axes(pyplot, "false stops", "stopped")
    for hits in sorted({one["consecutive"] for one in known}):
        line = [one for one in known if one["consecutive"] == hits]
        axes.plot([one["false_stops"] for one in line], [one["stopped"] for one in line], "o-", label=f"{hits} in a row")
    axes.legend()
    return _svg(pyplot, figure)


def _tokens(pyplot: Any, judged: Judged | None) -> str | None:
    if judged is None or not judged.risks or judged.indices is None:
        return None
    figure, axes = _axes(pyplot, "token of the answer", "probability")
    axes.stackplot(
        judged.indices,
        [[risks[level] for risks in judged.risks] for level in (2, 1, 0)],
        labels=["Unsafe", "Controversial", "Safe"],
        colors=["#c0392b", "#f0b45b", "#d6e9d5"],
    )
    axes.set_ylim(0, 1)
    axes.legend(loc="upper left")
    return _svg(pyplot, figure)
