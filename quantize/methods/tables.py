"""What the choice of layers rests on, as files: the sensitivity sweeps and the activations' ranges."""

import io
from pathlib import Path

import msgspec

from firmware_bridge.errors import BadInput
from quantize.methods.activations import range_table
from quantize.methods.sensitivity import Sweep
from quantize.methods.workbench import Workbench

NAMES = {"dynamic": "dynamic int8", "static": "int8 on fixed ranges (percentile)"}


def as_markdown(sweep: Sweep, what: str) -> str:
    """The sweep as a Markdown table."""
    lines = [
        f"| {row.layer}{' **(kept wide)**' if row.layer in sweep.kept else ''} | {100 * row.weights:.1f} % | "
        f"{row.alone.kl:.2g} | {100 * row.alone.same_token:.2f} % | {row.without.kl:.2g} | "
        f"{100 * row.without.same_token:.2f} % |"
        for row in sweep.rows
    ]
    everything, kept = sweep.everything, sweep.with_kept
    return (
        f"## {what}\n\nAll layers: KL {everything.kl:.2g} nats, same token {100 * everything.same_token:.2f} %. "
        f"All but {', '.join(sweep.kept)}: {kept.kl:.2g} nats, {100 * kept.same_token:.2f} %.\n\n"
        "| layer | share of weights | only it: KL, nats | same token | all but it: KL, nats | same token |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )


def as_png(sweeps: dict[str, Sweep]) -> bytes:
    """What each layer costs alone, one picture for every sweep; those kept wide in another colour."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(sweeps), 6.2), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, sweep) in zip(figure.subplots(1, len(sweeps), squeeze=False)[0], sweeps.items(), strict=True):
        rows = sweep.rows[::-1]
        colours = ["#d9822b" if row.layer in sweep.kept else "#1f6fb4" for row in rows]
        axes.barh([row.layer for row in rows], [max(row.alone.kl, 1e-12) for row in rows], color=colours)
        axes.set_xscale("log")
        axes.set_title(f"{NAMES[name]}: only this layer", fontsize=10)
        axes.set_xlabel("KL from fp32, nats a hop (orange: kept wide)", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def write_tables(folder: Path, bench: Workbench) -> None:
    """``sensitivity.md``, ``.json``, ``.png`` and ``ranges.md`` in ``folder``. Raises :class:`BadInput` where it cannot
    be written."""
    sweeps = {"dynamic": bench.dynamic_sweep, "static": bench.static_sweep}
    text = "# What each layer loses in int8\n\nOn validation people, simulated in PyTorch.\n\n"
    files = {
        "sensitivity.md": (
            text + "\n".join(as_markdown(sweep, NAMES[name]) for name, sweep in sweeps.items())
        ).encode(),
        "sensitivity.json": msgspec.json.format(msgspec.json.encode(sweeps), indent=2) + b"\n",
        "sensitivity.png": as_png(sweeps),
        "ranges.md": b"# Activations along the calibration streams\n\n" + range_table(bench.activations).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise BadInput(f"--tables {folder}: cannot be written ({error.strerror})") from None
