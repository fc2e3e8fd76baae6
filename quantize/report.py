"""The fidelity report as files: JSON for programs, Markdown for people, a plot for the eye."""

import io

import msgspec

from quantize.fidelity import Estimate, Report, Row

FILES = ("fidelity.json", "fidelity.md", "fidelity.png")
COLOURS = {"fp32": "#7f7f7f", "static": "#1f6fb4", "dynamic": "#d9822b"}


def percent(figure: Estimate | None) -> str:
    """``98.1 % (97.6–98.5)``."""
    if figure is None:
        return "–"
    return f"{100 * figure.value:.1f} % ({100 * figure.low:.1f}–{100 * figure.high:.1f})"


def plain(figure: Estimate | None, sign: str = "") -> str:
    """``0.912 (0.83–0.97)``."""
    if figure is None:
        return "–"
    return f"{figure.value:{sign}.3f} ({figure.low:{sign}.3f} to {figure.high:{sign}.3f})"


def as_json(report: Report) -> bytes:
    """``fidelity.json``."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    head = (
        "| engine | method | same token as fp32 | … where fp32 is ≥ 50 % sure | in the five best | KL, nats | "
        "largest Δp | cosine mean / min | kB | ms a hop |\n|---|---|---|---|---|---|---|---|---|---|\n"
    )
    lines = [
        f"| {row.engine} | {row.method} | {percent(row.top1)} | {percent(row.top1_confident)} | {percent(row.top5)} | "
        f"{row.kl:.2g} | {row.max_probability_error:.2g} | {row.cosine_mean:.4f} / {row.cosine_min:.4f} | "
        f"{row.bytes / 1000:.0f} | {row.ms_per_hop:.3f} |"
        for row in rows
    ]
    return head + "\n".join(lines) + "\n"


def task_table(report: Report) -> str:
    """The task's figures as a Markdown table, empty if there is no task."""
    if report.task_fp32 is None:
        return ""
    lines = [f"| torch | fp32 | {plain(report.task_fp32)} | |"]
    lines += [
        f"| {row.engine} | {row.method} | {plain(row.task)} | {plain(row.task_change, '+')} |" for row in report.rows
    ]
    return f"| engine | method | {report.task_name} | change from fp32 |\n|---|---|---|---|\n" + "\n".join(lines) + "\n"


def as_markdown(report: Report) -> str:
    """``fidelity.md``."""
    task = task_table(report)
    return f"""# What int8 costs: {report.run} ({report.signal.upper()})

Reference: the fp32 step form in PyTorch ({report.torch_ms_per_hop:.3f} ms a hop, eager). Everything ran hop by hop
with the engine's own state, as deployed. Judged on {report.judged_on}: {report.streams} stretches, {report.hops}
hops of {report.patients} patients. Calibrated on {report.calibrated_on}. Brackets: 95 % bootstrap intervals over
patients.

{table(report.rows)}
{task}
Times: one thread, engines taking turns, on {report.machine}; use them as ratios.
"""


def as_png(report: Report) -> bytes:
    """``fidelity.png``: agreement with its interval, and what it costs in time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = report.rows
    labels = [f"{row.engine} {row.method}" for row in rows]
    places = list(range(len(rows)))[::-1]
    figure = Figure(figsize=(8.4, 3.4), dpi=90, layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in zip(places, rows, strict=True):
        colour = COLOURS[row.method]
        for figure_of, marker, offset in ((row.top1, "o", 0.14), (row.top1_confident, "D", -0.14)):
            if figure_of is not None:
                value, low, high = (100 * x for x in (figure_of.value, figure_of.low, figure_of.high))
                # A percentile interval need not hold the value itself.
                error = [[max(0.0, value - low)], [max(0.0, high - value)]]
                left.errorbar(
                    value, place + offset, xerr=error, fmt=marker, color=colour, capsize=3, markersize=5,
                    markerfacecolor=colour if marker == "o" else "white",
                )  # fmt: skip
        right.barh(place, row.ms_per_hop, color=colour, height=0.55)
        right.text(
            row.ms_per_hop, place, f" {row.ms_per_hop:.3f} ms, {row.bytes / 1000:.0f} kB", va="center", fontsize=8
        )
    left.set_yticks(places, labels)
    left.set_xlabel("same token as fp32, %  (● all hops, ◇ fp32 ≥ 50 % sure)", fontsize=9)
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


def files(report: Report) -> dict[str, bytes]:
    """All three files by name."""
    return dict(zip(FILES, (as_json(report), as_markdown(report).encode(), as_png(report)), strict=True))
