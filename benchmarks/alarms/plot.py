"""The result in one picture: what was found, what was not, and how far the rate is off. Drawn without a display."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.alarms import peer, rates
from benchmarks.alarms.cases import Case
from benchmarks.alarms.intervals import Estimate
from benchmarks.alarms.measure import Result
from trainer.heads.quality_head import AGREE_BPM
from trainer.plots import ECG, FADED, INK, PPG, STYLE

F64 = NDArray[np.float64]

REACH = 30.0  # bpm: errors are drawn up to here
LEAST = 0.5  # bpm: below, the R peaks' whole samples are what one sees
SHADES = {"BIDMC": "#1f6f8b", "PERform non-AF": "#5b8c3a", "PERform AF": "#c2362b"}


def _point(axes: Any, x: Estimate, y: float, colour: str, *, filled: bool = True) -> None:
    if x.value is None:
        return
    if x.low is not None and x.high is not None:
        axes.plot([x.low, x.high], [y, y], color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="round")
    axes.plot(x.value, y, "o", color=colour, markerfacecolor=colour if filled else "white", markersize=6)


def _found(axes: Any, result: Result) -> None:
    rows = [row for row in result.challenge if row.part == "all"]
    for i, row in enumerate(rows):
        _point(axes, row.sensitivity, i - 0.16, PPG, filled=row.claimed)
        _point(axes, row.suppression, i + 0.16, ECG, filled=row.claimed)
        for at, hits, cases, colour in (
            (i - 0.16, row.found, row.true, PPG), (i + 0.16, row.false - row.fired, row.false, ECG)
        ):  # fmt: skip
            axes.annotate(f"{hits}/{cases}", (1.02, at), xycoords=("axes fraction", "data"), va="center", color=colour,
                          fontsize=8, annotation_clip=False)  # fmt: skip
    names = {"Ventricular_Tachycardia": "Ventr. tachycardia", "Ventricular_Flutter_Fib": "Ventr. flutter/fib."}
    labels = [names.get(row.alarm, row.alarm) for row in rows]
    axes.set(title="Bedside alarms (Challenge 2015), from the pulse wave alone", xlim=(-0.02, 1.02), xlabel="share")
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    handles = [mpl.lines.Line2D([], [], color=colour, marker="o", linewidth=2.2) for colour in (PPG, ECG)]
    handles.append(mpl.lines.Line2D([], [], color=INK, marker="o", markerfacecolor="white", linewidth=0))
    axes.legend(handles, ["true ones found", "false ones left silent", "not claimed"], loc="upper center",
                bbox_to_anchor=(0.5, -0.16), ncols=3)  # fmt: skip


def _wolf(axes: Any, result: Result) -> None:
    names = list(dict.fromkeys(row.name for row in result.alerts))
    groups = [g for g in result.groups if g.group != "BIDMC, test people"]
    step = 0.8 / max(1, len(groups))
    for g, group in enumerate(groups):
        colour = SHADES.get(group.group, ECG)
        chosen = {row.name: row for row in result.alerts if row.group == group.group}
        at = np.arange(len(names)) + (g - (len(groups) - 1) / 2) * step
        values = [chosen[name].false_per_hour for name in names]
        heights = np.array([v.value or 0.0 for v in values])
        low = np.array([v.low if v.low is not None else h for v, h in zip(values, heights, strict=True)])
        high = np.array([v.high if v.high is not None else h for v, h in zip(values, heights, strict=True)])
        label = f"{group.group}: {group.people} people, {group.hours:.1f} h"
        axes.bar(at, heights, 0.85 * step, color=colour, alpha=0.75, label=label)
        axes.errorbar(at, heights, [np.maximum(0, heights - low), np.maximum(0, high - heights)], fmt="none",
                      ecolor=INK, elinewidth=1, capsize=2)  # fmt: skip
        for x, top, name in zip(at, high, names, strict=True):
            row = chosen[name]
            axes.annotate(str(row.alerts - row.borne_out), (x, top), xytext=(0, 2), textcoords="offset points",
                          ha="center", fontsize=8, color=INK)  # fmt: skip
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    axes.set(title="Alerts that the ECG does not bear out", ylabel="per hour (count above)")
    axes.grid(visible=False, axis="x")
    if groups:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def _shaded() -> list[tuple[str, Callable[[Case], bool]]]:
    return [(group, belongs) for group, belongs in rates.GROUPS.items() if group in SHADES]


def _bland_altman(axes: Any, cases: Sequence[Case]) -> None:
    shown = []
    for group, belongs in reversed(_shaded()):  # the widest cloud, AF, lies below
        pairs = [rates.errors(case) for case in cases if belongs(case)]
        error = np.concatenate([e for e, _ in pairs]) if pairs else np.zeros(0)
        if not len(error):
            continue
        truth = np.concatenate([t for _, t in pairs])
        some = np.random.default_rng(0).permutation(len(error))[:4000]
        shown.append(group)
        axes.plot((truth + error / 2)[some], np.clip(error[some], -REACH, REACH), ".", color=SHADES[group],
                  markersize=2.5, alpha=0.3, markeredgewidth=0)  # fmt: skip
    axes.axhline(0, color=INK, linewidth=0.8)
    for limit in (-AGREE_BPM, AGREE_BPM):
        axes.axhline(limit, color=INK, linewidth=0.8, linestyle=":")
    axes.set(title="Pulse rate against the ECG's, where believed", xlabel="mean of both, bpm",
             ylabel="pulse − ECG, bpm", ylim=(-REACH - 1, REACH + 1))  # fmt: skip
    handles = [mpl.lines.Line2D([], [], color=SHADES[g], marker="o", linewidth=0) for g in shown]
    if shown:
        axes.legend(handles[::-1], shown[::-1], loc="upper right", framealpha=0.8, frameon=True, edgecolor="none")


def _curve(axes: Any, error: F64, judged: int, colour: str, style: str) -> None:
    """Share of all judged windows (no rate counts as none) with an error up to x."""
    if judged:
        x = np.sort(error)
        axes.plot(np.maximum(x, LEAST), np.arange(1, len(x) + 1) / judged, color=colour, linestyle=style, linewidth=1.6)


def _errors(axes: Any, cases: Sequence[Case]) -> None:
    handles, labels = [], []
    for group, belongs in _shaded():
        chosen = [case for case in cases if belongs(case)]
        if not chosen:
            continue
        judged = sum(int(np.isfinite(c.reference.rates(c.watched.t)).sum()) for c in chosen)
        ours = np.concatenate([np.abs(rates.errors(c)[0]) for c in chosen])
        _curve(axes, ours, judged, SHADES[group], "-")
        handles.append(mpl.lines.Line2D([], [], color=SHADES[group], linewidth=1.6))
        labels.append(group)
        pairs = [(c.peer_rates, c.reference.rates(c.marks)) for c in chosen if c.peer_rates is not None]
        if pairs:
            rate, truth = np.concatenate([p for p, _ in pairs]), np.concatenate([t for _, t in pairs])
            use = np.isfinite(truth)
            error = np.abs(rate - truth)[use & np.isfinite(rate)]
            _curve(axes, error, int(use.sum()), SHADES[group], "--")
    handles += [mpl.lines.Line2D([], [], color=FADED, linestyle=style) for style in ("-", "--")]
    labels += [f"{rates.OURS}, believed only", f"{peer.NAME}, all it gives"]
    axes.axvline(AGREE_BPM, color=INK, linewidth=0.8, linestyle=":")
    axes.set(title="Share of all windows with a rate that is within …", xlabel="… of the ECG's, bpm", xscale="log",
             xlim=(LEAST, 60), ylim=(0, 1.02))  # fmt: skip
    axes.set_xticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.legend(handles, labels, loc="lower right", fontsize=8)


def draw(result: Result, cases: Sequence[Case]) -> bytes:
    """The picture, as PNG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(12.5, 8.6), layout="constrained")
        grid = figure.subplots(2, 2)
        _found(grid[0, 0], result)
        _wolf(grid[0, 1], result)
        _bland_altman(grid[1, 0], cases)
        _errors(grid[1, 1], cases)
        quick = f", a quick look at {result.limit} of each group" if result.limit else ""
        figure.suptitle(
            f"{result.bundle}: {result.hours:.0f} h of recordings, 95 % intervals{quick}", x=0.01, ha="left"
        )
        picture = io.BytesIO()
        figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
