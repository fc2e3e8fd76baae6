"""Do the heads' probabilities and intervals mean what they say? Figures and pictures, on people they never saw."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainer.plots import ECG, FADED, INK, PPG, STYLE

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

BINS = 10
LEVELS = np.linspace(0.05, 0.99, 40)
COLOURS = (PPG, ECG, "#7a9a3a", "#8a5aa8", "#c98a1b")


@dataclass(frozen=True)
class Reliability:
    """By bin: mean ``said`` probability, ``seen`` share of true ones, ``counts``; and ``error``, the mean distance of
    the two over all examples (expected calibration error)."""

    said: F64
    seen: F64
    counts: NDArray[np.int64]
    error: float


def reliability(said: F64, labels: Bools) -> Reliability:
    """Of probabilities (n,), in ten bins of equal width; empty bins are left out."""
    which = np.minimum((said * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(which, minlength=BINS)
    full = counts > 0
    mean = np.bincount(which, said, BINS)[full] / counts[full]
    seen = np.bincount(which, labels, BINS)[full] / counts[full]
    return Reliability(mean, seen, counts[full], float(np.abs(mean - seen) @ counts[full] / len(said)))


def draw_reliability(path: Path, title: str, curves: Mapping[str, Reliability]) -> None:
    """Said against seen; the size of a point is its number of examples."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=FADED, linewidth=1)
        for (name, curve), colour in zip(curves.items(), COLOURS, strict=False):
            sizes = 12 + 160 * curve.counts / curve.counts.sum()
            label = f"{name}: calibration error {curve.error:.3f}, {curve.counts.sum()} examples"
            axes.plot(curve.said, curve.seen, color=colour, linewidth=1.2, label=label)
            axes.scatter(curve.said, curve.seen, s=sizes, color=colour, zorder=3)
        axes.set(title=title, xlabel="probability said", ylabel="share that was so", xlim=(-0.02, 1.02))
        axes.set_ylim(-0.02, 1.02)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=7)
        figure.savefig(path)


@dataclass(frozen=True)
class RateJudged:
    """On one group: absolute ``errors`` and their bounds ``scale``, bpm, and ``sqi``'s belief, (n,) each."""

    errors: F64
    scale: F64
    believed: Bools


def draw_rate(path: Path, reach: float, level: float, groups: Mapping[str, RateJudged]) -> None:
    """Nominal against covered share of intervals, and the error of what is left when the least sure are rejected."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.4, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=FADED, linewidth=1)
        # For other levels than the calibrated one the error is taken to be Laplace-distributed.
        reaches = reach * np.log1p(-LEVELS) / np.log1p(-level)
        for (name, judged), colour in zip(groups.items(), COLOURS, strict=False):
            covered = [(judged.errors <= r * judged.scale).mean() for r in reaches]
            here = float((judged.errors <= reach * judged.scale).mean())
            left.plot(LEVELS, covered, color=colour, linewidth=1.6, label=f"{name}: {100 * here:.0f} % at {level:.0%}")
            order = np.argsort(judged.scale, kind="stable")
            kept = np.arange(1, len(order) + 1)
            mae = np.cumsum(judged.errors[order]) / kept
            show = kept > 0.2 * len(order)
            right.plot(kept[show] / len(order), mae[show], color=colour, linewidth=1.6, label=name)
            by_quality = judged.errors[judged.believed]
            right.plot([judged.believed.mean()], [by_quality.mean()], "o", color=colour, markersize=5)
        left.axvline(level, color=INK, linewidth=0.8, linestyle=":")
        left.set(title="The interval around the rate", xlabel="nominal share", ylabel="share of truths inside")
        left.legend(fontsize=7)
        right.set(title="Rejecting the least sure (dots: by the quality index)", ylim=(0, None),
                  xlabel="share of windows that keep a rate", ylabel="mean absolute error, bpm")  # fmt: skip
        right.legend(fontsize=7)
        figure.savefig(path)
