"""Drawings of the HTML report: SVG text that takes its colours from the page, so that it is right by day and night."""

from collections.abc import Callable
from html import escape

from quantize.fidelity.figures import Estimate, Layer, Report
from quantize.fidelity.gate import LEAST_CONFIDENT, LEAST_OVERALL
from quantize.report.plot import colours

WIDTH, LINE, LABEL = 480, 30, 160  # units of the drawing; it scales to the page
TOP, BOTTOM = 14, 26
MOST_LINES = 8
DASHES = ("none", "6 4", "2 3")  # by engine; the colour is the method's


def _svg(title: str, height: float, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str, colour: str = "") -> str:
    style = f' style="stroke:{colour}"' if colour else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"{style}/>'


def agreement(report: Report) -> str:
    """Share of hops with fp32's token, with its interval, beside the gate's limits."""
    rows, of_method = report.rows, colours(report)
    lowest = min([LEAST_OVERALL, *(e.low for row in rows for e in (row.top1, row.top1_confident) if e is not None)])
    low = max(0.0, lowest - 0.15 * (1 - lowest) - 0.002)
    height = TOP + LINE * len(rows) + BOTTOM
    bottom = TOP + LINE * len(rows)

    def x(value: float) -> float:
        return LABEL + (WIDTH - LABEL - 16) * (value - low) / (1 - low)

    parts = []
    for i in range(5):
        value = low + (1 - low) * i / 4
        parts += [_line(x(value), TOP, x(value), bottom, "grid")]
        parts += [_text(x(value), bottom + 16, f"{100 * value:.1f} %", "end" if i == 4 else "middle", "small")]
    for limit, dash in ((LEAST_OVERALL, "limit"), (LEAST_CONFIDENT, "limit dashed")):
        parts.append(_line(x(limit), TOP, x(limit), bottom, dash))
    for i, row in enumerate(rows):
        y = TOP + LINE * (i + 0.5)
        parts.append(_text(LABEL - 10, y + 4, row.marked, "end", "strong" if row.ships else ""))
        for figure, shift, filled in ((row.top1, -5, True), (row.top1_confident, 6, False)):
            if figure is not None:
                parts += _dot(figure, y + shift, of_method[row.method], x, filled=filled)
    return _svg("Share of hops with the same token as fp32", height, parts)


def _dot(figure: Estimate, y: float, colour: str, x: Callable[[float], float], *, filled: bool) -> list[str]:
    fill = colour if filled else "var(--page)"
    return [
        _line(x(figure.low), y, x(figure.high), y, "reach", colour),
        f'<circle cx="{x(figure.value):.1f}" cy="{y:.1f}" r="4.5" style="fill:{fill};stroke:{colour}" class="dot"/>',
    ]


def noise(report: Report) -> str:
    """Signal to noise through the layers, a line for each int8 artefact; where they are many, of what ships only."""
    rows = [row for row in report.rows if row.method != "fp32" and row.layers]
    if len(rows) > MOST_LINES:
        rows = [row for row in rows if row.ships] or rows[:MOST_LINES]
    if not rows:
        return ""
    of_method, names = colours(report), [layer.name for layer in rows[0].layers]
    values = [layer.sqnr for row in rows for layer in row.layers if layer.sqnr is not None]
    if not values:
        return ""
    low, high = min(values) - 2, max(values) + 2
    plot, left, right = 240.0, 44.0, WIDTH - 12.0
    engines = list(dict.fromkeys(row.engine for row in rows))
    height = TOP + plot + 84 + 18 * ((len(rows) + 1) // 2)

    def x(i: int) -> float:
        return left + (right - left) * i / max(1, len(names) - 1)

    def y(value: float) -> float:
        return TOP + plot * (high - value) / (high - low)

    parts = []
    for i in range(5):
        value = low + (high - low) * i / 4
        parts += [
            _line(left, y(value), right, y(value), "grid"),
            _text(left - 6, y(value) + 4, f"{value:.0f}", "end", "small"),
        ]
    for i, name in enumerate(names):
        words = _text(0, 0, name.replace("block ", "b"), "end", "small")
        parts.append(f'<g transform="translate({x(i):.1f} {TOP + plot + 14:.1f}) rotate(-40)">{words}</g>')
    for i, row in enumerate(rows):
        dash = DASHES[engines.index(row.engine) % len(DASHES)]
        points = " ".join(f"{x(names.index(n)):.1f},{y(v):.1f}" for n, v in _known(row.layers) if n in names)
        style = f"stroke:{of_method[row.method]};stroke-dasharray:{dash}"
        parts.append(f'<polyline points="{points}" class="curve" style="{style}"/>')
        along, down = left + (i % 2) * 220, TOP + plot + 92 + 18 * (i // 2)
        parts.append(
            f'<line x1="{along}" y1="{down - 4}" x2="{along + 26}" y2="{down - 4}" class="curve" style="{style}"/>'
        )
        parts.append(_text(along + 32, down, row.label, kind="small"))
    return _svg("Signal to quantization noise by layer, dB", height, parts)


def _known(layers: list[Layer]) -> list[tuple[str, float]]:
    return [(layer.name, layer.sqnr) for layer in layers if layer.sqnr is not None]


def cost(report: Report) -> str:
    """Time and size, as bars."""
    rows, of_method = report.rows, colours(report)
    most = max(row.ms_per_hop for row in rows)
    height = TOP + LINE * len(rows) + 8
    parts = []
    for i, row in enumerate(rows):
        y = TOP + LINE * i
        wide = (WIDTH - LABEL - 122) * row.ms_per_hop / most
        parts.append(_text(LABEL - 10, y + 19, row.marked, "end", "strong" if row.ships else ""))
        parts.append(
            f'<rect x="{LABEL}" y="{y + 5}" width="{wide:.1f}" height="{LINE - 10}" rx="3" '
            f'style="fill:{of_method[row.method]}"/>'
        )
        parts.append(
            _text(LABEL + wide + 8, y + 19, f"{row.ms_per_hop:.3f} ms, {row.bytes / 1000:.0f} kB", kind="small")
        )
    return _svg("Median milliseconds a hop, one thread, and size", height, parts)
