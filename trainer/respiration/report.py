"""What a respiration run and its evaluation leave behind: ``respiration.json``, tables, pictures."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table as Shown

from firmware_bridge.errors import BadInput
from trainer.plots import ECG, FADED, INK, PPG, STYLE
from trainer.respiration.judge import Table, markdown, to_dict
from trainer.respiration.training import FOLLOWED, VALID, Judged, remarks
from trainer.run_folder import write_json

TARGET = 2.0  # /min


def show(tables: list[Table], console: Console) -> None:
    """The tables on the terminal."""
    for one in tables:
        shown = Shown(title=f"{one.title}: {one.windows:,} windows of {one.people} people", title_justify="left")
        for name in ("method", "MAE /min", "95 %", "median", "within 2", "coverage"):
            shown.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
        for r in one.rows:
            shown.add_row(r.method, f"{r.mae.value:.2f}", f"{r.mae.low:.2f}–{r.mae.high:.2f}", f"{r.median:.2f}",
                          f"{r.within:.1%}", f"{r.coverage:.1%}")  # fmt: skip
        console.print(shown)


def metrics(tables: list[Table]) -> dict[str, float | str]:
    """What a bundle says of its respiratory rate."""
    found: dict[str, float | str] = {}
    for one in tables:
        for r in one.rows:
            if r.method in (FOLLOWED, VALID):
                name = f"respiration MAE /min, {one.title}{' (valid)' if r.method == VALID else ''}"
                found[name] = round(r.mae.value, 3)
                found[f"{name}, 95 %"] = f"{r.mae.low:.2f} to {r.mae.high:.2f}, {r.coverage:.0%} of windows"
    return found


def write_report(folder: Path, judged: Judged) -> None:
    """``respiration_tables.json``, ``respiration.md``, ``respiration.png`` and ``respiration_reliability.png``."""
    tables, stated = judged
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "respiration_tables.json", to_dict(tables))
        (folder / "respiration.md").write_text(markdown(tables, remarks()))
        _plot_errors(folder / "respiration.png", tables)
        _plot_reliability(folder / "respiration_reliability.png", stated)
    except OSError as error:
        raise BadInput(f"folder {folder}: cannot be written ({error.strerror})") from None


def _plot_errors(path: Path, tables: list[Table]) -> None:
    with mpl.rc_context(STYLE):
        rows = max(len(one.rows) for one in tables)
        figure = Figure(figsize=(3.2 + 3.4 * len(tables), 0.9 + 0.3 * rows), layout="constrained")
        for i, (axes, one) in enumerate(zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True)):
            for y, r in enumerate(one.rows):
                colour = PPG if r.method in (FOLLOWED, VALID) else ECG
                axes.plot([r.mae.low, r.mae.high], [y, y], color=colour, linewidth=2.4, alpha=0.55)
                axes.plot(r.mae.value, y, "o", color=colour)
                axes.annotate(f"{r.coverage:.0%}", (1.0, y), xycoords=("axes fraction", "data"), ha="right",
                              va="center", fontsize=7, color=INK)  # fmt: skip
            axes.axvline(TARGET, color=FADED, linestyle="--", linewidth=1)
            axes.set(ylim=(len(one.rows) - 0.5, -0.5), xlabel="MAE, /min (right: coverage)", xlim=(0, None))
            axes.set_title("\n".join(one.title.replace(", ", ",\n", 1).splitlines()), fontsize=9)
            axes.set_yticks(range(len(one.rows)), [r.method for r in one.rows] if i == 0 else [""] * len(one.rows))
            axes.grid(visible=False, axis="y")
        figure.savefig(path)


def _plot_reliability(path: Path, stated: dict[str, list[tuple[float, float, int]]]) -> None:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 4.2), layout="constrained")
        axes = figure.subplots()
        for (title, bins), colour in zip(stated.items(), (INK, PPG, ECG), strict=False):
            said, true, _ = np.array(bins).T
            axes.plot(said, true, "o-", color=colour, label=title.replace(", ", ",\n", 1), linewidth=1.4)
        limit = max(max(said, true) for bins in stated.values() for said, true, _ in bins) * 1.1
        axes.plot([0.05, limit], [0.05, limit], color=FADED, linestyle="--", linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel="stated error, /min",
                 ylabel="error that holds 68 % of the truths, /min", title="Is the stated error true?")  # fmt: skip
        axes.legend(fontsize=7)
        figure.savefig(path)
