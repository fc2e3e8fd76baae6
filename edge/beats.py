"""Pulse detection: the steepest point of each systolic upstroke, to a fraction of a sample.

Works on the band-passed wave hop by hop. A candidate is a local maximum of the slope above a threshold that follows
the recent beats' own slopes and sinks while no beat comes; it becomes a beat once ``REFRACTORY`` seconds passed
without a steeper one (so the dicrotic wave never does). The idea of tracking the upslope is that of Zong et al.,
"An open-source algorithm to detect onset of arterial blood pressure pulses", CinC 2003.
"""

import math
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

REFRACTORY = 0.30  # s; 200 bpm
THRESHOLD = 0.40  # of the median slope of the recent beats
FLOOR = 0.15  # the threshold never sinks below this share of it
SINK_AFTER = 1.5  # in median intervals: then the threshold starts to sink
LEAST_STEPS = 0.6  # resolution steps a sample; one step through the band-pass makes 0.2
WEAK = 1.5  # times the last beat: no threshold stands on more than that
FORGET_AFTER, FORGET_HALF = 5.0, 1.5  # s without a beat, then the half-life of what is remembered
MEMORY = 8  # beats

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Beat:
    """``position`` in grid samples since the segment's start; ``slope`` in counts a sample."""

    position: float
    slope: float


@dataclass(slots=True)
class BeatState:
    """State between hops. ``position`` is the grid index of the next sample."""

    position: int = 0
    last: F64 = field(default_factory=lambda: np.zeros(0))
    candidate: Beat | None = None
    slopes: list[float] = field(default_factory=list)
    intervals: list[float] = field(default_factory=list)
    previous: float | None = None

    def copy(self) -> "BeatState":
        return BeatState(
            self.position, self.last.copy(), self.candidate, list(self.slopes), list(self.intervals), self.previous
        )


class BeatDetector:
    """Pure function of state and hop: ``step`` updates the state and returns the beats confirmed by this hop."""

    def __init__(self, rate: float, resolution: float = 0.0) -> None:
        """``rate`` Hz of the wave; ``resolution``: the smallest step of a raw sample, 0 if unknown."""
        self.rate = rate
        # A single step of the sensor's own resolution is no pulse, however quiet the rest is.
        self._least = LEAST_STEPS * resolution
        self._refractory = REFRACTORY * rate

    def step(self, state: BeatState, filtered: F64) -> list[Beat]:
        """``filtered`` (hop,): one hop of the band-passed wave."""
        wave = np.concatenate([state.last, filtered])
        slope = np.diff(wave)
        beats: list[Beat] = []
        # slope[i] stands between samples first + i and first + i + 1
        first = state.position - len(state.last)
        peaks = np.flatnonzero((slope[1:-1] > slope[:-2]) & (slope[1:-1] >= slope[2:]) & (slope[1:-1] > 0)) + 1
        for i in peaks:
            a, b, c = slope[i - 1], slope[i], slope[i + 1]
            curve = a - 2 * b + c
            shift = float(0.5 * (a - c) / curve) if curve < 0 else 0.0
            self._offer(state, Beat(float(first + i + 0.5 + shift), float(b)), beats)
        state.position += len(filtered)
        state.last = wave[-3:]
        self._confirm(state, state.position - 2.0, beats)
        return beats

    def _offer(self, state: BeatState, new: Beat, beats: list[Beat]) -> None:
        self._confirm(state, new.position, beats)
        if state.candidate is not None:
            if new.slope > state.candidate.slope:
                state.candidate = new
        elif new.slope > max(self._least, self._threshold(state, new.position)) and (
            state.previous is None or new.position - state.previous >= self._refractory
        ):
            state.candidate = new

    def _confirm(self, state: BeatState, now: float, beats: list[Beat]) -> None:
        beat = state.candidate
        if beat is None or now - beat.position < self._refractory:
            return
        state.candidate = None
        beats.append(beat)
        state.slopes = [*state.slopes, beat.slope][-MEMORY:]
        if state.previous is not None:
            state.intervals = [*state.intervals, beat.position - state.previous][-MEMORY:]
        state.previous = beat.position

    def _threshold(self, state: BeatState, now: float) -> float:
        if not state.slopes:
            return 0.0
        # After a weak beat a weak one may follow: a pulse that fades at once must not be lost for eight beats.
        reference = min(median(state.slopes), WEAK * state.slopes[-1])
        if state.previous is None:
            return THRESHOLD * reference
        # After strong motion a pulse is far below anything remembered: what brings no beat is forgotten in the end.
        forgetting = max(0.0, (now - state.previous) / self.rate - FORGET_AFTER)
        reference *= math.pow(0.5, forgetting / FORGET_HALF)
        if not state.intervals:
            return THRESHOLD * reference
        quiet = (now - state.previous) / median(state.intervals) - SINK_AFTER
        return reference * max(FLOOR, THRESHOLD * (1 - 0.25 * max(0.0, quiet)))
