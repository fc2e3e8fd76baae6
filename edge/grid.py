"""From the sensor's samples to whole hops on the model's grid.

Grid sample g of a segment lies at sensor position ``g * step`` from the segment's first sample, ``step`` an exact
fraction, so the grid lives in device time and never drifts. Each output sample is a windowed-sinc (Kaiser) sum over
fixed neighbours: a pure function of the samples, whatever chunks they came in.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from edge.ring import MISSING, SampleRing, Segment
from firmware_bridge.block import Flag

LOBES = 8  # zero crossings of the sinc on each side
KAISER_BETA = 7.0  # about -70 dB stop band
MAX_CACHED_PHASES = 512

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop on the grid: ``samples`` (hop,) all finite; ``missing`` how many of them stand where samples are
    missing (bridged by a straight line so that filters run on, and never tokenized); ``flags`` seen in it;
    ``start``/``stop`` its sensor samples' indices; ``segment`` is set on the first hop of a segment."""

    samples: F64
    missing: int
    flags: Flag
    start: int
    stop: int
    segment: Segment | None


def kernel(fraction: F64, half: int, cutoff: float) -> F64:
    """Interpolation weights, shape (len(fraction), 2 * half), for taps ``1 - half … half`` around each position."""
    taps = np.arange(1 - half, half + 1)
    x = taps[None, :] - fraction[:, None]
    window = np.i0(KAISER_BETA * np.sqrt(np.maximum(0.0, 1 - (x / half) ** 2))) / np.i0(KAISER_BETA)
    weights = cutoff * np.sinc(cutoff * x) * window
    return np.asarray(weights / weights.sum(1, keepdims=True))


class Grid:
    """Takes whole hops of ``hop`` samples at ``rate`` Hz from a ring whose samples are ``period_ns`` apart."""

    def __init__(self, ring: SampleRing, period_ns: int, rate: float, hop: int) -> None:
        self.ring, self.hop = ring, hop
        self.step = Fraction(10**9) / (Fraction(rate).limit_denominator(10**6) * period_ns)
        self._cutoff = min(1.0, 0.95 / float(self.step)) if self.step > 1 else 1.0
        self._half = 0 if self.step == 1 else int(np.ceil(LOBES / self._cutoff))
        self._cache: dict[int, tuple[NDArray[np.int64], F64]] = {}
        self._segment: Segment | None = None
        self._begun = False
        self._next = 0  # grid index of the next hop's first sample
        # Received samples of incomplete hops at segment ends.
        self.discarded = 0

    def next_hop(self, *, ended: bool = False) -> Hop | None:
        """The next whole hop, or None until more samples come. ``ended``: no more will, ever."""
        ring = self.ring
        while True:
            if self._segment is None and not self._enter_segment():
                return None
            assert self._segment is not None
            last = bool(ring.segments) or ended
            end = ring.segments[0].position if ring.segments else ring.end
            start, stop = self._span()
            if self._left(start) < ring.tail:
                # What it rests on was overwritten: what follows is a new segment.
                self._restart_at(max(start, ring.tail))
            elif stop > end:
                if not last:
                    return None
                self._leave_segment(end)
            elif stop + self._half > end and not last:
                return None
            else:
                return self._make(start, stop, end)

    def _enter_segment(self) -> bool:
        if not self.ring.segments:
            return False
        self._segment, self._begun, self._next = self.ring.segments.popleft(), False, 0
        return True

    def _leave_segment(self, end: int) -> None:
        """The rest of the segment is shorter than a hop."""
        start, _ = self._span()
        self.discarded += self._received_between(max(start, self.ring.consumed), end)
        self.ring.consume(end)
        self._segment = None

    def _left(self, start: int) -> int:
        """The first position that a hop from ``start`` on may rest on: taps, and the far end of a bridge."""
        assert self._segment is not None
        return max(self._segment.position, start - self._half - self.ring.max_bridge - 1)

    def _restart_at(self, position: int) -> None:
        segment = self._segment
        assert segment is not None
        while self.ring.segments and self.ring.segments[0].position <= position:
            segment = self.ring.segments.popleft()
        if segment.position < position:
            segment = Segment(segment.start + position - segment.position, position, "overwritten")
        self._segment, self._begun, self._next = segment, False, 0

    def _received_between(self, start: int, stop: int) -> int:
        start = max(start, self.ring.tail)
        if stop <= start:
            return 0
        return int(np.count_nonzero(self.ring.read(start, stop)[1] & MISSING == 0))

    def _span(self) -> tuple[int, int]:
        """Positions from the next hop's first sample to one past its last."""
        assert self._segment is not None
        first = self._segment.position + self._next * self.step.numerator // self.step.denominator
        last = self._segment.position + (self._next + self.hop - 1) * self.step.numerator // self.step.denominator
        return first, last + 1

    def _taps(self) -> tuple[NDArray[np.int64], F64]:
        """Positions relative to the hop's first sensor sample and their weights; depends on the phase only."""
        p, q = self.step.numerator, self.step.denominator
        phase = self._next * p % q
        if phase not in self._cache:
            exact = [divmod(phase + i * p, q) for i in range(self.hop)]
            whole = np.array([w for w, _ in exact])
            weights = kernel(np.array([r / q for _, r in exact]), self._half, self._cutoff)
            if len(self._cache) >= MAX_CACHED_PHASES:
                self._cache.clear()
            self._cache[phase] = whole, weights
        return self._cache[phase]

    def _make(self, start: int, stop: int, end: int) -> Hop:
        current = self._segment
        assert current is not None
        left = max(current.position, start - self._half)
        values, flags = self._bridged(left, min(end, stop + self._half), end)
        inside = flags[start - left : stop - left]
        if self._half:
            whole, weights = self._taps()
            at = (start - left) + whole[:, None] + np.arange(1 - self._half, self._half + 1)[None, :]
            samples = (values[np.clip(at, 0, len(values) - 1)] * weights).sum(1)
            nearest = (start - left) + whole + self._nearest_is_next(weights)
            missing = int(np.count_nonzero(flags[np.minimum(nearest, len(flags) - 1)] & MISSING))
        else:
            samples = values[start - left : stop - left]
            missing = int(np.count_nonzero(inside & MISSING))
        segment = None if self._begun else current
        self._begun = True
        self._next += self.hop
        self.ring.consume(self._span()[0])
        union = int(np.bitwise_or.reduce(inside)) if len(inside) else 0
        shift = current.start - current.position
        return Hop(samples, missing, Flag(union & ~MISSING), start + shift, stop + shift, segment)

    def _nearest_is_next(self, weights: F64) -> NDArray[np.int64]:
        """1 where a grid sample is nearer to its right sensor neighbour than to its left one."""
        return (weights[:, self._half] > weights[:, self._half - 1]).astype(np.int64)

    def _bridged(self, left: int, right: int, end: int) -> tuple[F64, NDArray[np.uint8]]:
        """Values with gaps bridged by straight lines between their neighbours, which lie within ``max_bridge``."""
        assert self._segment is not None
        values, flags = self.ring.read(left, right)
        if not (flags & MISSING).any():
            return values, flags
        reach = self.ring.max_bridge + 1
        wide_left = max(self._segment.position, left - reach)
        wide = self.ring.read(wide_left, min(end, right + reach))[0]
        known = np.flatnonzero(~np.isnan(wide))
        wide = np.interp(np.arange(len(wide)), known, wide[known]) if len(known) else np.zeros(len(wide))
        return wide[left - wide_left : right - wide_left], flags
