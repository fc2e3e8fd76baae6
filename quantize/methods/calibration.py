"""Which training windows the static ranges are found on: every rhythm and every quality, each with a voice."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from quantize.streams import Streams, streams_of
from trainer.gating import r_peaks
from trainer.windows import Windows

RHYTHMS = ("steady", "between", "irregular", "unknown")
BEATS = 5  # a window with fewer tells nothing of its rhythm
POOR_SHARE = 0.1
CANDIDATES = 4  # times as many windows are looked at as are taken


def irregularity(ecg: NDArray[np.float32], rate: float) -> float:
    """nRMSSD of one window's R-R intervals, (hops, hop) of ECG at ``rate`` Hz; NaN with fewer than five beats.

    Whether a person is in AF is only known of people who are held out, so this stands for it.
    """
    intervals = np.diff(r_peaks(ecg.ravel(), rate)) / rate
    if len(intervals) < BEATS - 1:
        return float("nan")
    return float(np.sqrt(np.mean(np.square(np.diff(intervals)))) / intervals.mean())


def strata(windows: Windows, rate: float) -> NDArray[np.str_]:
    """``rhythm/quality`` of each window: its irregularity's third, and whether the quality gate passed it.

    Thirds, since the share of irregular rhythm differs from data set to data set.
    """
    values = np.array([irregularity(window, rate) for window in windows.ecg])
    known = np.isfinite(values)
    thirds = np.quantile(values[known], [1 / 3, 2 / 3]) if known.any() else np.zeros(2)
    rhythm = np.where(known, np.searchsorted(thirds, values), len(RHYTHMS) - 1)
    return np.array([f"{RHYTHMS[i]}/{'ok' if ok else 'poor'}" for i, ok in zip(rhythm, windows.ok, strict=True)])


def balanced(labels: NDArray[np.str_], limit: int) -> NDArray[np.int64]:
    """Up to ``limit`` places, sorted: the labels take turns, and each gives its places spread evenly."""
    queues = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        share = min(len(places), limit)
        queues.append(list(places[np.linspace(0, len(places) - 1, share).round().astype(np.int64)]))
    quota = dict.fromkeys(range(len(queues)), 0)
    while sum(quota.values()) < limit and any(quota[i] < len(queue) for i, queue in enumerate(queues)):
        open_ones = [i for i, queue in enumerate(queues) if quota[i] < len(queue)]
        for i in open_ones[: limit - sum(quota.values())]:
            quota[i] += 1
    taken = [
        queue[j]
        for i, queue in enumerate(queues)
        for j in np.unique(np.linspace(0, len(queue) - 1, quota[i]).round().astype(np.int64))
    ]
    return np.sort(np.array(taken, dtype=np.int64))


def calibration_streams(windows: Windows, signal: Signal, *, warm: int, limit: int, rate: float) -> Streams:
    """Up to ``limit`` windows of training people with the ``warm`` hops before each, equally many of every rhythm as
    far as there are; a stream's group is its stratum. Raises :class:`BadInput` if there is none.

    Windows that the gate refused are in it too, unless samples are missing: a device meets them. But few: its tokens
    are not believed there, and ranges wide enough for noise are too coarse for a pulse.
    """
    found = windows.part("train", gated=False)
    found = found.take(np.flatnonzero(found.start >= warm))
    if not len(found):
        raise BadInput(
            f"data: no {signal.upper()} window of a training person; "
            "give a --data folder with the recordings that the run was made from"
        )
    spread = np.unique(np.linspace(0, len(found) - 1, CANDIDATES * limit).round().astype(np.int64))
    found = found.take(spread)
    labels = strata(found, rate)
    readable, poor = np.flatnonzero(found.ok), np.flatnonzero(~found.ok)
    poor = poor[balanced(labels[poor], round(POOR_SHARE * limit))]
    readable = readable[balanced(labels[readable], limit - len(poor))]
    chosen = np.sort(np.concatenate([readable, poor]))
    return replace(streams_of(found.take(chosen), signal, warm=warm), groups=labels[chosen])
