"""The ECG as the witness: R peaks, the rate they tell, and whether they bear out what the pulse wave alone said."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge import rhythm
from edge.alarms import AlarmLimits
from trainer.gating import r_peaks
from trainer.recordings import Recording
from trainer.windows import WindowConfig, run_frontend, to_grid

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

MIN_PEAKS = 4  # in the rate's window, as quality is judged by
RATE_SLACK = 5.0  # bpm beyond a limit within which the ECG still agrees with an alarm
BEFORE, AFTER = 10.0, 5.0  # s around an alarm's onset in which the ECG is asked


@dataclass(frozen=True, slots=True)
class Reference:
    """``peaks`` (n,) s of the R peaks; ``readable`` (hops,) where the ECG has every sample and moves; ``hop`` s."""

    peaks: F64
    readable: Bools
    hop: float

    def rate(self, t: float, seconds: float = rhythm.RATE_SECONDS) -> float:
        """60 over the median R–R interval of the last ``seconds`` before ``t``, bpm; NaN with too few peaks."""
        low, high = np.searchsorted(self.peaks, [t - seconds, t], side="right")
        return 60 / float(np.median(np.diff(self.peaks[low:high]))) if high - low >= MIN_PEAKS else float("nan")

    def rates(self, times: F64) -> F64:
        """:meth:`rate` at each of ``times``."""
        return np.array([self.rate(t) for t in times], np.float64)

    def whole(self, begin: float, end: float) -> bool:
        """Whether the ECG can be read throughout ``[begin, end]``."""
        return bool(self.readable[max(0, int(begin / self.hop)) : int(end / self.hop) + 1].all())

    def pause(self, begin: float, end: float) -> float:
        """The longest R–R interval, s, any part of which lies in ``[begin, end]``; 0 where the ECG is unreadable."""
        low, high = np.searchsorted(self.peaks, [begin, end])
        around = self.peaks[max(0, low - 1) : high + 1]
        return float(np.diff(around).max(initial=0.0)) if self.whole(begin, end) else 0.0

    def intervals(self, t: float, seconds: float) -> F64:
        """The R–R intervals, s, of the last ``seconds`` before ``t``, those that could be a heart's."""
        low, high = np.searchsorted(self.peaks, [t - seconds, t], side="right")
        found = np.diff(self.peaks[low:high])
        return np.asarray(found[(found >= rhythm.IBI_RANGE[0]) & (found <= rhythm.IBI_RANGE[1])])


def read_reference(recording: Recording, config: WindowConfig) -> Reference:
    """The R peaks of a recording's ECG, by the trainer's detector."""
    patches = run_frontend(to_grid(recording.read()[1], recording.rate, config.rate), config, "ecg")
    peaks = r_peaks(patches.patches.ravel(), config.rate) / config.rate
    return Reference(peaks, patches.valid & ~patches.flat, config.hop / config.rate)


def shows(reference: Reference, name: str, begin: float, end: float, limits: AlarmLimits, slack: float = 0.0) -> bool:
    """Whether the ECG itself meets an alarm's limit anywhere in ``[begin, end]``, or comes within ``slack`` bpm of it.

    The rate over the last 10 s, as the monitor takes it, or an R–R interval as long as the pause. False for alarms
    that the ECG cannot judge.
    """
    if name == "pulse_lost":
        return reference.pause(begin, end) >= limits.pause
    rates = reference.rates(np.arange(begin, end + 0.5, 1.0))
    if name == "brady":
        return bool((rates <= limits.low_rate + slack).any())
    return name == "tachy" and bool((rates >= limits.high_rate - slack).any())


def agrees(reference: Reference, name: str, onset: float, limits: AlarmLimits) -> bool:
    """Whether the ECG around the onset, s, of ``pulse_lost``, ``brady`` or ``tachy`` shows the same, with 5 bpm of
    slack."""
    return shows(reference, name, onset - BEFORE, onset + AFTER, limits, RATE_SLACK)
