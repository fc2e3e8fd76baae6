"""When the virtual heart beats: sinus rhythm with heart rate variability, atrial fibrillation, ectopy, pauses."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.virtual.scenario import Scenario

F64 = NDArray[np.float64]


class Oscillation:
    """A narrow-band random wave of unit variance: equal sines around ``centre`` Hz (spread ``width``)."""

    LINES = 8

    def __init__(self, centre: float, width: float, rng: np.random.Generator) -> None:
        self._omega = 2 * np.pi * rng.normal(centre, width, self.LINES)
        self._phase = rng.uniform(0, 2 * np.pi, self.LINES)

    def __call__(self, t: F64) -> F64:
        """Values at times ``t`` (n,) in s, shape (n,)."""
        waves: F64 = np.sin(np.multiply.outer(t, self._omega) + self._phase).sum(-1)
        return waves * math.sqrt(2 / self.LINES)

    def at(self, t: float) -> float:
        """Value at one time."""
        return float(self(np.array([t]))[0])


@dataclass(frozen=True, slots=True)
class Beat:
    """One beat: its R peak at ``r`` seconds, the interval before it, and where it came from (``N`` sinus, ``A``
    conducted in AF, ``V`` ventricular premature)."""

    r: float
    rr: float
    origin: Literal["N", "A", "V"]


class Rhythm:
    """Beats of ``scenario`` in order.

    Sinus intervals carry the two peaks of the heart rate's spectrum (McSharry et al. 2003): Mayer waves near 0.1 Hz
    and the ``respiration`` (shorter while breathing in). In AF the intervals are independent draws of a log-normal
    distribution, as an AV node bombarded at random lets them through.
    """

    MAYER, BREATH = 0.03, 0.03  # of the mean interval
    AF_SPREAD = 0.24
    SHORTEST = 0.27  # s: the refractory period

    def __init__(self, scenario: Scenario, respiration: Oscillation, rng: np.random.Generator) -> None:
        self._scenario, self._respiration, self._rng = scenario, respiration, rng
        self._mayer = Oscillation(0.1, 0.01, rng)
        self._compensate = 0.0  # interval owed after a premature beat
        self.beats: list[Beat] = [Beat(0.3, 0.85, "N")]

    def extend(self, until: float) -> None:
        """Make sure :attr:`beats` reach beyond ``until`` seconds."""
        while self.beats[-1].r <= until:
            self.beats.append(self._next(self.beats[-1].r))

    def _next(self, now: float) -> Beat:
        segment, _, end = self._scenario.at(now)
        origin: Literal["N", "A", "V"] = "N"
        mean = 60 / segment.hr
        if segment.rhythm == "af":
            origin = "A"
            # exp(-s²/2) keeps the mean where the heart rate says.
            rr = mean * float(np.exp(self._rng.normal(-(self.AF_SPREAD**2) / 2, self.AF_SPREAD)))
        elif self._compensate:
            rr, self._compensate = self._compensate, 0.0
        else:
            rr = mean * (1 + self.MAYER * self._mayer.at(now) - self.BREATH * self._respiration.at(now))
            if segment.ectopy and self._rng.random() < segment.ectopy:
                origin = "V"
                self._compensate = 1.4 * rr
                rr *= 0.6
        r = now + max(self.SHORTEST, rr)
        # Nothing beats in a pause; an escape beat ends it.
        while True:
            segment, _, end = self._scenario.at(r)
            if segment.rhythm != "none":
                return Beat(r, r - now, origin)
            r, origin, self._compensate = end + 0.15, "N", 0.0
