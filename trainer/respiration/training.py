"""Learns the device's respiratory rate from BIDMC's annotated breaths, and judges it.

Three judgements: by folds of people over all of BIDMC (the method); the model that ships, fitted on BIDMC's train and
validation people, on its test people; and that model on MIMIC PERform AF, of which nothing was learned, against what
its own respiration channel tells.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edge.bundle import LogisticModel, RespirationModel
from edge.respiration import SECONDS
from firmware_bridge.errors import BadInput
from trainer.heads.run_file import HEADS, load_heads
from trainer.protocols.recorded import recordings_of
from trainer.recordings import F64, Recording
from trainer.respiration.baseline import neurokit_rates
from trainer.respiration.data import Breathing, breathing
from trainer.respiration.fit import (
    DRIFT,
    FOLDS,
    MAX_ERROR,
    Estimates,
    Rows,
    estimates,
    filtered,
    fit_network,
    follow,
    learnable_rows,
    out_of_fold_scores,
    person_folds,
    scores_of,
)
from trainer.respiration.judge import Table, reliability, simple_methods, table, valid_rates
from trainer.respiration.reference import annotated_rates, channel_rates
from trainer.splits import part_of
from trainer.windows import WindowConfig

DATASET, OTHER = "bidmc", "mimic_perform_af"
ALONE, FOLLOWED, VALID = "learned, each window alone", "learned, followed through time", "the same, where valid"


@dataclass(frozen=True)
class Material:
    """``windows``: BIDMC's, with those at other speeds of time; ``other``: PERform's, None where there are none;
    ``library``: NeuroKit2's rates of both, without those at other speeds."""

    windows: Breathing
    other: Breathing | None
    library: F64
    library_other: F64


@dataclass(frozen=True)
class OutOfFold:
    """BIDMC's windows as recorded, by models fitted and settings chosen on other people: ``alone``: rates (n,) of each
    window by itself; ``told``: what the device would say."""

    windows: Breathing
    alone: F64
    told: Estimates


def quality_model(heads: Path | None) -> LogisticModel | None:
    """The device's quality model of a heads run, None without one."""
    return load_heads(heads).quality if heads is not None and (heads / HEADS).exists() else None


def read_material(
    data: Path, cache: Path, quality: LogisticModel | None, console: Console, people: int | None = None
) -> Material:
    """All windows, of the first ``people`` people of each data set (None: all); raises :class:`BadInput`."""
    config = WindowConfig()
    annotated = recordings_of(data, DATASET, people)
    others = recordings_of(data, OTHER, people) if (data / OTHER).is_dir() else []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("respiration: reading", total=len(annotated) + len(others))

        def advance() -> None:
            progress.advance(bar)

        windows = breathing(annotated, config, quality, cache, annotated_rates, scaled=True, advance=advance)
        other = None
        if others:
            other = breathing(others, config, quality, cache, channel_rates, scaled=False, advance=advance)
        library = _library(annotated, windows.take(windows.scale == 1))
        library_other = _library(others, other) if other is not None else np.zeros(0)
    return Material(windows, other if other is not None and len(other) else None, library, library_other)


def _library(recordings: list[Recording], windows: Breathing) -> F64:
    rates = np.full(len(windows), np.nan)
    for recording in recordings:
        rows = windows.records == recording.name
        if rows.any():
            rates[rows] = neurokit_rates(recording, windows.ends[rows], SECONDS)
    return rates


def out_of_fold(windows: Breathing, folds: list[Rows]) -> OutOfFold:
    """Every person judged by a network and settings that come from the people of other folds."""
    scores = out_of_fold_scores(windows, learnable_rows(windows), folds)
    real = windows.scale == 1
    windows, scores = windows.take(real), scores[real]
    filtering = filtered(scores, windows)
    rates, errors = np.full((2, len(windows)), np.nan)
    for fold in folds:
        mine = fold[real]
        best, reach = filtering.choose(windows, ~mine)
        rates[mine], errors[mine] = filtering.rates[best][mine], reach * filtering.widths[best][mine]
    return OutOfFold(windows, follow(scores, windows, None)[0], Estimates(rates, errors))


def fit_respiration(windows: Breathing, folds: int = FOLDS) -> RespirationModel:
    """The model from all of ``windows``' people: the network from all, settings from out-of-fold scores."""
    parts = person_folds(windows.people, folds)
    learnable = learnable_rows(windows)
    scores = out_of_fold_scores(windows, learnable, parts)
    real = windows.scale == 1
    seen = windows.take(real)
    filtering = filtered(scores[real], seen)
    best, reach = filtering.choose(seen, np.ones(len(seen), bool))
    evidence, leak = filtering.settings[best]
    return replace(
        fit_network(windows.take(learnable)),
        evidence=evidence, drift=DRIFT, leak=leak, reach=round(reach, 4), max_error=MAX_ERROR,
        calibrated_on=f"BIDMC, {len(np.unique(windows.people))} people",
    )  # fmt: skip


def shipping_people(windows: Breathing) -> Rows:
    """Whom the model that ships learns from: all but the test part."""
    return np.array([part_of(*person.split("/", 1)) != "test" for person in windows.people.tolist()], bool)


def _methods(windows: Breathing, library: F64, usual: F64, alone: F64, told: Estimates) -> dict[str, F64]:
    return {
        "always the others' median": usual,
        "NeuroKit2, breaths in the baseline": library,
        **simple_methods(windows),
        ALONE: alone,
        FOLLOWED: told.rates,
        VALID: valid_rates(told, windows, MAX_ERROR),
    }


def _usual(windows: Breathing, groups: list[Rows]) -> F64:
    """For each group the median rate of everybody else."""
    usual = np.full(len(windows), np.nan)
    for group in groups:
        usual[group] = np.nanmedian(windows.rates[~group])
    return usual


def judge_folds(material: Material, folds: int) -> tuple[Table, list[tuple[float, float, int]]]:
    """The method over all of BIDMC's people, and how reliable its stated errors are."""
    parts = person_folds(material.windows.people, folds)
    found = out_of_fold(material.windows, parts)
    windows = found.windows
    judged = np.isfinite(windows.rates)
    groups = [part[material.windows.scale == 1] for part in parts]
    methods = _methods(windows, material.library, _usual(windows, groups), found.alone, found.told)
    title = f"BIDMC, all people, by {len(parts)} folds of people"
    return table(title, methods, windows, judged), reliability(found.told, windows, judged)


def judge_model(
    model: RespirationModel, windows: Breathing, library: F64, title: str, usual: float
) -> tuple[Table, list[tuple[float, float, int]]]:
    """One model on people it was not fitted on; ``usual``: the rate of those it was."""
    told = estimates(model, windows)
    alone = follow(scores_of(model, windows), windows, None)[0]
    judged = np.isfinite(windows.rates)
    methods = _methods(windows, library, np.full(len(windows), usual), alone, told)
    return table(title, methods, windows, judged), reliability(told, windows, judged)


Judged = tuple[list[Table], dict[str, list[tuple[float, float, int]]]]


def judge_all(model: RespirationModel, material: Material, folds: int) -> Judged:
    """The three tables (those there are people for) and the stated errors' reliability, by table title."""
    windows = material.windows.take(material.windows.scale == 1)
    usual = float(np.nanmedian(windows.rates[shipping_people(windows)]))
    found = [judge_folds(material, folds)]
    test = ~shipping_people(windows)
    if np.isfinite(windows.rates[test]).any():
        title = "BIDMC, test people, the model that ships"
        found.append(judge_model(model, windows.take(test), material.library[test], title, usual))
    if material.other is not None and np.isfinite(material.other.rates).any():
        title = "MIMIC PERform AF, the model that ships, against the respiration channel"
        found.append(judge_model(model, material.other, material.library_other, title, usual))
    return [one for one, _ in found], {one.title: stated for one, stated in found}


def remarks() -> list[str]:
    """What has to be said of the tables."""
    return [
        f"Windows of {SECONDS:g} s, one every 4 s, cut by the device's own code. BIDMC's reference is the mean of the "
        "two annotators' rates (60 over the mean breath interval) where they lie within 2 /min; PERform's is what its "
        "impedance channel tells where counting and spectrum agree within 2 /min.",
        "The last two rows use what was seen before the window as well, as the device does; all others see the window "
        "alone. A coverage below 100 % is the share of windows for which a method gives a rate. Published figures "
        "(CM-SSL 2.35 and 2.59 /min) come from other windows and another split: never one axis.",
    ]


def needs_people(windows: Breathing, folds: int) -> None:
    """Raise :class:`BadInput` where there are too few people to learn from and to judge."""
    shipping = np.unique(windows.people[shipping_people(windows)])
    if len(shipping) < max(2, folds):
        raise BadInput(
            f"respiration: {len(shipping)} people of {DATASET} to learn from are too few for {folds} folds; "
            "give fewer --folds or more recordings"
        )
