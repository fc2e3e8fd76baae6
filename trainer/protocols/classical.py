"""Heart rate without learning: 60 over the median beat interval of the window, by the device's beats or NeuroKit2's."""

import importlib.util
import warnings
from collections.abc import Callable

import numpy as np

from trainer.protocols.task import F64, I64, Task

MIN_INTERVALS = 3

Beats = Callable[[F64, float], F64]  # wave (samples,), Hz → positions in samples


def neurokit_beats(wave: F64, rate: float) -> F64:
    """Systolic peaks by ``ppg_findpeaks``, Elgendi's method (PLoS ONE 2013), of a wave that is band-passed already."""
    import neurokit2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = neurokit2.ppg_findpeaks(
                neurokit2.ppg_clean(wave, sampling_rate=round(rate)), sampling_rate=round(rate)
            )
        except Exception:  # it fails in numpy or pandas, in any way, where it finds no wave
            return np.zeros(0)
    return np.asarray(found["PPG_Peaks"], np.float64)


def has_neurokit() -> bool:
    """Whether NeuroKit2 is installed."""
    return importlib.util.find_spec("neurokit2") is not None


def interval_rates(waves: np.ndarray, rate: float, beats: Beats) -> F64:
    """(n, hops, hop) → 60 over the median beat interval, bpm, (n,); NaN with fewer than three intervals."""
    found = np.full(len(waves), np.nan)
    for i, wave in enumerate(waves.reshape(len(waves), -1).astype(np.float64)):
        intervals = np.diff(beats(wave, rate)) / rate
        if len(intervals) >= MIN_INTERVALS:
            found[i] = 60 / float(np.median(intervals))
    return found


class IntervalRate:
    """Learns nothing but what to say where no rate can be told: the median label of the people it may learn from."""

    def __init__(self, name: str, rates: Callable[[Task], F64]) -> None:
        self.name, self._rates, self._usual = name, rates, np.nan

    def fit(self, task: Task, rows: I64) -> None:
        """Remember the usual rate."""
        self._usual = float(np.median(task.labels[rows]))

    def predict(self, task: Task, rows: I64) -> F64:
        """Rates, bpm."""
        told = self._rates(task)[rows]
        return np.where(np.isfinite(told), told, self._usual)


class Constant:
    """Always the median label (regression) or even odds (classification): what knowing nothing of a window reaches.

    Not the classes' shares: those are lower in a fold whose asked people have more of a class, which would rank people
    by what they are, upside down.
    """

    name = "constant"

    def __init__(self) -> None:
        self._usual = np.nan

    def fit(self, task: Task, rows: I64) -> None:
        """Remember the labels' median."""
        self._usual = float(np.median(task.labels[rows]))

    def predict(self, task: Task, rows: I64) -> F64:
        """The same for every row."""
        if task.kind == "regression":
            return np.full(len(rows), self._usual)
        return np.full((len(rows), len(task.classes)), 1 / len(task.classes))
