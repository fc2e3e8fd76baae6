"""Pictures of what noise and misalignment do to tokens. Written as PNG without a display."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from trainer.bootstrap import Interval
from trainer.noise import KINDS
from trainer.plots import ECG, FADED, INK, PPG, STYLE
from trainer.protocols.misalignment import Misalignment
from trainer.protocols.noise_stability import Stability

COLOURS = (INK, PPG, ECG, "#c98b1c", "#5a8f3c", "#7a5ba6", "#888888", "#b0567a")
TITLES = {
    "white": "White noise", "sensor": "Sensor noise, measured spectra", "motion": "Motion, measured spectra",
    "artefact": "Recorded artefacts",
}  # fmt: skip


def _band(axes: Any, x: Sequence[float], values: Sequence[Interval], colour: str, label: str, style: str = "-") -> None:
    """A line with its interval as a shade."""
    axes.plot(x, [v.value for v in values], style, color=colour, label=label, linewidth=1.6, marker="o", markersize=3)
    axes.fill_between(x, [v.low for v in values], [v.high for v in values], color=colour, alpha=0.13, linewidth=0)


def plot_stability(stability: Stability, file: Path) -> None:
    """Same token and teacher's token against SNR, a column for each kind of noise, a line for each run."""
    runs = list(dict.fromkeys(point.run for point in stability.points))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 6.4), layout="constrained")
        grid = figure.subplots(2, len(KINDS), sharex=True, sharey="row")
        for column, kind in enumerate(KINDS):
            for run, colour in zip(runs, (COLOURS * len(runs))[: len(runs)], strict=True):
                points = [p for p in stability.points if p.run == run and p.kind == kind and p.snr is not None]
                snrs = [p.snr for p in points if p.snr is not None]
                _band(grid[0, column], snrs, [p.same for p in points], colour, run)
                _band(grid[1, column], snrs, [p.accuracy for p in points], colour, run)
                clean = next(p for p in stability.points if p.run == run and p.snr is None)
                grid[1, column].axhline(clean.accuracy.value, color=colour, linewidth=0.9, linestyle=":")
            grid[0, column].set(title=TITLES[kind], ylim=(0, 1))
            grid[1, column].set(xlabel="SNR in the band, dB", ylim=(0, None))
        low, _, high = stability.sensor_snr
        for axes in grid[:, KINDS.index("sensor")]:
            axes.axvspan(max(low, -6), min(high, 21), color=FADED, alpha=0.25, linewidth=0, zorder=0)
        grid[0, 0].set(ylabel="same token as on the clean wave", xlim=(21, -6))
        grid[1, 0].set_ylabel("the teacher's token (dotted: clean)")
        grid[0, 0].legend(loc="lower left")
        figure.suptitle(
            f"{stability.hops:,} hops of {stability.people} test people; 95 % intervals over people; grey: where the "
            "sensors' own noise lies",
            fontsize=9, x=0.01, ha="left",
        )  # fmt: skip
        figure.savefig(file)


def plot_misalignment(found: Misalignment, file: Path) -> None:
    """Accuracy and kept tokens against the shift, and accuracy under drift: solid as each run was trained, dashed the
    other way (pairs as they are for one trained on aligned pairs, aligned for the others)."""
    runs = list(found.trained_aligned)
    drifts = sorted({p.drift for p in found.points})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        accuracy, kept, drift = figure.subplots(1, 3, width_ratios=(3, 3, 2))
        for run, colour in zip(runs, (COLOURS * len(runs))[: len(runs)], strict=True):
            for aligned in (False, True):
                own = aligned == found.trained_aligned[run]
                style = "-" if own else "--"
                label = f"{run}, {'aligned' if aligned else 'as they are'}"
                points = [p for p in found.points if (p.run, p.aligned, p.drift) == (run, aligned, 0)]
                x = [1000 * p.shift for p in points]
                _band(accuracy, x, [p.top1 for p in points], colour, label, style)
                _band(kept, x, [p.kept for p in points], colour, label, style)
                growing = [next(p for p in found.points if (p.run, p.aligned, p.shift, p.drift) == (run, aligned, 0, d))
                           for d in drifts]  # fmt: skip
                _band(drift, drifts, [p.top1 for p in growing], colour, label, style)
        title = "Student's top-1 accuracy, ECG and PPG out of step"
        accuracy.set(title=title, xlabel="ECG later by, ms", ylabel="agreement with the teacher", ylim=(0, None))
        kept.set(title="Teacher's tokens that a shift leaves alone", xlabel="ECG later by, ms", ylim=(0, 1.02))
        drift.set(title="Top-1 under a drifting clock", xlabel="drift, ppm", ylim=accuracy.get_ylim())
        figure.legend(
            *accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=3,
            title="student, and the pairs given to its teacher", title_fontsize=8, fontsize=8,
        )  # fmt: skip
        figure.suptitle(
            f"{found.windows:,} windows of {found.people} test people; 95 % intervals over people", fontsize=9, x=0.01,
            ha="left",
        )  # fmt: skip
        figure.savefig(file)
