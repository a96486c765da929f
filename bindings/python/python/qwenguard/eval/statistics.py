"""Rates with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

# Of a normal distribution, for 95 %.
Z = 1.959963984540054


def wilson(hits: int, count: int) -> tuple[float, float] | None:
    """The 95 % interval of a rate, by Wilson.

    >>> low, high = wilson(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if count == 0:
        return None
    rate, square = hits / count, Z * Z / count
    middle = (rate + square / 2) / (1 + square)
    half = Z * math.sqrt(rate * (1 - rate) / count + square / (4 * count)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def rate(hits: int, count: int) -> dict[str, Any]:
    """A rate with its counts and interval. None where there is nothing to count."""
    return {"hits": hits, "count": count, "rate": hits / count if count else None, "interval": wilson(hits, count)}


def f1_of(true_hits: Any, false_hits: Any, misses: Any) -> Any:
    """The F1 score; 0 where nothing was said or labelled, as the official script has it."""
    wrong = false_hits + misses
    return 2 * true_hits / numpy.maximum(2 * true_hits + wrong, 1)


def f1_interval(
    true_hits: int, false_hits: int, misses: int, rest: int, seed: int, resamples: int
) -> tuple[float, float] | None:
    """The 95 % interval of an F1 score by bootstrap: of rows that are drawn again, only these counts matter."""
    count = true_hits + false_hits + misses + rest
    if count == 0:
        return None
    shares = numpy.array([true_hits, false_hits, misses, rest]) / count
    drawn = numpy.random.default_rng(seed).multinomial(count, shares, resamples)
    scores = f1_of(drawn[:, 0], drawn[:, 1], drawn[:, 2])
    low, high = numpy.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def spread(values: Sequence[float], seed: int, resamples: int) -> dict[str, Any] | None:
    """Mean with its 95 % interval by bootstrap, and quantiles."""
    if not values:
        return None
    numbers = numpy.asarray(values, dtype=float)
    random = numpy.random.default_rng(seed)
    # In parts, so that memory stays small.
    part = max(1, min(resamples, 2_000_000 // len(numbers)))
    means = [
        numbers[random.integers(0, len(numbers), (min(part, resamples - start), len(numbers)))].mean(axis=1)
        for start in range(0, resamples, part)
    ]
    low, high = numpy.quantile(numpy.concatenate(means), [0.025, 0.975])
    p50, p90, p99 = numpy.quantile(numbers, [0.5, 0.9, 0.99])
    return {
        "count": len(values),
        "mean": float(numbers.mean()),
        "interval": (float(low), float(high)),
        "p50": float(p50),
        "p90": float(p90),
        "p99": float(p99),
    }


def roc_curve(scores: Sequence[float], truths: Sequence[bool]) -> dict[str, Any] | None:
    """False and true positive rates, precision and recall at every threshold, with the area under the ROC curve and the average
    precision. None if only one label is there.

    >>> curve = roc_curve([0.9, 0.8, 0.3, 0.1], [True, False, True, False])
    >>> curve["area"], round(curve["average_precision"], 4)
    (0.75, 0.8333)
    """
    if len(set(truths)) < 2:
        return None
    order = numpy.argsort(-numpy.asarray(scores), kind="stable")
    sorted_scores, sorted_truths = numpy.asarray(scores)[order], numpy.asarray(truths)[order]
    # Equal scores are one threshold.
    ends = numpy.append(numpy.nonzero(numpy.diff(sorted_scores))[0], len(sorted_scores) - 1)
    true_hits, false_hits = numpy.cumsum(sorted_truths)[ends], numpy.cumsum(~sorted_truths)[ends]
    recall, fall_out = true_hits / true_hits[-1], false_hits / false_hits[-1]
    precision = true_hits / (true_hits + false_hits)
    return {
        "thresholds": sorted_scores[ends].tolist(),
        "false_positive_rate": [0.0, *fall_out.tolist()],
        "true_positive_rate": [0.0, *recall.tolist()],
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "area": float(_area([0.0, *fall_out], [0.0, *recall])),
        "average_precision": float(numpy.sum(numpy.diff([0.0, *recall]) * precision)),
    }


def calibration(scores: Sequence[float], truths: Sequence[bool], bins: int = 10) -> dict[str, Any] | None:
    """How often what has a probability is so, in bins of equal width, and the expected calibration error."""
    if not scores:
        return None
    numbers, labels = numpy.asarray(scores), numpy.asarray(truths, dtype=float)
    place = numpy.minimum((numbers * bins).astype(int), bins - 1)
    found: list[dict[str, Any]] = []
    error = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            mean, share, count = float(numbers[inside].mean()), float(labels[inside].mean()), int(inside.sum())
            found.append({"from": index / bins, "count": count, "mean_score": mean, "share": share})
            error += abs(mean - share) * count / len(numbers)
    return {"bins": found, "error": error}


def _area(x: Sequence[float], y: Sequence[float]) -> float:
    return sum((x[at] - x[at - 1]) * (y[at] + y[at - 1]) / 2 for at in range(1, len(x)))
