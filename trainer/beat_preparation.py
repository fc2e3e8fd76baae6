"""All beats of a data folder, cut once and kept in a cache, with a report of what beat-aligned cutting loses."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from edge import beats
from firmware_bridge.errors import BadInput
from trainer import alignment, beat_patches, pulse_cutter, ranks
from trainer.beat_patches import BeatConfig, BeatWindows, RecordingBeats, WaveOnly, cut_beats, saved_beat_config
from trainer.gating import Verdict
from trainer.preparation import cache_key
from trainer.recordings import Listing, find_recordings
from trainer.stage2 import Augmentation
from trainer.stages import DataChoice, Prepared, prepare
from trainer.windows import saved_config

ARRAYS = ("ppg_hops", "ecg_hops", "first", "start", "recording", "verdict", "seconds", "owner")
COUNTS = ("r_peaks", "pulses", "consecutive", "paired", "in_windows")


@dataclass(frozen=True)
class PreparedBeats(Prepared):
    """:class:`trainer.stages.Prepared` with beats for patches. ``losses``: by data set, heartbeats in the ECG, pulses
    found, pulses that follow on another, pulses with their heartbeat, and those of them in some ``ok`` window."""

    losses: dict[str, dict[str, int]] = field(default_factory=dict)

    def phases(self, count: int) -> list[int]:
        """Beats begin where they begin: one cut, however many are asked for."""
        return [0]

    def augmented(self, augmentation: Augmentation) -> Callable[[Tensor], Tensor]:
        """``augmentation`` of the wave, not of its tempo."""
        return WaveOnly(augmentation)

    def cut_as(self, saved: object) -> bool:
        """Whether a run folder's ``windows`` say that its windows were cut as these."""
        return saved_beat_config(saved) == self.config

    def describe(self) -> dict[str, Any]:
        """What a run folder records of its data."""
        return {**super().describe(), "beats": self.losses}


def _key(listing: Listing, config: BeatConfig) -> str:
    whole = [cache_key(listing, config.windows), config.to_dict()]
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode())
    for module in (alignment, beat_patches, pulse_cutter, beats):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


def _count(parts: list[RecordingBeats], listing: Listing, config: BeatConfig) -> dict[str, dict[str, int]]:
    losses: dict[str, Counter[str]] = {}
    for recording, found in zip(listing.recordings, parts, strict=True):
        learned = np.zeros(len(found.ppg), dtype=bool)
        for start in found.starts[found.verdicts == Verdict.OK]:
            learned[start : start + config.beats] = True
        figures = (found.r_peaks, len(found.ppg), found.follows.sum(), found.paired.sum(), learned.sum())
        counter = losses.setdefault(recording.dataset, Counter())
        counter.update({name: int(value) for name, value in zip(COUNTS, figures, strict=True)})
    return {dataset: dict(counter) for dataset, counter in sorted(losses.items())}


def _cut_all(listing: Listing, config: BeatConfig, console: Console) -> tuple[BeatWindows, dict[str, dict[str, int]]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        console.print(f"cutting the beats of {len(listing.recordings)} recordings (once; a minute or two)")
        parts = [cut_beats(r, config) for r in progress.track(listing.recordings, description="cutting beats")]
    counts = [len(part.ppg) for part in parts]
    rows = np.cumsum([0, *counts])
    start = np.concatenate([part.starts for part in parts])
    recording = np.repeat(np.arange(len(parts)), [len(part.starts) for part in parts])
    windows = BeatWindows(
        ppg_hops=np.concatenate([part.ppg for part in parts]),
        ecg_hops=np.concatenate([part.ecg for part in parts]),
        hops=config.beats,
        first=start + rows[recording],
        start=start,
        recording=recording,
        verdict=np.concatenate([part.verdicts for part in parts]),
        recordings=[
            {"dataset": r.dataset, "group": r.group, "name": r.name, "patient": r.patient} for r in listing.recordings
        ],
        seconds=np.concatenate([part.seconds for part in parts]),
        owner=np.repeat(np.arange(len(parts)), counts),
    )
    return windows, _count(parts, listing, config)


def _save(windows: BeatWindows, losses: dict[str, dict[str, int]], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps({"hops": windows.hops, "recordings": windows.recordings, "losses": losses})
    temporary = file.with_name(f".{file.name}.{os.getpid()}.unfinished")
    with temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, about=np.array(about), **{name: getattr(windows, name) for name in ARRAYS})
    os.replace(temporary, file)  # whole or not at all


def _load(file: Path) -> tuple[BeatWindows, dict[str, dict[str, int]]]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
            about = json.loads(str(saved["about"]))
            arrays = {name: saved[name] for name in ARRAYS}
        return BeatWindows(hops=about["hops"], recordings=about["recordings"], **arrays), about["losses"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise BadInput(f"cache {file}: cannot be read ({error}); delete that file") from None


def _report(prepared: PreparedBeats, console: Console) -> None:
    title = f"windows of {prepared.windows.hops} beats"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("data set", no_wrap=True)
    headings = ("heartbeats\nin the ECG", "pulses", "following\nanother", "with their\nheartbeat", "learned\nfrom")
    for column in (*headings, "ok windows"):
        table.add_column(column, justify="right")
    datasets = np.array([r["dataset"] for r in prepared.windows.recordings])[prepared.windows.recording]
    for dataset, losses in prepared.losses.items():
        ok = int((prepared.windows.ok & (datasets == dataset)).sum())
        table.add_row(dataset, *(f"{losses[name]:,}" for name in COUNTS), f"{ok:,}")
    console.print(table)


def prepare_beats(choice: DataChoice, console: Console, config: BeatConfig | None = None) -> PreparedBeats:
    """Windows of beats of every recording of ``choice``, from the cache or cut now, and a report of what was lost.

    Raises :class:`BadInput` where the folder or a recording cannot be used.
    """
    config = config or BeatConfig()
    listing = find_recordings(choice.data)
    file = choice.cache / f"beats-{_key(listing, config)}.npz"
    with ranks.first_first():
        if not file.exists():
            windows, losses = _cut_all(listing, config, console)
            try:
                _save(windows, losses, file)
            except OSError as error:
                raise BadInput(
                    f"cache {choice.cache}: cannot be written ({error.strerror}); give --cache DIR"
                ) from None
    windows, losses = _load(file)
    prepared = PreparedBeats(config, windows, choice.limit, choice.excluded, losses)
    _report(prepared, console)
    return prepared


def prepare_as(saved: object, choice: DataChoice, console: Console) -> Prepared:
    """Windows cut as a run folder's ``windows`` say: beats if they are a :class:`BeatConfig`'s, else fixed patches."""
    beat_config = saved_beat_config(saved)
    if beat_config is not None:
        return prepare_beats(choice, console, beat_config)
    return prepare(choice, console, saved_config(saved))
