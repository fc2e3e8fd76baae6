"""All rows, one after the other, resumable: a row that is there is not run again."""

import time
from pathlib import Path

from rich.console import Console

from benchmarks.ablation.budget import Budget
from benchmarks.ablation.claim import claim
from benchmarks.ablation.measure import Row, measure
from benchmarks.ablation.recipes import measure_beats, measure_single_stage
from benchmarks.ablation.variants import Variant
from firmware_bridge.errors import BadInput
from trainer.stages import DataChoice

MEASURES = {"two stages": measure, "beats": measure_beats, "one stage": measure_single_stage}


def run_all(
    variants: list[Variant], seeds: list[int], budget: Budget, choice: DataChoice, runs: Path, console: Console
) -> list[Row]:
    """Rows of all ``variants`` with all ``seeds``: seed by seed, so that a stopped run has whole tables of fewer
    seeds. Raises :class:`BadInput` if ``runs`` holds rows of another budget."""
    rows = []
    todo = [(seed, variant) for seed in seeds for variant in variants]
    for done, (seed, variant) in enumerate(todo, 1):
        folder = runs / f"{variant.slug}-s{seed}"
        if not (folder / "row.json").exists() and not claim(folder):
            continue
        start = time.monotonic()
        row = MEASURES[variant.method](variant, seed, budget, choice, runs, Console(quiet=True))
        (folder / "running").unlink(missing_ok=True)
        if row.budget != budget.to_dict():
            raise BadInput(f"ablation {folder}: was run with another budget ({row.budget}); give another --runs")
        rows.append(row)
        console.print(
            f"[{done}/{len(todo)}] {variant.question}: {variant.name}, seed {seed}: top-1 {row.figures['top1']:.3f}, "
            f"{row.figures['bits']:.2f} bit, rate error {row.figures['rate error']:.2f} bpm, "
            f"AF {row.figures.get('AF window AUROC', float('nan')):.3f} ({time.monotonic() - start:.0f} s)",
            soft_wrap=True,
        )
    return rows
