"""A report in one picture: every row's figure with its interval, one column of axes for each metric."""

import io

import matplotlib as mpl
from matplotlib.figure import Figure

from trainer.plots import ECG, FADED, INK, PPG, STYLE
from trainer.protocols.protocol import ALL, Report, Result
from trainer.protocols.scores import lower_is_better
from trainer.protocols.table import columns_of

ROW, HEAD = 0.26, 0.9  # inches
COLOURS = {"better": PPG, "worse": FADED, "": ECG}


def draw(report: Report) -> bytes:
    """PNG."""
    columns = max(len(_shown(result)) for result in report.results)
    heights = [HEAD + ROW * len(result.rows) for result in report.results]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4 + 2.9 * columns, sum(heights) + 0.4), layout="constrained")
        grid = figure.subplots(len(report.results), columns, squeeze=False, height_ratios=heights)
        for axes_row, result in zip(grid, report.results, strict=True):
            for i, axes in enumerate(axes_row):
                if i < len(_shown(result)):
                    _forest(axes, result, *_shown(result)[i], names=i == 0)
                else:
                    axes.set_axis_off()
        figure.supxlabel(
            "bar: 95 % interval over people; filled: the encoder's row that the others are compared with;\n"
            "red: better than it, grey: worse, blue: no difference shown (paired interval)", fontsize=8, color=INK,
        )  # fmt: skip
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _shown(result: Result) -> list[tuple[str, str]]:
    found = [(metric, subset) for metric, subset in columns_of(result) if metric not in ("RMSE", "balanced accuracy")]
    return found[:4]


def _forest(axes: mpl.axes.Axes, result: Result, metric: str, subset: str, *, names: bool) -> None:
    rows = result.rows
    for y, row in enumerate(rows):
        score = row.score(metric, subset)
        if score is None:
            continue
        reference = row.method == result.against
        colour = INK if reference else COLOURS[score.verdict]
        value = score.value
        axes.plot([value.low, value.high], [y, y], color=colour, linewidth=2.4, alpha=0.55, solid_capstyle="round")
        axes.plot(value.value, y, "o", color=colour, markerfacecolor=colour if reference else "white", markersize=5.5)
        if reference:
            axes.axvline(value.value, color=INK, linewidth=0.7, linestyle=":")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [row.method for row in rows] if names else [""] * len(rows))
    axes.grid(visible=False, axis="y")
    people = result.sizes[subset][1]
    of = "" if subset == ALL else f", {subset}"
    title = f"{metric}{of}" if not names else f"{result.task}\n{metric}{of}"
    axes.set_title(title)
    better = f"{result.unit}, less is better" if lower_is_better(metric) else "more is better"
    axes.set_xlabel(f"{better}; {people} people")
    if lower_is_better(metric):
        axes.set_xlim(left=0)
    else:
        axes.set_xlim(right=1.02)
