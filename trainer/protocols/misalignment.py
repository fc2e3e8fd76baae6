"""`pulsecode evaluate misalignment`: what is a student's accuracy worth when its teacher's two signals are out of step?

The ECG of test people is shifted against their PPG by up to half a second either way, or drifts away from it as a
wrong clock would let it; the teacher labels these pairs as they are and again after the estimated alignment
(:mod:`trainer.alignment`), which knows nothing of the shift; the student, whose own signal tells nothing of it, is
judged by these labels. All points are about the same windows, those that the quality gate passed before any shift.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from firmware_bridge.errors import BadInput
from trainer.alignment import delayed, estimate_delay
from trainer.bootstrap import Interval
from trainer.preparation import prepare_windows
from trainer.progress import progress_bar
from trainer.protocols.taught import Taught, pooled
from trainer.quantizers import perplexity
from trainer.recordings import F64, Recording, find_recordings
from trainer.stage2 import IGNORED
from trainer.stages import DataChoice
from trainer.windows import F32, Patches, WindowConfig, run_frontend, to_grid

SHIFTS = tuple(step / 10 for step in range(-5, 6))  # s; positive: the ECG comes later than recorded
DRIFTS = (200.0, 1000.0)  # ppm: a cheap quartz, and a device that lies about its rate


@dataclass(frozen=True)
class Disorder:
    """A shift of the ECG, s, and by how much it grows as time goes on (ppm of the time since the start)."""

    shift: float = 0.0
    drift: float = 0.0

    def lag(self, samples: int, rate: float) -> F64:
        """How many samples later the ECG comes, at each of ``samples`` samples."""
        return np.asarray(self.shift * rate + self.drift * 1e-6 * np.arange(samples))


DISORDERS = (*(Disorder(shift) for shift in SHIFTS), *(Disorder(drift=ppm) for ppm in DRIFTS))


@dataclass(frozen=True)
class Point:
    """One student and its teacher under one disorder. ``aligned``: the teacher saw estimated alignment. ``top1``,
    ``top5``: the student's accuracy by those labels. ``kept``: share of hops whose token is what the teacher says
    without any shift. ``perplexity`` of the labels: few tokens are easily guessed."""

    run: str
    aligned: bool
    shift: float
    drift: float
    top1: Interval
    top5: Interval
    kept: Interval
    perplexity: float


@dataclass(frozen=True)
class Misalignment:
    """``trained_aligned``: for each run, whether its teacher was trained on aligned pairs. ``recovered``: share of
    test recordings' blocks where the estimated delay changed by what the ECG was shifted, to 20 ms (by shift, s)."""

    windows: int
    people: int
    trained_aligned: dict[str, bool]
    recovered: dict[str, float]
    points: list[Point]


@dataclass
class _Tally:
    """Window by window: hits of the first and of the first five, tokens kept, labelled hops; and the labels' counts."""

    rows: list[NDArray[np.float64]]
    counts: torch.Tensor


_Tallies = dict[tuple[int, bool, Disorder], _Tally]  # by place of the run, whether aligned, and disorder


@dataclass(frozen=True)
class _Paired:
    """One recording's ECG patches under one disorder, as they are and aligned, and by how much the delay moved."""

    disorder: Disorder
    plain: Patches
    aligned: Patches
    moved: F64  # s, in the blocks believed with and without the shift, less the shift itself


def _disordered(ppg: Patches, ecg: F64, config: WindowConfig) -> Iterator[_Paired]:
    """The ECG ``ecg`` (n,) beside its PPG under every disorder, the undisturbed one first."""
    still = None
    index = np.arange(len(ecg))
    for disorder in (Disorder(), *(d for d in DISORDERS if d != Disorder())):
        lag = disorder.lag(len(ecg), config.rate)
        shifted = delayed(ecg, lag) if lag.any() else ecg
        plain = run_frontend(shifted, config, "ecg")
        track = estimate_delay(ppg.patches.ravel(), plain.patches.ravel(), config.rate)
        still = still or track
        both = track.believed & still.believed
        moved = still.delay - track.delay - np.interp(track.time * config.rate, index, lag) / config.rate
        aligned = run_frontend(delayed(shifted, track.at(index / config.rate) * config.rate), config, "ecg")
        yield _Paired(disorder, plain, aligned, moved[both])


def _whole(patches: Patches, starts: NDArray[np.int64], hops: int) -> NDArray[np.bool_]:
    return np.array([patches.valid[start : start + hops].all() for start in starts], dtype=bool)


def _gather(patches: Patches, starts: NDArray[np.int64], hops: int) -> F32:
    return np.asarray(patches.patches[starts[:, None] + np.arange(hops)])


def _judge_recording(
    taught: list[Taught],
    recording: Recording,
    starts: NDArray[np.int64],
    tallies: _Tallies,
    moves: dict[Disorder, list[F64]],
) -> int:
    """Add one recording's windows to ``tallies``; how many of them are whole under every disorder."""
    config = taught[0].unpaired
    ppg, ecg = (to_grid(channel, recording.rate, config.rate) for channel in recording.read())
    wave = run_frontend(ppg, config, "ppg")
    pairs = list(_disordered(wave, ecg, config))
    for pair in pairs:
        moves[pair.disorder].append(pair.moved)
        starts = starts[_whole(pair.plain, starts, config.hops) & _whole(pair.aligned, starts, config.hops)]
    if not len(starts):
        return 0
    beside = _gather(wave, starts, config.hops)
    for number, one in enumerate(taught):
        said = None
        for aligned in (False, True):
            undisturbed = None
            for pair in pairs:
                ecg_patches = _gather(pair.aligned if aligned else pair.plain, starts, config.hops)
                labels = one.labels(beside, ecg_patches)
                undisturbed = labels if undisturbed is None else undisturbed
                if one.signal == "ecg" or said is None:
                    said = one.scores(beside if one.signal == "ppg" else ecg_patches).topk(5, dim=-1).indices
                hits = said == labels[..., None]
                known = labels != IGNORED
                row = (hits[..., 0], hits.any(-1), (labels == undisturbed) & known, known)
                tally = tallies[number, aligned, pair.disorder]
                tally.rows.append(torch.stack([part.double().sum(1) for part in row], 1).numpy())
                tally.counts += torch.bincount(labels[known], minlength=len(tally.counts))
    return len(starts)


def measure_misalignment(
    taught: list[Taught], choice: DataChoice, people: int | None, console: Console
) -> Misalignment:
    """Every student under every disorder, on at most ``people`` test people; raises :class:`BadInput`."""
    config = taught[0].unpaired
    windows = prepare_windows(choice.data, config, choice.cache, console)
    recordings = find_recordings(choice.data).recordings
    chosen = windows.part("test")
    names = np.unique(chosen.patients)
    if not len(names):
        raise BadInput(f"data folder {choice.data}: no usable window in the test part; give more recordings")
    if people is not None and people < len(names):
        names = names[np.linspace(0, len(names) - 1, people).round().astype(int)]
    chosen = chosen.take(np.flatnonzero(np.isin(chosen.patients, names)))
    tallies = {
        (number, aligned, disorder): _Tally([], torch.zeros(one.tokenizer.config.quantizer.size, dtype=torch.int64))
        for number, one in enumerate(taught)
        for aligned in (False, True)
        for disorder in DISORDERS
    }
    moves: dict[Disorder, list[F64]] = {disorder: [] for disorder in DISORDERS}
    who: list[str] = []
    used = np.unique(chosen.recording)
    with progress_bar(console) as progress:
        for index in progress.track(used, description="shifting the test people's ECG"):
            recording = recordings[index]
            starts = chosen.start[chosen.recording == index].astype(np.int64)
            count = _judge_recording(taught, recording, starts, tallies, moves)
            who += [f"{recording.dataset}/{recording.patient}"] * count
    if not who:
        raise BadInput(f"data folder {choice.data}: no test window stays whole when its ECG is shifted; give more")
    points = []
    persons = np.array(who)
    for (number, aligned, disorder), tally in tallies.items():
        *hits, hops = np.concatenate(tally.rows).T
        top1, top5, kept = (pooled(part, hops, persons) for part in hits)
        label = taught[number].label
        points.append(Point(label, aligned, disorder.shift, disorder.drift, top1, top5, kept, perplexity(tally.counts)))
    return Misalignment(
        len(persons),
        len(np.unique(persons)),
        {one.label: one.windows.align for one in taught},
        {_name(disorder): _within(np.concatenate(moved)) for disorder, moved in moves.items()},
        points,
    )


def _name(disorder: Disorder) -> str:
    return f"drift {disorder.drift:g} ppm" if disorder.drift else f"{disorder.shift * 1000:+.0f} ms"


def _within(moved: F64) -> float:
    return float((np.abs(moved) <= 0.02).mean()) if len(moved) else float("nan")


def show_misalignment(found: Misalignment, console: Console) -> None:
    """A table: the student's accuracy by labels made from shifted pairs, as they are and after alignment."""
    title = f"shifted ECG ({found.windows:,} windows, {found.people} test people; 95 % interval over people)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("run", "pairs", "ECG later"):
        table.add_column(column)
    for column in ("top-1", "top-5", "tokens\nkept", "perplexity", "delay\nfound"):
        table.add_column(column, justify="right", no_wrap=True)
    for point in found.points:
        name = _name(Disorder(point.shift, point.drift))
        shares = (_cell(value) for value in (point.top1, point.top5, point.kept))
        pairs, recovered = ("aligned", f"{found.recovered[name]:.0%}") if point.aligned else ("as they are", "")
        table.add_row(point.run, pairs, name, *shares, f"{point.perplexity:.0f}", recovered)
    console.print(table)


def _cell(value: Interval) -> str:
    return f"{value.value:.3f}\n{value.low:.2f}–{value.high:.2f}"


def write_misalignment(found: Misalignment, out: Path) -> None:
    """``misalignment.json`` and ``misalignment.png`` in the folder ``out``; raises :class:`BadInput`."""
    from trainer.protocols.robustness_plots import plot_misalignment
    from trainer.run_folder import write_json

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "misalignment.json", asdict(found))
        plot_misalignment(found, out / "misalignment.png")
    except OSError as error:
        raise BadInput(f"folder {out}: cannot be written ({error.strerror}); give another --out") from None
