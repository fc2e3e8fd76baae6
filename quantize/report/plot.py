"""``fidelity.png``: agreement with its interval, and what it costs in time."""

import io

from quantize.fidelity.figures import Estimate, Report

COLOURS = ("#1f6fb4", "#d9822b", "#2e8b57", "#a04d9b", "#b03a48", "#6b6bd6", "#8a7a2e", "#3f8f8f")
GREY = "#7f7f7f"


def colours(report: Report) -> dict[str, str]:
    """A colour for each method, the same on every engine; fp32 is grey."""
    methods = dict.fromkeys(row.method for row in report.rows if row.method != "fp32")
    return {"fp32": GREY, **{method: COLOURS[i % len(COLOURS)] for i, method in enumerate(methods)}}


def as_png(report: Report) -> bytes:
    """The plot of all rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, of_method = report.rows, colours(report)
    places = list(range(len(rows)))[::-1]
    figure = Figure(figsize=(8.4, 1.4 + 0.34 * len(rows)), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in zip(places, rows, strict=True):
        colour = of_method[row.method]
        for figure_of, marker, offset in ((row.top1, "o", 0.14), (row.top1_confident, "D", -0.14)):
            if figure_of is not None:
                left.errorbar(
                    100 * figure_of.value, place + offset, xerr=reach(figure_of), fmt=marker, color=colour, capsize=3,
                    markersize=5, markerfacecolor=colour if marker == "o" else "white",
                )  # fmt: skip
        right.barh(place, row.ms_per_hop, color=colour, height=0.55)
        right.text(
            row.ms_per_hop, place, f" {row.ms_per_hop:.3f} ms, {row.bytes / 1000:.0f} kB", va="center", fontsize=8
        )
    left.set_yticks(places, [row.marked for row in rows])
    left.set_xlabel("same token as fp32, %  (● all hops, ◇ fp32 ≥ 50 % sure; ✓ ships)", fontsize=9)
    right.set_xlabel("median ms a hop, one thread", fontsize=9)
    right.margins(x=0.45)
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"int8 against fp32, {report.run}: {report.hops} held-out hops of {report.patients} patients", fontsize=10
    )
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def reach(figure: Estimate) -> list[list[float]]:
    """How far the interval reaches below and above, %; a percentile interval need not hold the value itself."""
    return [[100 * max(0.0, figure.value - figure.low)], [100 * max(0.0, figure.high - figure.value)]]
