"""``fidelity.html``: one file that needs nothing else, by day and night, on a phone as on a desk."""

from html import escape
from string import Template

from quantize.fidelity.figures import Report
from quantize.report import svg
from quantize.report.tables import Table, introduction, tables

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --page: #ffffff; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --band: #f5f7fa;
  --good: #14653a; --good-page: #e4f4ea; --bad: #9c1c1c; --bad-page: #fdeaea; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --ink: #e3e8ef; --soft: #9aa6b5; --line: #2d3641;
  --band: #1a2029; --good: #8fdcb0; --good-page: #12301f; --bad: #ff9c9c; --bad-page: #3a1717; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
.verdict { max-width: none; margin: 0 0 1rem; padding: .7rem 1rem; border-radius: 8px;
  font-weight: 600; overflow-wrap: anywhere; }
.good { background: var(--good-page); color: var(--good); }
.bad { background: var(--bad-page); color: var(--bad); }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; }
.note { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .4rem .65rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { background: var(--band); font-weight: 600; min-width: 4.5rem; }
td { white-space: nowrap; }
td.words { white-space: normal; min-width: 13rem; }
td:first-child { font-weight: 600; white-space: normal; min-width: 8.5rem; }
tr:last-child td { border-bottom: 0; }
figure { margin: 1.25rem 0; max-width: 38rem; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .small { fill: var(--soft); font-size: 12px; }
svg .strong { font-weight: 700; }
svg .grid { stroke: var(--line); }
svg .limit { stroke: var(--bad); stroke-width: 1.5; }
svg .dashed { stroke-dasharray: 4 4; }
svg .reach { stroke-width: 2.5; opacity: .65; }
svg .dot { stroke-width: 2; }
svg .curve { fill: none; stroke-width: 2.2; }
figcaption { color: var(--soft); font-size: .9rem; }
</style>
</head>
<body>
<p class="verdict $kind">$verdict</p>
<h1>$title</h1>
$introduction
$figures
$tables
</body>
</html>
""")

AGREEMENT = (
    "Share of hops with the same token as fp32: filled, of all hops (the gate's limit: solid line); empty, of those "
    "where fp32 is at least 50 % sure (limit: dashed); bars: 95 % over patients. ✓ ships."
)
LONG = 46  # characters from which a cell may break into lines


def _table(content: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in content.columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in content.rows)
    note = f'<p class="note">{escape(content.note)}</p>' if content.note else ""
    return (
        f'<h2>{escape(content.title)}</h2>\n<div class="scroll" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n{note}"
    )


def _cell(words: str) -> str:
    kind = ' class="words"' if len(words) > LONG else ""
    return f"<td{kind}>{escape(words)}</td>"


def _figure(drawing: str, words: str) -> str:
    return f"<figure>{drawing}<figcaption>{escape(words)}</figcaption></figure>" if drawing else ""


def as_html(report: Report) -> str:
    """The page."""
    figures = (
        _figure(svg.agreement(report), AGREEMENT),
        _figure(svg.noise(report), "Signal to quantization noise by layer, dB, as deployed; higher is better."),
        _figure(svg.cost(report), "Median time a hop, one thread, and the artefact's size."),
    )
    judged = any(row.ships for row in report.rows)
    return PAGE.substitute(
        title=escape(f"What int8 costs: {report.run} ({report.signal.upper()})"),
        kind="good" if judged and not report.faults else "bad",
        verdict=escape(report.verdict),
        introduction="\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in introduction(report)),
        figures="\n".join(figures),
        tables="\n".join(_table(content) for content in tables(report)),
    )
