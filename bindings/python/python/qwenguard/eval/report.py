"""A report as text, and as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .measures import Evaluation

Row = Sequence[str]

NAMING = (
    "Strict: Controversial counts as unsafe; loose: as safe. So the paper and the README name them. One version of the official "
    "script prints them the other way round: its loose is strict here."
)


def number(value: float | None, digits: int = 4) -> str:
    """A number, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def interval(bounds: Sequence[float] | None) -> str:
    """An interval, or nothing."""
    return "" if bounds is None else f"{bounds[0]:.4f} to {bounds[1]:.4f}"


def _scores(name: str, scores: Mapping[str, Any]) -> Row:
    precision, recall, alarms = scores["precision"], scores["recall"], scores["false_alarms"]
    return [
        name,
        str(scores["rows"]),
        number(scores["f1"]),
        interval(scores["f1_interval"]),
        number(precision["rate"]),
        interval(precision["interval"]),
        number(recall["rate"]),
        interval(recall["interval"]),
        number(alarms["rate"]),
    ]


SCORES = ["", "rows", "F1", "95 %", "precision", "95 %", "recall", "95 %", "false alarms"]


def tables(
    evaluation: Evaluation, grid: Sequence[Mapping[str, Any]] = (), decision_grid: Sequence[Mapping[str, Any]] = ()
) -> dict[str, tuple[Row, list[Row]]]:
    """Tables by their titles: a head and rows."""
    both = [
        _scores("strict (the script: strict; swapped: loose)", evaluation.strict),
        _scores("loose (the script: loose; swapped: strict)", evaluation.loose),
    ]
    found: dict[str, tuple[Row, list[Row]]] = {"Scores": (SCORES, both)}
    for title, groups in (("By language", evaluation.languages), ("By category", evaluation.categories)):
        if groups:
            rows = [_scores(f"{name}, {kind}", group[kind]) for name, group in groups.items() for kind in ("strict", "loose")]
            found[title] = SCORES, rows
    right = evaluation.category_right
    if right["count"]:
        found["Category of what is found"] = (
            ["", "count", "rate", "95 %"],
            [["the one that is labelled", str(right["count"]), number(right["rate"]), interval(right["interval"])]],
        )
    if evaluation.latency["count"]:
        found["Latency, official bins"] = _latency(evaluation)
    if evaluation.decisions:
        rules = "the strict policy" if evaluation.policy is None else "the policy that was given"
        found[f"Decisions of {rules}"] = _decisions(evaluation.decisions)
        found[f"Stops of {rules}, where what is not labelled Safe ought to be stopped"] = _stops(evaluation.decisions)
    if evaluation.stream["answers"]:
        found["While answers are written"] = _rates(evaluation.stream)
        found["While answers are written, in tokens"] = _spreads(evaluation.stream)
    if grid:
        found["Policy grid"] = _grid(grid)
    if decision_grid:
        found["Policy grid of prompts and annotations"] = _decision_grid(decision_grid)
    return found


def _decisions(decisions: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    rows: list[Row] = [
        [group, label, *(str(one[name]) for name in ("count", "stopped", "flagged"))]
        for group, measured in decisions.items()
        for label, one in measured["labels"].items()
    ]
    return ["", "label", "rows", "stopped", "flagged only"], rows


def _stops(decisions: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    rows: list[Row] = []
    for group, measured in decisions.items():
        # Prompts before answers have no label of their own.
        if "precision" in measured:
            precision, recall, alarms = (measured[name] for name in ("precision", "recall", "false_stops"))
            rates = [cell for one in (precision, recall, alarms) for cell in (number(one["rate"]), interval(one["interval"]))]
            rows.append([group, str(precision["hits"]), str(alarms["hits"]), *rates])
    return ["", "true stops", "false stops", "precision", "95 %", "recall", "95 %", "of safe ones", "95 %"], rows


def _decision_grid(grid: Sequence[Mapping[str, Any]]) -> tuple[Row, list[Row]]:
    rows: list[Row] = [[one["of"], number(one["at"], 2), number(one["stopped"]), number(one["false_stops"])] for one in grid]
    return ["", "from a probability of", "stopped", "false stops"], rows


def _latency(evaluation: Evaluation) -> tuple[Row, list[Row]]:
    latency = evaluation.latency
    rows: list[Row] = [[name, str(count), number(count / latency["count"])] for name, count in latency["bins"].items()]
    rows.append(["Exact hit rate", str(latency["hits"]), number(latency["exact_hit_rate"])])
    rows.append(["First 128 tokens stop rate", str(latency["first_128"]), number(latency["first_128_rate"])])
    return ["tokens after the first unsafe sentence", f"of {latency['count']}", "share"], rows


_RATES = {
    "stopped": "unsafe answers that are stopped",
    "false_stops": "safe answers that are stopped",
    "premature": "stopped before the first unsafe token",
    "missed": "never stopped, of those whose place is known",
    "leaking_horizon": "unsafe tokens shown, by the horizon",
    "leaking_at_once": "unsafe tokens shown, at once",
}
_SPREADS = {
    "delay": "delay",
    "lead": "too early by",
    "leak_horizon": "unsafe tokens shown, by the horizon",
    "leak_at_once": "unsafe tokens shown, at once",
    "leak_share_horizon": "share of the unsafe tokens, by the horizon",
    "leak_share_at_once": "share of the unsafe tokens, at once",
    "withheld": "withheld of safe answers",
}


def _rates(stream: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    rows: list[Row] = [
        [title, str(one["hits"]), str(one["count"]), number(one["rate"]), interval(one["interval"])]
        for one, title in ((stream[name], title) for name, title in _RATES.items())
    ]
    return ["", "answers", "of", "rate", "95 %"], rows


def _spreads(stream: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    known = [(title, stream[name]) for name, title in _SPREADS.items() if stream[name] is not None]
    rows: list[Row] = [
        [
            title,
            str(one["count"]),
            number(one["mean"], 2),
            interval(one["interval"]),
            *(number(one[name], 2) for name in ("p50", "p90", "p99")),
        ]
        for title, one in known
    ]
    return ["", "answers", "mean", "95 %", "p50", "p90", "p99"], rows


def _grid(grid: Sequence[Mapping[str, Any]]) -> tuple[Row, list[Row]]:
    rows: list[Row] = [
        [
            number(one["at"], 2),
            str(one["consecutive"]),
            number(one["stopped"]),
            number(one["false_stops"]),
            number(one["mean_delay"], 1),
        ]
        for one in grid
    ]
    return ["from a probability of", "tokens in a row", "stopped", "false stops", "mean delay"], rows


def warnings(evaluation: Evaluation) -> list[str]:
    """What a reader has to know of the numbers."""
    found = list(evaluation.notes)
    if evaluation.errors:
        first = evaluation.errors[0]
        found.append(
            f"{len(evaluation.errors)} rows could not be judged: they count as wrong in the scores, and no policy can be replayed "
            f"over them; the first is {first['id']}: {first['error']}"
        )
    if evaluation.other_tokens:
        found.append(f"{evaluation.other_tokens} rows have token indices of another tokenizer: their latency means nothing")
    return found


def text_report(
    evaluation: Evaluation, grid: Sequence[Mapping[str, Any]] = (), decision_grid: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The tables as text."""
    parts = [NAMING, *(f"Note: {warning}" for warning in warnings(evaluation))]
    for title, (head, rows) in tables(evaluation, grid, decision_grid).items():
        every = [head, *rows]
        widths = [max(len(row[column]) for row in every) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in every]
        parts.append("\n".join([title, *lines]))
    if evaluation.roc:
        area, precision = evaluation.roc["area"], evaluation.roc["average_precision"]
        parts.append(f"Area under the ROC curve {area:.4f}, average precision {precision:.4f}")
    if evaluation.calibration:
        parts.append(f"Expected calibration error {evaluation.calibration['error']:.4f}")
    return "\n\n".join(parts) + "\n"


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 0.5em 0 1.5em; }
td, th { padding: 0.2em 0.8em; border-bottom: 1px solid #ddd; text-align: right; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { text-align: left; }
.note { background: #fff3cd; padding: 0.5em 1em; }
figure { display: inline-block; margin: 0 1em 1em 0; }
"""


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    title: str = "Evaluation",
    figures: Mapping[str, str] | None = None,
    grid: Sequence[Mapping[str, Any]] = (),
    decision_grid: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Writes one HTML file, with figures as SVG where there are any."""
    parts = [f"<h1>{escape(title)}</h1>", f"<p>{escape(NAMING)}</p>"]
    parts += [f'<p class="note">{escape(warning)}</p>' for warning in warnings(evaluation)]
    for name, (head, rows) in tables(evaluation, grid, decision_grid).items():
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<h2>{escape(name)}</h2><table><tr>{cells}</tr>{body}</table>")
    for name, svg in (figures or {}).items():
        parts.append(f"<figure><figcaption>{escape(name)}</figcaption>{svg}</figure>")
    if not figures:
        parts.append("<p>There are no figures: they need matplotlib, and something to draw.</p>")
    head_tag = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    Path(path).write_text(f"<!doctype html><html><head>{head_tag}</head><body>{''.join(parts)}</body></html>\n", encoding="utf-8")
