"""Motion artefact: bursts of band-limited shaking and jumps of the baseline, in units of the pulse's height."""

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

EDGE_S = 0.3  # onset and end of the artefact
STEP_S = 0.08  # how fast the baseline jumps


class Motion:
    """The artefact of one spell from ``start`` to ``end`` seconds; a pure function of time once made."""

    LINES = 14

    def __init__(self, start: float, end: float, strength: float, rng: np.random.Generator) -> None:
        self._start, self._end, self._strength = start, end, strength
        self._omega = 2 * np.pi * rng.uniform(0.7, 5.0, self.LINES)  # the band of walking, tapping, gestures
        self._phase = rng.uniform(0, 2 * np.pi, self.LINES)
        self._burst_at = np.arange(start, end, 1.6) + rng.uniform(0, 1.2, len(np.arange(start, end, 1.6)))
        self._burst_height = rng.uniform(0.4, 1.0, len(self._burst_at))
        self._jump_at = np.arange(start, end, 1.3) + rng.uniform(0, 1.3, len(np.arange(start, end, 1.3)))
        # Between levels, not a walk away from the middle.
        self._jump = np.diff(rng.normal(0, 0.8, len(self._jump_at)), prepend=0.0)

    def __call__(self, t: F64) -> F64:
        """Artefact at times ``t`` (n,), shape (n,); 0 outside the spell."""
        bursts = np.exp(-(((t[:, None] - self._burst_at) / 0.5) ** 2)) @ self._burst_height
        shaking = np.sin(np.multiply.outer(t, self._omega) + self._phase).sum(-1) * np.sqrt(2 / self.LINES)
        baseline = (0.5 + 0.5 * np.tanh((t[:, None] - self._jump_at) / STEP_S)) @ self._jump
        inside = np.clip(np.minimum(t - self._start, self._end - t) / EDGE_S, 0, 1)
        artefact: F64 = self._strength * inside * (bursts * shaking + baseline)
        return artefact
