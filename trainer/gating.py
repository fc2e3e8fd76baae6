"""The quality gate: which paired windows are good enough to learn from, and why the others are not.

A pair is believed where both signals are there, move, stay inside the range and tell the same heart rate. Simple
detectors on purpose: two independent organs of measurement that agree are better evidence than one clever index.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


class Verdict(IntEnum):
    """Why a window is left out; the first reason that holds, in this order."""

    OK = 0
    MISSING = 1  # a sample is missing, or the front end has just (re)started
    FLAT = 2
    CLIPPED = 3
    NO_RATE = 4  # fewer than four beats found in one of the signals
    RATES_DISAGREE = 5


@dataclass(frozen=True)
class GateConfig:
    """Limits of the gate. A rate disagreement has to exceed both ``rate_bpm`` and the share ``rate_share``."""

    flat_share: float = 0.10  # of hops in which the raw signal does not change at all
    ppg_clipped: float = 0.05  # of samples at ±clip
    ecg_clipped: float = 0.10  # R peaks alone reach ±clip for up to 5 % of the time
    rate_bpm: float = 5.0
    rate_share: float = 0.10


def pulse_peaks(ppg: F32, rate: float) -> I64:
    """Sample indices of pulse peaks in a normalised PPG, shape ``(n,)`` (units of its running RMS)."""
    from scipy.signal import find_peaks

    # A pulse rises by 2-3 RMS; the dicrotic wave by less than one.
    peaks, _ = find_peaks(ppg, distance=max(1, round(0.3 * rate)), prominence=1.0)
    return np.asarray(peaks, dtype=np.int64)


def r_peaks(ecg: F32, rate: float) -> I64:
    """Sample indices of QRS complexes in a normalised ECG, shape ``(n,)``: peaks of the slope energy over 0.1 s."""
    from scipy.ndimage import median_filter, uniform_filter1d
    from scipy.signal import find_peaks

    if len(ecg) < 2:
        return np.zeros(0, dtype=np.int64)
    energy = uniform_filter1d(np.gradient(ecg.astype(np.float64)) ** 2, max(1, round(0.1 * rate)))
    block = max(1, round(2.0 * rate))  # 2 s hold at least one beat at 30 bpm and more
    edges = np.arange(0, len(energy), block)
    typical = median_filter(np.maximum.reduceat(energy, edges), size=5, mode="nearest")
    height = 0.25 * np.repeat(typical, block)[: len(energy)] + 1e-9
    peaks, _ = find_peaks(energy, distance=max(1, round(0.25 * rate)), height=height)
    return np.asarray(peaks, dtype=np.int64)


def rate_per_window(peaks: I64, starts: I64, length: int, rate: float) -> NDArray[np.float64]:
    """Mean beat rate, bpm, in each window ``[start, start + length)``; NaN with fewer than four beats in it."""
    low, high = np.searchsorted(peaks, starts), np.searchsorted(peaks, starts + length)
    bpm = np.full(len(starts), np.nan)
    enough = high - low >= 4
    first, last = peaks[low[enough]], peaks[high[enough] - 1]
    bpm[enough] = 60.0 * rate * (high - low - 1)[enough] / (last - first)
    return bpm


@dataclass(frozen=True, slots=True)
class HopFacts:
    """What is known of each hop of a recording, each array of shape ``(hops,)``."""

    valid: NDArray[np.bool_]
    ppg_flat: NDArray[np.bool_]
    ecg_flat: NDArray[np.bool_]


def judge(
    ppg: F32, ecg: F32, facts: HopFacts, starts: I64, hops: int, rate: float, clip: float, config: GateConfig
) -> NDArray[np.int8]:
    """Verdict for each window of ``hops`` hops that starts at hop ``starts[i]``; int8, shape ``starts.shape``.

    ``ppg`` and ``ecg`` are patches of a whole recording, (all hops, hop).
    """
    hop = ppg.shape[1]

    def share(per_hop: NDArray[np.floating] | NDArray[np.bool_]) -> NDArray[np.float64]:
        total = np.concatenate([[0.0], np.cumsum(per_hop, dtype=np.float64)])
        return np.asarray((total[starts + hops] - total[starts]) / hops)

    ppg_bpm = rate_per_window(pulse_peaks(ppg.ravel(), rate), starts * hop, hops * hop, rate)
    ecg_bpm = rate_per_window(r_peaks(ecg.ravel(), rate), starts * hop, hops * hop, rate)
    difference = np.abs(ppg_bpm - ecg_bpm)
    clipped = (share((np.abs(ppg) >= clip).mean(1)) > config.ppg_clipped) | (
        share((np.abs(ecg) >= clip).mean(1)) > config.ecg_clipped
    )
    flat = (share(facts.ppg_flat) > config.flat_share) | (share(facts.ecg_flat) > config.flat_share)
    reasons = {
        Verdict.RATES_DISAGREE: (difference > config.rate_bpm) & (difference > config.rate_share * ecg_bpm),
        Verdict.NO_RATE: np.isnan(difference),
        Verdict.CLIPPED: clipped,
        Verdict.FLAT: flat,
        Verdict.MISSING: share(facts.valid) < 1,
    }
    verdict = np.full(len(starts), Verdict.OK, dtype=np.int8)
    for reason, holds in reasons.items():  # the gravest reason is written last
        verdict[holds] = reason
    return verdict
