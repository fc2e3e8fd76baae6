"""The fidelity report as files: JSON for programs, Markdown and HTML for people, a plot for the eye."""

import msgspec

from quantize.fidelity.figures import SCHEMA, Report
from quantize.report.html import as_html
from quantize.report.plot import as_png
from quantize.report.tables import Table, introduction, tables

FILES = ("fidelity.json", "fidelity.md", "fidelity.html", "fidelity.png")


def as_json(report: Report) -> bytes:
    """``fidelity.json``: :class:`quantize.fidelity.figures.Report`, its schema and its verdict first."""
    said = {"schema": SCHEMA, "verdict": report.verdict, **msgspec.to_builtins(report)}
    return msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n"


def markdown(content: Table) -> str:
    """A Markdown table."""
    cells = [content.columns, ["---"] * len(content.columns), *content.rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in cells)


def as_markdown(report: Report) -> str:
    """``fidelity.md``: the verdict is its first line."""
    head = f"**{report.verdict}**\n\n# What int8 costs: {report.run} ({report.signal.upper()})\n"
    told = "".join(f"\n{paragraph}\n" for paragraph in introduction(report))
    parts = [
        f"\n## {content.title}\n\n{markdown(content)}" + (f"\n{content.note}\n" if content.note else "")
        for content in tables(report)
    ]
    return head + told + "".join(parts)


def files(report: Report) -> dict[str, bytes]:
    """All of them by name."""
    contents = (as_json(report), as_markdown(report).encode(), as_html(report).encode(), as_png(report))
    return dict(zip(FILES, contents, strict=True))
