"""`pulsecode evaluate noise`: does the student say the same token when the PPG is disturbed?

Windows of test people that the quality gate passed are disturbed on the raw samples and go through the device's front
end, from 12 s before the window on (filter and gain settle there, under the noise as well). The disturbances come from
a noise bank of the *test* people, so a student trained with noise has not met these either.

SNR of a window: 10 log10 of the mean square of the clean wave over that of the added noise, both behind the front
end's band-pass (before its gain), over the window itself. Noise of one window and kind is the same at every SNR but
for its level, and the same for every run.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.signal import sosfilt

from edge.frontend import Frontend, FrontendConfig
from firmware_bridge.errors import BadInput
from trainer.bootstrap import Interval
from trainer.noise import KINDS, NoiseBank, NoiseMaker
from trainer.noise_bank import noise_bank
from trainer.preparation import prepare_windows
from trainer.progress import progress_bar
from trainer.protocols.taught import Taught, pooled
from trainer.recordings import F64, find_recordings
from trainer.splits import part_of
from trainer.stage2 import IGNORED
from trainer.stages import DataChoice
from trainer.windows import F32, WindowConfig, Windows, to_grid

SNRS = (20.0, 15.0, 10.0, 5.0, 0.0, -5.0)  # dB
BATCH = 128  # windows
LEAD = 30  # hops before a window: 12 s, more than the gain looks back


@dataclass(frozen=True)
class Passages:
    """Test windows with what led up to them. ``raw`` ((n, (LEAD + hops) * hop)): PPG on the grid; ``rows``: their
    places in the prepared windows; ``names`` and ``people`` of each."""

    raw: F64
    rows: NDArray[np.int64]
    names: list[str]
    people: NDArray[np.str_]


@dataclass(frozen=True)
class Point:
    """One run under one disturbance; shares are of hops. ``snr``: dB, None for the clean wave. ``same``: the likeliest
    token is the clean wave's; ``same_in_5``: the clean wave's is among the five likeliest; ``kl``: divergence of the
    noisy distribution from the clean one, nats a hop; ``accuracy``: the likeliest is the teacher's."""

    run: str
    kind: str
    snr: float | None
    same: Interval
    same_in_5: Interval
    kl: Interval
    accuracy: Interval


@dataclass(frozen=True)
class Stability:
    """All points; ``segments``: artefacts in the test bank; ``sensor_snr``: 10th, 50th and 90th percentile of the SNR
    at which sensor noise was found on test people (dB)."""

    windows: int
    people: int
    hops: int
    segments: int
    sensor_snr: tuple[float, float, float]
    points: list[Point]


def _passages(sets: list[Windows], config: WindowConfig, choice: DataChoice) -> Passages:
    """Windows apart from each other that every one of ``sets`` (same cuts, paired in other ways) finds good."""
    windows = sets[0]
    recordings = find_recordings(choice.data).recordings
    test = np.array([part_of(r.dataset, r.patient) == "test" for r in recordings])
    keep = test[windows.recording] & (windows.start % windows.hops == 0) & (windows.start >= LEAD)
    keep &= np.logical_and.reduce([one.ok for one in sets])
    raw, rows = [], []
    for index in np.flatnonzero(np.bincount(windows.recording[keep], minlength=len(recordings))):
        recording = recordings[index]
        ppg = to_grid(recording.read()[0], recording.rate, config.rate)
        for row in np.flatnonzero(keep & (windows.recording == index)):
            start = int(windows.start[row])
            piece = ppg[(start - LEAD) * config.hop : (start + config.hops) * config.hop]
            if np.isfinite(piece).all():
                raw.append(piece)
                rows.append(row)
    if not rows:
        raise BadInput(f"data folder {choice.data}: no usable window in the test part; give more recordings")
    chosen = np.arange(len(rows))
    if choice.limit is not None and len(rows) > choice.limit:
        chosen = np.linspace(0, len(rows) - 1, choice.limit).round().astype(np.int64)
    place = np.array(rows)[chosen]
    names = [f"{recordings[windows.recording[row]].name}@{windows.start[row]}" for row in place]
    return Passages(np.stack(raw)[chosen], place, names, windows.take(place).patients)


def through_frontend(raw: F64, config: FrontendConfig) -> F32:
    """Raw passages (n, (LEAD + hops) * hop) → patches behind the device's front end, LEAD left out: (n, hops, hop)."""
    frontend = Frontend(config)
    patches = []
    for passage in raw:
        state = frontend.start()
        hops = [frontend.step(state, hop)[1] for hop in passage.reshape(-1, config.hop)]
        patches.append(np.stack(hops[LEAD:]))
    return np.stack(patches)


def disturbance(passages: Passages, kind: str, bank: NoiseBank, config: FrontendConfig) -> F64:
    """Raw noise for each passage at an SNR of 0 dB; same shape as ``passages.raw``."""
    maker, sos = NoiseMaker(bank), np.array(config.sos)
    noise = np.empty_like(passages.raw)
    for i, name in enumerate(passages.names):
        seed = int.from_bytes(hashlib.sha256(f"{name}/{kind}".encode()).digest()[:4], "big")
        drawn = maker.draw(kind, 1, passages.raw.shape[1], torch.Generator().manual_seed(seed))[0]
        noise[i] = drawn.numpy().astype(np.float64)
    own = slice(LEAD * config.hop, None)

    def power(raw: F64) -> F64:
        return np.asarray((sosfilt(sos, raw - raw[:, :1], axis=1)[:, own] ** 2).mean(1, keepdims=True))

    return np.asarray(noise * np.sqrt(power(passages.raw) / np.maximum(power(noise), 1e-30)))


def _point(
    one: Taught, kind: str, snr: float | None, clean: F32, noisy: F32, labels: torch.Tensor, people: NDArray[np.str_]
) -> Point:
    """One run's answer to ``noisy`` patches beside its answer to the ``clean`` ones, batch by batch: the scores of all
    windows over a large codebook would not fit into memory."""
    sums = []
    for start in range(0, len(clean), BATCH):
        some = slice(start, start + BATCH)
        before, after, wanted = one.scores(clean[some]), one.scores(noisy[some]), labels[some]
        token = before.argmax(-1, keepdim=True)
        best = after.topk(min(5, after.shape[-1]), dim=-1).indices
        divergence = (before.exp() * (before - after)).sum(-1)
        known = wanted != IGNORED
        parts = (best[..., 0] == token[..., 0], (best == token).any(-1), divergence, best[..., 0] == wanted)
        sums.append(torch.stack([*((part.double() * known).sum(1) for part in parts), known.double().sum(1)], 1))
    *shares, hops = torch.cat(sums).numpy().T
    return Point(one.label, kind, snr, *(pooled(share, hops, people) for share in shares))


def measure_stability(taught: list[Taught], choice: DataChoice, console: Console) -> Stability:
    """Every run under every kind of noise and SNR; raises :class:`BadInput` where runs or data cannot be used."""
    for one in taught:
        if one.signal != "ppg":
            raise BadInput(f"run {one.label}: is a student of {one.signal}; the noise measured here is that of PPG")
    config = taught[0].unpaired
    sets = {one.windows: prepare_windows(choice.data, one.windows, choice.cache, console) for one in taught}
    passages = _passages(list(sets.values()), config, choice)
    bank = noise_bank(choice.data, config, choice.cache, "test", console)
    frontend = config.frontend("ppg")
    labels = []
    for one in taught:
        own = sets[one.windows].take(passages.rows)
        labels.append(one.labels(own.ppg, own.ecg))
    clean = through_frontend(passages.raw, frontend)

    def judged(kind: str, snr: float | None, noisy: F32) -> list[Point]:
        pairs = zip(taught, labels, strict=True)
        return [_point(one, kind, snr, clean, noisy, wanted, passages.people) for one, wanted in pairs]

    points = judged("clean", None, clean)
    with progress_bar(console) as progress:
        task = progress.add_task("disturbing the test windows", total=len(KINDS) * len(SNRS))
        for kind in KINDS:
            noise = disturbance(passages, kind, bank, frontend)
            for snr in SNRS:
                points += judged(kind, snr, through_frontend(passages.raw + noise * 10 ** (-snr / 20), frontend))
                progress.advance(task)
    low, middle, high = np.percentile(bank.sensor_snr, [10, 50, 90])
    hops = int((labels[0] != IGNORED).sum())
    people = len(np.unique(passages.people))
    return Stability(len(passages.rows), people, hops, len(bank.artefact), (float(low), float(middle), float(high)),
                     points)  # fmt: skip


def show_stability(stability: Stability, console: Console) -> None:
    """A table for each measure: a row for each run and kind of noise, a column for each SNR."""
    console.print(
        f"tokens under noise: {stability.windows:,} windows, {stability.hops:,} hops, {stability.people} test people; "
        "95 % intervals over people",
        soft_wrap=True,
    )
    titles = {"same": "same likeliest token as on the clean wave", "same_in_5": "the clean wave's token in the top 5",
              "kl": "divergence from the clean wave's distribution, nats a hop",
              "accuracy": "likeliest token is the teacher's"}  # fmt: skip
    runs = list(dict.fromkeys(point.run for point in stability.points))
    for measure, title in titles.items():
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in ("run", "noise"):
            table.add_column(column)
        for column in ("clean", *(f"{snr:g} dB" for snr in SNRS)):
            table.add_column(column, justify="right")
        for run in runs:
            for kind in KINDS:
                shown = [p for p in stability.points if p.run == run and p.kind in ("clean", kind)]
                values: list[Interval] = [getattr(point, measure) for point in shown]
                table.add_row(run, kind, *(f"{v.value:.3f}\n{v.low:.2f}–{v.high:.2f}" for v in values))
        console.print(table)
    low, middle, high = stability.sensor_snr
    console.print(
        f"artefacts: {stability.segments} segments of test people; their sensors' own noise lies {middle:.0f} dB below "
        f"the pulse (10th to 90th percentile {low:.0f} to {high:.0f})",
        soft_wrap=True,
    )


def write_stability(stability: Stability, out: Path) -> None:
    """``noise.json`` and ``noise.png`` in the folder ``out``; raises :class:`BadInput`."""
    from trainer.protocols.robustness_plots import plot_stability
    from trainer.run_folder import write_json

    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "noise.json", asdict(stability))
        plot_stability(stability, out / "noise.png")
    except OSError as error:
        raise BadInput(f"folder {out}: cannot be written ({error.strerror}); give another --out") from None
