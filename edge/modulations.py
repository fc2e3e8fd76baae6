"""How breathing shows in the pulse wave, on a slow even grid.

Breathing moves the wave's baseline (RIIV), the size of its pulses (RIAV) and their intervals (RIFV) (Karlen et al.,
IEEE TBME 2013; Charlton et al., Physiol. Meas. 2016, who also list the pulse's height above its foot and its width).
The baseline comes from the raw samples, because the front end's band-pass takes it away; the others are told once a
beat, from the raw wave between one foot and the next, and stand on the grid only between beats that follow each other
directly: what a gap, a lost sensor or an uncountable interval touches is masked, never bridged.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SLOW_RATE = 5.0  # Hz, about; the pulse's own harmonics above it are averaged away, those below stay out of band
FOOT_BEFORE, PEAK_AFTER = 0.28, 0.30  # s around the steepest point in which a beat's foot and peak lie
TAIL_SECONDS = 5.0  # raw wave kept: the longest countable interval, a beat's surroundings and the detector's delay
SPREADS = 4.0  # a beat further from the window's median, in robust standard deviations, is cut to that

MODULATIONS = ("baseline", "foot", "peak", "amplitude", "interval", "rise", "shape")

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class MeasuredBeat:
    """``at`` in grid samples since the segment's start, ``interval`` s to the next; ``foot``, ``peak`` and
    ``amplitude`` in counts; ``rise`` s from foot to peak; ``shape``: the wave's mean height in units of amplitude."""

    at: float
    interval: float
    foot: float
    peak: float
    amplitude: float
    rise: float
    shape: float


@dataclass(slots=True)
class ModulationState:
    """``position``: grid samples since the segment's start; ``tail``: the last raw ones; ``levels`` and ``seen``:
    mean and readability of the last slow samples; ``previous``: the last beat, measured once the next is there."""

    position: int = 0
    tail: F64 = field(default_factory=lambda: np.zeros(0))
    levels: F64 = field(default_factory=lambda: np.zeros(0))
    seen: Mask = field(default_factory=lambda: np.zeros(0, bool))
    beats: list[MeasuredBeat] = field(default_factory=list)
    previous: float | None = None

    def copy(self) -> "ModulationState":
        return ModulationState(
            self.position, self.tail.copy(), self.levels.copy(), self.seen.copy(), list(self.beats), self.previous
        )


class Modulations:
    """``step`` takes each hop; ``window`` gives the modulations of the last ``seconds``."""

    def __init__(self, rate: float, hop: int, seconds: float) -> None:
        self.rate, self.hop = rate, hop
        self._per_hop = max(1, round(hop / rate * SLOW_RATE))
        self._edges = np.arange(self._per_hop) * hop // self._per_hop
        self._sizes = np.diff(np.append(self._edges, hop))
        self.slow_rate = self._per_hop * rate / hop
        self.length = round(seconds * self.slow_rate)
        self._tail = round(TAIL_SECONDS * rate) + hop

    def step(
        self, state: ModulationState, samples: F64, beats: list[tuple[float, float | None]], readable: bool
    ) -> None:
        """``samples`` (hop,): raw, upright (rising as blood comes); ``beats``: grid position and interval (s, None
        where it does not count) of those confirmed in this hop."""
        state.position += self.hop
        state.tail = np.concatenate([state.tail, samples])[-self._tail :]
        levels = np.add.reduceat(samples, self._edges) / self._sizes
        state.levels = np.concatenate([state.levels, levels])[-self.length :]
        state.seen = np.concatenate([state.seen, np.full(self._per_hop, readable)])[-self.length :]
        for at, interval in beats:
            if interval is not None and state.previous is not None:
                measured = self._measure(state, state.previous, interval)
                if measured is not None:
                    state.beats.append(measured)
            state.previous = at
        oldest = state.position - (len(state.levels) + 2 * self._per_hop) * self.rate / self.slow_rate
        while state.beats and state.beats[0].at < oldest:
            state.beats.pop(0)

    def _measure(self, state: ModulationState, at: float, interval: float) -> MeasuredBeat | None:
        first = state.position - len(state.tail)
        steepest = round(at) - first
        start, stop = steepest - round(FOOT_BEFORE * self.rate), steepest + round(PEAK_AFTER * self.rate)
        if start < 0 or stop > len(state.tail):
            return None
        foot = start + int(state.tail[start : steepest + 1].argmin())
        peak = steepest + int(state.tail[steepest:stop].argmax())
        low, high = float(state.tail[foot]), float(state.tail[peak])
        if high <= low:
            return None
        whole = state.tail[foot : foot + max(1, round(interval * self.rate))]
        shape = (float(whole.mean()) - low) / (high - low)
        return MeasuredBeat(at, interval, low, high, high - low, (peak - foot) / self.rate, shape)

    def window(self, state: ModulationState) -> tuple[F64, Mask]:
        """Values (:data:`MODULATIONS`, length), each in its own unit, and where they are known; newest last."""
        values, known = np.zeros((len(MODULATIONS), self.length)), np.zeros((len(MODULATIONS), self.length), bool)
        have = len(state.levels)
        values[0, self.length - have :], known[0, self.length - have :] = state.levels, state.seen
        if len(state.beats) < 2:
            return values, known
        at = np.array([beat.at for beat in state.beats])
        rows = np.array([[b.foot, b.peak, b.amplitude, b.interval, b.rise, b.shape] for b in state.beats]).T
        middle = np.median(rows, axis=1, keepdims=True)
        reach = SPREADS * 1.4826 * np.median(np.abs(rows - middle), axis=1, keepdims=True)
        cut = np.clip(rows, middle - reach, middle + reach)
        grid = state.position - (np.arange(self.length, 0, -1) - 0.5) * self.rate / self.slow_rate
        before = np.searchsorted(at, grid, "right") - 1
        left = np.clip(before, 0, len(at) - 2)
        step = at[left + 1] - at[left]
        # Between two measured beats lies at most the first one's interval; more, and a beat between them is not known.
        inside = (before == left) & (step <= 1.01 * self.rate * rows[3, left]) & known[0]
        share = (grid - at[left]) / step
        values[1:] = np.where(inside, cut[:, left] * (1 - share) + cut[:, left + 1] * share, 0.0)
        known[1:] = inside
        return values, known

    def pulse(self, state: ModulationState) -> float | None:
        """Beats a minute by the median interval in the window; None with fewer than two."""
        return 60 / float(np.median([beat.interval for beat in state.beats])) if len(state.beats) > 1 else None
