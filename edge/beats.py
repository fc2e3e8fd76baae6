"""Pulse detection: the steepest point of each systolic upstroke, to a fraction of a sample.

Works on the band-passed wave hop by hop. A candidate is a local maximum of the slope above a threshold that follows
the recent beats' own slopes and sinks while no beat comes; ``REFRACTORY`` seconds later, if no steeper one came, it is
judged: an early and weaker wave that does not look like the recent beats is their dicrotic wave, and a wave too weak
for the threshold is still a beat if it comes when one is due and looks like the others. The idea of tracking the
upslope is that of Zong et al., "An open-source algorithm to detect onset of arterial blood pressure pulses", CinC
2003; that of comparing with a running template, of Orphanidou et al., IEEE JBHI 2015.
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
FORGET_AFTER, FORGET_HALF = 2.0, 1.5  # s without a beat, then the half-life of what is remembered
MEMORY = 8  # beats
MIN_SHAPES = 3  # recent beats before their shape says anything

BEFORE, AFTER = 0.12, 0.224  # s of wave around the steepest point that are compared with the recent beats
# Chosen on the train and validation people of BIDMC and the first half of MIMIC PERform AF.
DICROTIC = 0.35  # s after a beat: a weaker wave so early is its dicrotic wave, unless it is the beats' very image …
DICROTIC_SLOPE, IMAGE = 0.64, 0.94  # … weaker: of that beat's slope; image: correlation
EARLY, EARLY_SHARE, ALIEN = 0.43, 0.68, 0.73  # s, and of the median interval: so early, a wave must at least look alike
FAINT, ALIKE, DUE = 0.16, 0.93, 0.67  # of the median slope; correlation; of the median interval: a weak beat

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Beat:
    """``position`` in grid samples since the segment's start; ``slope`` in counts a sample."""

    position: float
    slope: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A wave that may be a ``beat``; ``strong``: above the threshold that stood at its place."""

    beat: Beat
    strong: bool


@dataclass(slots=True)
class BeatState:
    """State between hops. ``position`` is the grid index of the next sample; ``wave``: the samples before it;
    ``shapes``: the recent beats' waves, each of zero mean and unit norm; ``slopes`` and ``intervals`` of those beats;
    ``previous``: where the last one was."""

    position: int = 0
    wave: F64 = field(default_factory=lambda: np.zeros(0))
    candidate: _Candidate | None = None
    slopes: list[float] = field(default_factory=list)
    intervals: list[float] = field(default_factory=list)
    shapes: list[F64] = field(default_factory=list)
    previous: float | None = None

    def copy(self) -> "BeatState":
        """A snapshot; a wave and a shape are replaced, never written to."""
        return BeatState(
            self.position,
            self.wave,
            self.candidate,
            list(self.slopes),
            list(self.intervals),
            list(self.shapes),
            self.previous,
        )


class BeatDetector:
    """Pure function of state and hop: ``step`` updates the state and returns the beats confirmed by this hop."""

    def __init__(self, rate: float, resolution: float = 0.0) -> None:
        """``rate`` Hz of the wave; ``resolution``: the smallest step of a raw sample, 0 if unknown."""
        self.rate = rate
        # A single step of the sensor's own resolution is no pulse, however quiet the rest is.
        self._least = LEAST_STEPS * resolution
        self._refractory = REFRACTORY * rate
        self._before, self._after = round(BEFORE * rate), round(AFTER * rate)
        self._kept = round((BEFORE + REFRACTORY) * rate) + 4

    def step(self, state: BeatState, filtered: F64) -> list[Beat]:
        """``filtered`` (hop,): one hop of the band-passed wave."""
        kept = len(state.wave)
        state.wave = np.concatenate([state.wave, filtered])
        # Three samples of the hop before: a maximum of the slope needs its neighbours.
        slope = np.diff(state.wave[max(0, kept - 3) :])
        beats: list[Beat] = []
        # slope[i] stands between samples first + i and first + i + 1
        first = state.position - min(kept, 3)
        state.position += len(filtered)
        peaks = np.flatnonzero((slope[1:-1] > slope[:-2]) & (slope[1:-1] >= slope[2:]) & (slope[1:-1] > 0)) + 1
        for i in peaks:
            a, b, c = slope[i - 1], slope[i], slope[i + 1]
            curve = a - 2 * b + c
            shift = float(0.5 * (a - c) / curve) if curve < 0 else 0.0
            self._offer(state, Beat(float(first + i + 0.5 + shift), float(b)), beats)
        self._confirm(state, state.position - 2.0, beats)
        state.wave = state.wave[-self._kept :]
        return beats

    def _offer(self, state: BeatState, new: Beat, beats: list[Beat]) -> None:
        self._confirm(state, new.position, beats)
        if state.candidate is None:
            if state.previous is not None and new.position - state.previous < self._refractory:
                return
        elif new.slope <= state.candidate.beat.slope:
            return
        usual, share = self._threshold(state, new.position)
        strong = new.slope > max(self._least, share * usual)
        if strong or new.slope > max(self._least, FAINT * usual):
            state.candidate = _Candidate(new, strong)

    def _confirm(self, state: BeatState, now: float, beats: list[Beat]) -> None:
        candidate = state.candidate
        if candidate is None or now - candidate.beat.position < self._refractory:
            return
        state.candidate = None
        beat, shape = candidate.beat, self._shape(state, candidate.beat)
        if not self._is_beat(state, candidate, shape):
            return
        beats.append(beat)
        state.slopes = [*state.slopes, beat.slope][-MEMORY:]
        if shape is not None:
            state.shapes = [*state.shapes, shape][-MEMORY:]
        if state.previous is not None:
            state.intervals = [*state.intervals, beat.position - state.previous][-MEMORY:]
        state.previous = beat.position

    def _is_beat(self, state: BeatState, candidate: _Candidate, shape: F64 | None) -> bool:
        """Whether a candidate that nothing steeper followed is a beat, by its size, its time and its shape."""
        if state.previous is None or shape is None or len(state.shapes) < MIN_SHAPES:
            return candidate.strong
        gap = candidate.beat.position - state.previous
        seconds, share = gap / self.rate, gap / median(state.intervals)
        if candidate.strong and seconds > EARLY:
            return True  # nothing to ask: most beats end here
        if not candidate.strong:
            template = np.median(state.shapes, axis=0)
            return float(shape @ template) > ALIKE * float(np.linalg.norm(template)) and share > DUE
        # Beside the very beat it follows, and never stronger: else a detector that had once taken the dicrotic waves
        # for the beats would hold the beats themselves for strangers, and stay so.
        alike, strength = float(shape @ state.shapes[-1]), candidate.beat.slope / state.slopes[-1]
        dicrotic = seconds <= DICROTIC and strength < DICROTIC_SLOPE and alike <= IMAGE
        alien = share <= EARLY_SHARE and strength < 1 and alike <= ALIEN
        return not (dicrotic or alien)

    def _shape(self, state: BeatState, beat: Beat) -> F64 | None:
        """The wave around a beat, of zero mean and unit norm; None at a segment's very start, or where it is flat."""
        at = round(beat.position) - (state.position - len(state.wave))
        if at < self._before:
            return None
        cut = state.wave[at - self._before : at + self._after]
        cut = cut - cut.mean()
        norm = math.sqrt(float(cut @ cut))
        return cut / norm if norm > 0 else None

    def _threshold(self, state: BeatState, now: float) -> tuple[float, float]:
        """A beat's usual slope, and the share of it that stands as the threshold now."""
        if not state.slopes:
            return 0.0, THRESHOLD
        # After a weak beat a weak one may follow: a pulse that fades at once must not be lost for eight beats.
        reference = min(median(state.slopes), WEAK * state.slopes[-1])
        if state.previous is None:
            return reference, THRESHOLD
        # After strong motion a pulse is far below anything remembered: what brings no beat is forgotten in the end.
        forgetting = max(0.0, (now - state.previous) / self.rate - FORGET_AFTER)
        reference *= math.pow(0.5, forgetting / FORGET_HALF)
        if not state.intervals:
            return reference, THRESHOLD
        quiet = (now - state.previous) / median(state.intervals) - SINK_AFTER
        return reference, max(FLOOR, THRESHOLD * (1 - 0.25 * max(0.0, quiet)))
