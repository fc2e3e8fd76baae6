"""Pictures of a run: losses, codebook, reconstructions, accuracy. Written as PNG without a display."""

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from trainer.quantizers import perplexity, usage
from trainer.run_folder import History, RunFolder
from trainer.tokenizer import Tokenizer
from trainer.windows import Windows

PPG, ECG, FADED, INK = "#c2362b", "#1f6f8b", "#b9b9b9", "#222222"
STYLE = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e6e6",
    "axes.axisbelow": True, "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left",
    "legend.frameon": False, "savefig.dpi": 130,
}  # fmt: skip


@contextmanager
def _figure(run: RunFolder, name: str, width: float, height: float) -> Any:
    """A figure that is saved as ``plots/NAME.png`` at the end of the block."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        run.plots.mkdir(exist_ok=True)
        figure.savefig(run.plots / f"{name}.png")


def _lines(axes: Any, history: History, lines: dict[str, tuple[str, str]], title: str, ylabel: str) -> None:
    """Curves over epochs: metric → (label, colour)."""
    for metric, (label, colour) in lines.items():
        known = [(entry["epoch"], entry[metric]) for entry in history if metric in entry]
        if known:
            epochs, values = zip(*known, strict=True)
            axes.plot(epochs, values, color=colour, label=label, marker="o" if len(known) < 3 else "", linewidth=1.6)
    axes.set(title=title, xlabel="epoch", ylabel=ylabel)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def plot_tokenizer(run: RunFolder, tokenizer: Tokenizer, validation: Windows) -> None:
    """``losses.png``, ``codebook.png`` and ``reconstructions.png`` of a stage 1 run."""
    history = run.history()
    with _figure(run, "losses", 9, 3.4) as figure:
        left, right = figure.subplots(1, 2)
        _lines(left, history, {"train_loss": ("train", FADED), "val_loss": ("validation", INK)}, "Loss", "weighted MSE")
        left.set_yscale("log")
        r2 = {"val_ppg_r2": ("PPG", PPG), "val_ecg_r2": ("ECG", ECG)}
        _lines(right, history, r2, "Reconstruction on validation", "variance explained")
        right.set_ylim(0, 1)
    with np.load(run.tokens, allow_pickle=False) as saved:
        tokens = saved["tokens"]
    size = tokenizer.config.quantizer.size
    counts = torch.bincount(torch.as_tensor(tokens.astype(np.int64)).flatten(), minlength=size)
    with _figure(run, "codebook", 9, 3.4) as figure:
        left, right = figure.subplots(1, 2)
        left.bar(np.arange(size), np.sort(counts.numpy())[::-1] / max(1, int(counts.sum())), width=1.0, color=ECG)
        left.axhline(1 / size, color=INK, linewidth=0.8, linestyle="--")
        left.annotate("even use", (size, 1 / size), ha="right", va="bottom", textcoords="offset points", xytext=(0, 2))
        title = f"Use of {size} codes on validation: {usage(counts):.0%} used, perplexity {perplexity(counts):.0f}"
        left.set(title=title, xlabel="code, by frequency", ylabel="share of patches", xlim=(0, size))  # fmt: skip
        both = {"train_perplexity": ("train", FADED), "val_perplexity": ("validation", INK)}
        _lines(right, history, both, "Codebook perplexity", "codes")
        right.set_ylim(0, size)
    _plot_reconstructions(run, tokenizer, validation)


def _plot_reconstructions(
    run: RunFolder, tokenizer: Tokenizer, windows: Windows, rows: int = 3, hops: int = 25
) -> None:
    """Both signals of a few windows from different patients, and what the tokens alone say of them."""
    _, firsts = np.unique(windows.patients, return_index=True)
    chosen = windows.take(np.sort(firsts)[np.linspace(0, len(firsts) - 1, min(rows, len(firsts))).round().astype(int)])
    with torch.no_grad():
        rebuilt = tokenizer(torch.tensor(chosen.ppg), torch.tensor(chosen.ecg))
    first = max(0, windows.hops // 2 - hops // 2)
    middle = slice(first, first + hops)
    hop = chosen.ppg.shape[2]
    seconds = np.arange(min(hops, windows.hops) * hop) / 125.0
    with _figure(run, "reconstructions", 12, 2.9 * len(chosen)) as figure:
        grid = figure.subplots(2 * len(chosen), 1, sharex=True, squeeze=False)[:, 0]
        for row in range(len(chosen)):
            pair = (("ECG", ECG, chosen.ecg, rebuilt.ecg), ("PPG", PPG, chosen.ppg, rebuilt.ppg))
            for axes, (name, colour, original, model) in zip(grid[2 * row : 2 * row + 2], pair, strict=True):
                axes.plot(seconds, original[row, middle].ravel(), color=FADED, linewidth=1.8, label=f"{name}, recorded")
                if model is not None:
                    told = model[row, middle].numpy().ravel()
                    axes.plot(seconds, told, color=colour, linewidth=1.1, label="from tokens")
                axes.set_ylabel(name)
                axes.set_xticks(np.arange(0, seconds[-1] + 0.1, hop / 125.0), minor=True)
                axes.grid(visible=True, which="minor", axis="x")
            _token_row(grid[2 * row], rebuilt.quantized.indices[row, middle].tolist(), hop / 125.0)
            recording = windows.recordings[int(chosen.recording[row])]
            grid[2 * row].set_title(f"{recording['dataset']} {recording['name']}", pad=18)
            grid[2 * row].legend(loc="upper right", ncols=2, fontsize=8)
        grid[-1].set(xlabel="seconds (one token every 0.4 s, its number above the patch)", xlim=(0, seconds[-1]))


def _token_row(axes: Any, tokens: Sequence[int], hop_seconds: float) -> None:
    for i, token in enumerate(tokens):
        axes.annotate(str(token), ((i + 0.5) * hop_seconds, 1.0), xycoords=("data", "axes fraction"), ha="center",
                      va="bottom", fontsize=7, color=INK, textcoords="offset points", xytext=(0, 2))  # fmt: skip


def plot_student(run: RunFolder) -> None:
    """``accuracy.png`` and ``losses.png`` of a stage 2 run."""
    history = run.history()
    with _figure(run, "losses", 5, 3.4) as figure:
        lines = {"train_loss": ("train (augmented, smoothed)", FADED), "val_loss": ("validation", INK)}
        _lines(figure.subplots(), history, lines, "Cross entropy of the token", "nats")
    with _figure(run, "accuracy", 9, 3.4) as figure:
        for axes, top in zip(figure.subplots(1, 2), ("top1", "top5"), strict=True):
            lines = {f"train_{top}": ("train", FADED), f"val_{top}": ("validation, quality ok", INK),
                     f"val_all_{top}": ("validation, all", PPG)}  # fmt: skip
            _lines(axes, history, lines, f"Token named among the best {top[-1]}", "share of patches")
            axes.set_ylim(bottom=0)
