"""What a protocol found, for people (terminal, Markdown) and for machines (JSON)."""

import json
import math
from dataclasses import asdict
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from firmware_bridge.errors import BadInput
from trainer.bootstrap import Interval
from trainer.protocols.protocol import ALL, Report, Result, Row, Score
from trainer.protocols.published import PUBLISHED
from trainer.protocols.scores import DRAWS, lower_is_better

MARKED_ONLY = ("RMSE", "balanced accuracy")  # their verdicts stand in the table, without a sentence


def columns_of(result: Result) -> list[tuple[str, str]]:
    """(metric, subset) of the table's columns: all windows first."""
    found = {(s.metric, s.subset): None for row in result.rows for s in row.scores}
    # The root mean square stands in the JSON; in the table it would only crowd the mean.
    return [(metric, subset) for metric, subset in found if metric != "RMSE" or subset == ALL]


def figure(value: Interval, metric: str) -> str:
    """``0.93 (0.90–0.95)``; errors with two digits, areas with three."""
    digits = 2 if lower_is_better(metric) else 3
    if not math.isfinite(value.value):
        return "–"
    return f"{value.value:.{digits}f} ({value.low:.{digits}f}–{value.high:.{digits}f})"


def _mark(score: Score | None) -> str:
    return {"better": " ▲", "worse": " ▼"}.get(score.verdict, "") if score is not None else ""


def _cells(result: Result, row: Row) -> list[str]:
    scores = [(metric, row.score(metric, subset)) for metric, subset in columns_of(result)]
    return [figure(score.value, metric) + _mark(score) if score is not None else "–" for metric, score in scores]


def _heads(result: Result) -> list[str]:
    return [metric if subset == ALL else f"{metric}, {subset}" for metric, subset in columns_of(result)]


def verdicts(result: Result) -> list[str]:
    """Sentences on where the row that others are compared with wins, loses, and where nothing is shown; computed from
    the paired intervals."""
    said = []
    for metric, subset in (column for column in columns_of(result) if column[0] not in MARKED_ONLY):
        where = f"{metric} ({subset})" if subset != ALL else metric
        known = [(row, s) for row in result.rows if (s := row.score(metric, subset)) and s.difference is not None]
        for verdict, word in (("better", "loses to"), ("worse", "beats")):
            rivals = [f"{row.method} (by {_size(s, metric)})" for row, s in known if s.verdict == verdict]
            if rivals:
                said.append(f"{where}: it {word} {'; '.join(rivals)}.")
        undecided = [row.method for row, s in known if not s.verdict]
        if undecided:
            said.append(f"{where}: no difference is shown to {'; '.join(undecided)}.")
    return said


def _size(score: Score, metric: str) -> str:
    d = score.difference
    assert d is not None
    low, high = sorted((abs(d.low), abs(d.high)))
    return figure(Interval(abs(d.value), low, high, d.people), metric)


def _split(result: Result) -> str:
    sizes = "; ".join(f"{name}: {count:,} windows of {people} people" for name, (count, people) in result.sizes.items())
    return (
        f"{sizes}. {result.folds} folds of people, {result.seeds} seeds; every prediction is about a person whom the "
        "method did not learn from."
    )


def show(report: Report, console: Console) -> None:
    """The tables, for the terminal."""
    for result in report.results:
        unit = f", {result.unit}" if result.unit else ""
        table = Table(title=f"{result.task}{unit} (95 % interval over people)", title_justify="left", box=SIMPLE_HEAD)
        table.add_column("", overflow="fold")
        for head in _heads(result):
            table.add_column(head, justify="right")
        for row in result.rows:
            table.add_row(row.method, *_cells(result, row), style="bold" if row.method == result.against else None)
        console.print(table)
        console.print(_split(result), style="dim")
        for sentence in verdicts(result):
            console.print(sentence, highlight=False)
        console.print()
    for remark in report.remarks:
        console.print(remark, highlight=False)


def as_markdown(report: Report) -> str:
    """The report as it stands in the repository."""
    lines = [f"# {report.title}", ""]
    for result in report.results:
        lines += [f"## {result.task}{f', {result.unit}' if result.unit else ''}", "", result.coverage + ".", "",
                  _split(result), ""]  # fmt: skip
        heads = ["method", *_heads(result), "CPU s"]
        lines += ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
        for row in result.rows:
            name = f"**{row.method}**" if row.method == result.against else row.method
            lines.append("| " + " | ".join([name, *_cells(result, row), f"{row.seconds:.0f}"]) + " |")
        lines += [f"| *published, other split:* {who} | *{what}* |" + " |" * (len(heads) - 2)
                  for who, what in PUBLISHED.get(result.task, ())]  # fmt: skip
        lines += ["", f"![{result.task}]({report.name}.png)", "", f"**{result.against}**, against the others:", ""]
        lines += [f"- {sentence}" for sentence in verdicts(result)] + [""]
        lines += [*_spreads(result), ""]
        lines += [f"- {row.method}: {row.note}." for row in result.rows if row.note] + [""]
    lines += ["## How it was measured", "", *(f"- {remark}" for remark in report.remarks)]
    lines += [f"- {signal.upper()} student: `{run}`." for signal, run in report.runs.items()]
    lines += [
        f"- Figures are means over the seeds; brackets are 95 % percentile intervals of {DRAWS:,} bootstrap draws of "
        "people, the same draws for every row. ▲ better, ▼ worse than the row in bold: the 95 % interval of the paired "
        "difference leaves out 0. With that many comparisons one in twenty is expected to by chance.",
        "- Budget: `CPU s` is the processor time of fitting and asking, all folds and seeds, frozen features at hand.",
        f"- Machine: {report.machine}.",
        "",
    ]
    return "\n".join(lines)


def _spreads(result: Result) -> list[str]:
    metric = columns_of(result)[0][0]
    digits = 2 if lower_is_better(metric) else 3
    by_row = "; ".join(f"{r.method} {', '.join(f'{v:.{digits}f}' for v in r.spread[metric])}" for r in result.rows)
    return [f"{metric} by seed: {by_row}."]


def as_json(report: Report) -> str:
    """Every figure, with its interval and difference; no value that JSON does not know."""

    def known(value: object) -> object:
        if isinstance(value, float):
            return round(value, 6) if math.isfinite(value) else None
        if isinstance(value, dict):
            return {key: known(item) for key, item in value.items()}
        return [known(item) for item in value] if isinstance(value, list | tuple) else value

    return json.dumps(known(asdict(report)), indent=1) + "\n"


def write(report: Report, out: Path) -> None:
    """``NAME.md``, ``NAME.json`` and ``NAME.png`` into ``out``; raises :class:`BadInput`."""
    from trainer.protocols.picture import draw

    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{report.name}.md").write_text(as_markdown(report), encoding="utf-8")
        (out / f"{report.name}.json").write_text(as_json(report), encoding="utf-8")
        (out / f"{report.name}.png").write_bytes(draw(report))
    except OSError as error:
        raise BadInput(f"folder {out}: cannot be written ({error.strerror}); give another --out") from None
