"""BIDMC (Pimentel et al., IEEE TBME 2017): heart rate in 10 s, respiratory rate in 32 s, from adults in intensive care.

Which windows there are is decided by the reference alone, and by no sample of the pulse wave being missing.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import BadInput
from trainer import gating, windows
from trainer.protocols import ecg_reference, recorded
from trainer.protocols.cache import Arrays, digest, kept
from trainer.protocols.ecg_reference import AGREE_BPM, agreed_rate, lead_rates
from trainer.protocols.recorded import channels, cut_windows, recordings_of, window_starts
from trainer.protocols.setting import Setting
from trainer.protocols.task import F64, I64, Bools, Task
from trainer.recordings import NOT_READABLE, Recording, channel_label
from trainer.splits import part_of
from trainer.windows import WindowConfig, to_grid

DATASET = "bidmc"
ECG_LEADS = ("I", "II", "III", "V", "AVR", "AVL", "AVF", "MCL")
RATE_SECONDS, BREATH_SECONDS = 10.0, 32.0
ANNOTATORS = ("breath", "breathb")
MIN_BREATHS = 3
ANNOTATORS_AGREE = 2.0  # /min
UNSEEN = "test part"  # the people whom no training with these splits has seen
Labels = Callable[[Recording, I64, int, WindowConfig], tuple[F64, F64]]


@dataclass(frozen=True)
class _Bedside:
    """A record's ECG leads, (leads, samples), at ``rate`` Hz, and the monitor's heart rate once a second."""

    leads: F64
    rate: float
    monitor: F64


def _read_bedside(recording: Recording) -> _Bedside:
    import wfdb

    try:
        record: Any = wfdb.rdrecord(str(recording.path))
        numbers: Any = wfdb.rdrecord(f"{recording.path}n")
        labels = [channel_label(name) for name in record.sig_name]
        names = [channel_label(name) for name in numbers.sig_name]
        leads = np.asarray(record.p_signal, np.float64).T[[label in ECG_LEADS for label in labels]]
        return _Bedside(leads, float(record.fs), np.asarray(numbers.p_signal, np.float64)[:, names.index("HR")])
    except NOT_READABLE as error:
        raise BadInput(f"recording {recording.path}: its leads and the monitor's numbers in {recording.name}n "
                       f"cannot be read ({error})") from None  # fmt: skip


def read_breaths(recording: Recording) -> list[F64]:
    """Each annotator's breaths, s."""
    import wfdb

    found = []
    for annotator in ANNOTATORS:
        try:
            marks: Any = wfdb.rdann(str(recording.path), annotator)
        except NOT_READABLE as error:
            raise BadInput(f"annotation {recording.path}.{annotator}: cannot be read ({error})") from None
        found.append(np.asarray(marks.sample, np.float64) / recording.rate)
    return found


def monitor_rate(monitor: F64, starts: F64, seconds: float) -> F64:
    """Median of the monitor's rates (1 Hz; 0 or NaN: none) in ``[start, start + seconds)``, NaN where it has none."""
    windows_of = [monitor[round(s) : round(s + seconds)] for s in starts]
    return np.array([np.median(known) if (known := w[w > 0]).size else np.nan for w in windows_of])


def breath_rates(breaths: F64, starts: F64, seconds: float) -> F64:
    """Breaths a minute from first to last breath in ``[start, start + seconds)``; NaN with fewer than three."""
    rates = np.full(len(starts), np.nan)
    for i, start in enumerate(starts):
        inside = breaths[(breaths >= start) & (breaths < start + seconds)]
        if len(inside) >= MIN_BREATHS:
            rates[i] = 60 * (len(inside) - 1) / (inside[-1] - inside[0])
    return rates


def _heart_labels(recording: Recording, starts: I64, hops: int, config: WindowConfig) -> tuple[F64, F64]:
    """Reference rate (NaN where it cannot be trusted) and the monitor's."""
    bedside = _read_bedside(recording)
    leads = np.stack(
        [lead_rates(to_grid(lead, bedside.rate, config.rate), config, starts, hops) for lead in bedside.leads]
    )
    monitor = monitor_rate(bedside.monitor, starts * config.hop / config.rate, RATE_SECONDS)
    rate, trusted = agreed_rate(leads, monitor)
    return np.where(trusted, rate, np.nan), monitor


def _breath_labels(recording: Recording, starts: I64, hops: int, config: WindowConfig) -> tuple[F64, F64]:
    """Mean of the annotators' rates (NaN where they differ too much) and their difference."""
    seconds = hops * config.hop / config.rate
    one, other = (breath_rates(b, starts * config.hop / config.rate, seconds) for b in read_breaths(recording))
    return np.where(np.abs(one - other) <= ANNOTATORS_AGREE, (one + other) / 2, np.nan), one - other


def _make(recordings: list[Recording], config: WindowConfig, label: Labels, hops: int, stride: int) -> Arrays:
    ppg, ecg, starts, labels, beside, people = [], [], [], [], [], []
    for recording in recordings:
        p, e = channels(recording, config)
        start = window_starts(p, config, hops, stride)
        rate, other = label(recording, start, hops, config)
        ppg.append(p.patches)
        ecg.append(e.patches)
        starts.append(start)
        labels.append(rate)
        beside.append(other)
        people += [f"{DATASET}/{recording.patient}"] * len(start)
    rates = np.concatenate(labels)
    known = np.isfinite(rates)
    return {
        "ppg": cut_windows(ppg, starts, hops)[known],
        "ecg": cut_windows(ecg, starts, hops)[known],
        "labels": rates[known],
        "beside": np.concatenate(beside)[known],
        "people": np.array(people)[known],
        "of": np.array(len(rates)),
    }


def _windows(setting: Setting, label: Labels, seconds: float, stride_seconds: float) -> Arrays:
    config = setting.windows
    hops, stride = (round(s * config.rate / config.hop) for s in (seconds, stride_seconds))
    recordings = recordings_of(setting.data, DATASET, setting.people)
    files = [
        r.path.with_name(r.path.name + end) for r in recordings for end in (".dat", "n.dat", ".breath", ".breathb")
    ]
    code = (gating, windows, recorded, ecg_reference, sys.modules[__name__])
    key = digest(label.__name__, hops, stride, config.to_dict(), [str(r.path) for r in recordings], *files, *code)
    return kept(setting.cache, "bidmc", key, lambda: _make(recordings, config, label, hops, stride))


def _unseen(people: NDArray[np.str_]) -> Bools:
    return np.array([part_of(*person.split("/", 1)) == "test" for person in people.tolist()], dtype=bool)


def _task(name: str, unit: str, found: Arrays, coverage: str) -> Task:
    people = found["people"].astype(np.str_)
    return Task(
        name=name,
        kind="regression",
        ppg=found["ppg"].astype(np.float32),
        ecg=found["ecg"].astype(np.float32),
        labels=found["labels"].astype(np.float64),
        people=people,
        unit=unit,
        subsets={UNSEEN: _unseen(people)},
        coverage=f"{len(people):,} of {int(found['of']):,} windows ({len(people) / int(found['of']):.1%}) that miss no "
        f"sample of the pulse wave and do not lie flat: {coverage}",
    )


def heart_rate(setting: Setting) -> Task:
    """Mean ECG rate in windows of 10 s that do not overlap; raises :class:`BadInput`."""
    found = _windows(setting, _heart_labels, RATE_SECONDS, RATE_SECONDS)
    apart = np.abs(found["labels"].astype(np.float64) - found["beside"].astype(np.float64))
    return _task(
        "BIDMC heart rate, 10 s", "bpm", found,
        f"those whose ECG reference can be trusted (a lead borne out within {AGREE_BPM:.0f} bpm by another lead or "
        f"the monitor, none contradicting); the pulse wave had no say. Reference against the monitor's numerics: "
        f"median {np.nanmedian(apart):.2f} bpm apart, {np.nanmean(apart <= 5):.0%} within 5 bpm (it averages and lags)",
    )  # fmt: skip


def respiratory_rate(setting: Setting) -> Task:
    """Annotators' breaths a minute in windows of 32 s, a new one every 16 s; raises :class:`BadInput`."""
    found = _windows(setting, _breath_labels, BREATH_SECONDS, BREATH_SECONDS / 2)
    return _task(
        "BIDMC respiratory rate, 32 s", "/min", found,
        f"those in which both annotators' rates (60 over their mean breath interval) lie within "
        f"{ANNOTATORS_AGREE:.0f} /min; the label is the mean of the two, which are "
        f"{np.abs(found['beside'].astype(np.float64)).mean():.2f} /min apart on average",
    )  # fmt: skip
