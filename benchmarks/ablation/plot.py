"""The ablation as a picture: every answer beside the base, for the three figures that compare across rows."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.ablation.table import Line
from trainer.plots import ECG, FADED, INK, PPG, STYLE

PANELS = (
    ("bits per second", "what the student tells, bit/s", ECG),
    ("rate error", "heart rate from the embedding, bpm", PPG),
    ("AF window AUROC", "AF from the embedding, AUROC", INK),
)


def draw(lines: Sequence[Line]) -> bytes:
    """PNG: a dot a seed, a bar their mean, the base as a dashed line."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 0.27 * len(lines) + 1.2), layout="constrained")
        axes: Any = figure.subplots(1, len(PANELS), sharey=True)
        labels = [f"{line.variant.question}: {line.variant.name}" for line in lines]
        for panel, (name, title, colour) in zip(axes, PANELS, strict=True):
            base = lines[0].mean(name)
            panel.axvline(base, color=INK, linewidth=0.8, linestyle="--")
            for row, line in enumerate(lines):
                values = line.values.get(name, [])
                if values:
                    panel.plot([base, line.mean(name)], [row, row], color=FADED, linewidth=3, solid_capstyle="butt")
                    panel.plot(values, [row] * len(values), "o", color=colour, markersize=4)
            panel.set_title(title)
        axes[0].set_yticks(range(len(lines)), labels)
        axes[0].set_ylim(len(lines) - 0.5, -0.5)
        image = io.BytesIO()
        figure.savefig(image, format="png")
    return image.getvalue()
