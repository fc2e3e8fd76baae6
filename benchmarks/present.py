"""A result as a terminal table, as Markdown for the README, and as JSON."""

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.latency import Result, Row
from benchmarks.processes import LiveStream

COLUMNS = ("", "p50 ms", "p99 ms", "max ms", "× the first", "first token ms", "peak MB")


def _number(value: float | None) -> str:
    """Three significant digits, no exponent."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def cells(row: Row) -> list[str]:
    """One row's figures, in the order of :data:`COLUMNS` after the name."""
    if row.latency is None:
        return [row.missing, *[""] * (len(COLUMNS) - 2)]
    start = row.cold_start
    figures = (row.latency.p50, row.latency.p99, row.latency.max, row.ratio)
    return [*map(_number, figures), _number(start.ms if start else None), _number(start.rss_mb if start else None)]


def live_line(result: Result) -> str:
    """The live stream in one sentence."""
    live: LiveStream | None = result.live
    if live is None:
        return f"Live stream: no figure ({result.live_missing})."
    hop = ", ".join(f"{name} {_number(value)}" for name, value in live.hop_ms.items())
    peak = f", peak {_number(live.rss_mb)} MB" if live.rss_mb else ""
    return (
        f"Live stream (`pulsecode monitor {live.source}`, {live.engine}): {100 * live.cpu_share:.2f} % of one core "
        f"while streaming ({100 * live.cpu_total:.1f} % with its start, over {live.seconds:.0f} s){peak}; the whole "
        f"pipeline takes {hop} ms a hop, and a hop comes every {1000 * result.hop_seconds:.0f} ms."
    )


def notes(result: Result) -> list[str]:
    """What did not run, beside those whose row says so."""
    return [f"{row.name}: {row.missing}" for row in result.rows if row.missing and row.latency is not None]


def as_markdown(result: Result) -> str:
    """A table and two lines, ready for the README."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += [f"| **{row.name}**: {row.what} | " + " | ".join(cells(row)) + " |" for row in result.rows]
    extra = "".join(f"\n{note}.\n" for note in notes(result))
    return (
        "\n".join(lines) + f"\n\n{live_line(result)}\n{extra}\nOne thread, in turns in one run, bundle {result.bundle} "
        f"({result.signal}), on {result.machine}. Use them as ratios.\n"
    )


def as_json(result: Result) -> bytes:
    """One JSON object."""
    return msgspec.json.encode(result)


def show(result: Result, console: Console) -> None:
    """The table on a terminal."""
    table = Table(title=f"hop latency, {result.bundle} ({result.signal})", title_justify="left")
    for i, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if i else "left")
    for row in result.rows:
        table.add_row(row.name, *cells(row))
    console.print(table)
    for row in result.rows:
        console.print(f"{row.name}: {row.what}", highlight=False)
    console.print()
    for line in (*notes(result), live_line(result), f"One thread, in turns, on {result.machine}."):
        console.print(line, highlight=False)
