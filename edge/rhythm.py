"""From beats to pulse rate and irregularity.

An inter-beat interval (IBI) counts only if no sample was missing and the sensor was on between its two beats.
Irregularity is judged on the last beats by the normalised RMSSD (as in Charlton et al., Physiol. Meas. 2022), by its
robust twin, which a single premature beat hardly moves, and by the least change from each interval to the one one to
four beats later: regular ectopy (bigeminy, trigeminy, quadrigeminy) comes back to itself, atrial fibrillation never.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.bundle import LogisticModel
from edge.quality import check_features, logistic

RATE_SECONDS = 10.0  # the rate is the median IBI of this long
RATE_MIN_IBIS = 4
LAST_IBIS = 5  # the latest rate, which alarms look at, is the median of so many
IRREGULAR_SECONDS = 24.0
IRREGULAR_MIN_IBIS = 10
IBI_RANGE = (0.25, 3.0)  # s: 240 to 20 bpm

CYCLES = (1, 2, 3, 4)  # beats after which regular ectopy repeats itself
LEAST_CHANGE = 0.01  # of an interval; the detector's own jitter is below it

FEATURES = ("nrmssd", "median_change", "log_nrmssd", "log_median_change", "log_least_change")


@dataclass(frozen=True, slots=True)
class PulseBeat:
    """``t`` s since the stream's start (steepest upstroke); ``ibi`` s to the beat before, None if not countable."""

    t: float
    ibi: float | None


@dataclass(frozen=True, slots=True)
class Rhythm:
    """``hr`` bpm or None, and ``last_hr`` over the last beats only; ``p_irregular`` 0–1 or None; ``valid`` only where
    the signal quality allows belief; ``recent``: the intervals, s, that ``hr`` is the median of, oldest first."""

    hr: float | None
    last_hr: float | None
    p_irregular: float | None
    valid: bool
    features: dict[str, float]
    recent: list[float] = field(default_factory=list)


@dataclass(slots=True)
class RhythmState:
    """Recent ``(t, ibi)`` with countable IBIs, the last beat's time, and the last time something was unreadable."""

    intervals: list[tuple[float, float]] = field(default_factory=list)
    last_beat: float | None = None
    unreadable: float = -math.inf

    def copy(self) -> "RhythmState":
        return RhythmState(list(self.intervals), self.last_beat, self.unreadable)


def irregularity_features(ibis: NDArray[np.float64]) -> dict[str, float]:
    """:data:`FEATURES` of consecutive IBIs, shape (n,), n ≥ 5: dimensionless."""
    usual = float(np.median(ibis))
    changes = [float(np.median(np.abs(ibis[k:] - ibis[:-k]))) / usual for k in CYCLES]
    nrmssd = float(np.sqrt(np.mean(np.diff(ibis) ** 2)) / ibis.mean())
    return {
        "nrmssd": nrmssd,
        "median_change": changes[0],
        "log_nrmssd": math.log(nrmssd + LEAST_CHANGE),
        "log_median_change": math.log(changes[0] + LEAST_CHANGE),
        "log_least_change": math.log(min(changes) + LEAST_CHANGE),
    }


class RhythmTracker:
    """``step`` takes the beats of one hop, in seconds."""

    def __init__(self, model: LogisticModel | None) -> None:
        check_features(model, FEATURES, "rhythm")
        self.model = model

    def step(
        self, state: RhythmState, now: float, beats: list[float], readable: bool, good: bool
    ) -> tuple[list[PulseBeat], Rhythm]:
        """``now``: end of the hop, s; ``readable``: nothing missing and sensor on; ``good``: quality is believed."""
        found = []
        for t in beats:
            ibi = self._countable(state, t)
            if ibi is not None:
                state.intervals.append((t, ibi))
            found.append(PulseBeat(t, ibi))
            state.last_beat = t
        if not readable:
            state.unreadable = now
        state.intervals = [(t, ibi) for t, ibi in state.intervals if t > now - IRREGULAR_SECONDS]
        recent = [ibi for t, ibi in state.intervals if t > now - RATE_SECONDS]
        beating = state.last_beat is not None and now - state.last_beat <= IBI_RANGE[1]
        hr = 60 / float(np.median(recent)) if beating and len(recent) >= RATE_MIN_IBIS else None
        last = [ibi for _, ibi in state.intervals[-LAST_IBIS:]]
        last_hr = 60 / float(np.median(last)) if hr is not None and len(last) == LAST_IBIS else None
        features: dict[str, float] = {}
        if len(state.intervals) >= IRREGULAR_MIN_IBIS:
            features = irregularity_features(np.array([ibi for _, ibi in state.intervals]))
        p = logistic(self.model, features) if self.model is not None and features else None
        return found, Rhythm(hr, last_hr, p, good and hr is not None, features, recent)

    @staticmethod
    def _countable(state: RhythmState, t: float) -> float | None:
        """The interval to the beat before, if both beats and all between them could be read."""
        if state.last_beat is None or state.last_beat <= state.unreadable:
            return None
        ibi = t - state.last_beat
        return ibi if IBI_RANGE[0] <= ibi <= IBI_RANGE[1] else None
