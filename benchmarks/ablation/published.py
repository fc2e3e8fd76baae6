"""``pulsecode bench published``: the faults of the published CM-SSL code as switches, and what each costs.

What they are is told in the design notes this project started from: stage 2 builds its tokenizer without the trained
projection and loads it with ``strict=False``; the schedule's step is commented out, so that the rate stays at 1e-5;
the codebook starts at random and dead codes stay dead; windows, not people, are split.
"""

from collections.abc import Sequence

from benchmarks.ablation.budget import Budget
from benchmarks.ablation.table import Line, verdict
from benchmarks.ablation.variants import BASE, Variant
from benchmarks.machine import describe

FROZEN = {"lr": 1e-5, "warmup": 0, "final_share": 1.0}
NO_REVIVAL = {"quantizer": {"kmeans_start": False, "revival": False}}

FAULTS: tuple[Variant, ...] = (
    BASE,
    Variant("as published", "projection left out", tampered=True),
    Variant("as published", "learning rate stays at 1e-5", fit1=FROZEN, fit2=FROZEN),
    Variant("as published", "codebook from random, no revival", tokenizer=NO_REVIVAL),
    Variant("as published", "split by segment", by_segment=True),
    Variant(
        "as published", "all of it", tampered=True, by_segment=True, tokenizer=NO_REVIVAL, fit1=FROZEN, fit2=FROZEN
    ),
)

HEAD = (
    "| fault | tokens taught that are stage 1's | codes used (perplexity) | PPG R² | bit/s | heart rate, bpm | "
    "against the repaired | what its own validation showed | AF, windows |\n|" + "---|" * 9
)


def markdown(found: Sequence[Line], budget: Budget) -> str:
    """The table, Markdown."""
    seeds = sorted({seed for line in found for seed in line.seeds})
    out = [
        "# As published, and repaired", "",
        f"Each fault of the published CM-SSL code, alone and all together, put back into ours. Every row: {budget}; "
        f"seeds {', '.join(map(str, seeds))} (mean, and least–most). Judged on validation people against stage 1's "
        "true tokens; *what its own validation showed* is what a split by segment would have reported instead.", "",
        HEAD,
    ]  # fmt: skip
    for line in found:
        name = "none: repaired" if line.variant == BASE else line.variant.name
        apparent = "the same"
        if "apparent top1" in line.values:
            apparent = f"{line.mean('apparent bits per second'):.2f} bit/s, {line.mean('apparent rate error'):.2f} bpm"
        cells = [
            name, f"{100 * line.mean('agreement'):.1f} %",
            f"{100 * line.mean('stage 1 val_usage'):.0f} % ({line.mean('stage 1 val_perplexity'):.0f})",
            line.shown("stage 1 val_ppg_r2", 2), line.shown("bits per second", 2), line.shown("rate error", 2),
            verdict(line.rate_change), apparent, line.shown("AF window AUROC"),
        ]  # fmt: skip
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join([*out, "", f"On {describe()}."]) + "\n"
