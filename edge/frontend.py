"""Band-pass and running gain, hop by hop: raw counts in, model patches out.

Training and the device call this same function on the same grid, so what the encoder learns on is what it sees.
Everything is causal and works on whole hops of a fixed length, with the state passed in and out, so any chunking
of the same samples gives the same numbers bit for bit.
"""

from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]


class FrontendConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle says about its input.

    ``rate`` Hz of the model's grid; ``hop`` samples a patch; ``sos`` second-order sections (rows ``b0 b1 b2 1 a1
    a2``); ``gain_hops`` how many past hops the running gain looks at; ``clip`` the largest magnitude after
    normalisation, in units of the running RMS.
    """

    rate: float
    hop: int
    sos: list[list[float]]
    gain_hops: int
    clip: float

    @property
    def hop_seconds(self) -> float:
        """Duration of one hop, seconds."""
        return self.hop / self.rate


@dataclass(slots=True)
class FrontendState:
    """State between hops; ``copy`` is a snapshot. ``origin`` is the segment's first sample (removes the DC step)."""

    z: F64
    origin: float | None = None
    energies: list[float] = field(default_factory=list)

    def copy(self) -> "FrontendState":
        return FrontendState(self.z.copy(), self.origin, list(self.energies))


def _state_space(sos: list[list[float]]) -> tuple[F64, F64, F64, float]:
    """Cascade of biquads (direct form II transposed) as one system ``z' = A z + B x``, ``y = C z + D x``."""
    n = 2 * len(sos)
    a, b, c, d = np.zeros((n, n)), np.zeros(n), np.zeros(n), 1.0
    for i, (b0, b1, b2, _, a1, a2) in enumerate(sos):
        j = 2 * i
        # This section's input is u = c·z + d·x of the sections before it.
        a[j, :], a[j + 1, :] = (b1 - a1 * b0) * c, (b2 - a2 * b0) * c
        a[j, j] -= a1
        a[j, j + 1] += 1.0
        a[j + 1, j] -= a2
        b[j], b[j + 1] = (b1 - a1 * b0) * d, (b2 - a2 * b0) * d
        c = b0 * c
        c[j] += 1.0
        d *= b0
    return a, b, c, d


class Frontend:
    """The compiled form of a :class:`FrontendConfig`: a hop is two small matrix products of fixed shape."""

    def __init__(self, config: FrontendConfig) -> None:
        self.config = config
        a, b, c, d = _state_space(config.sos)
        n, hop = len(b), config.hop
        powers = [np.eye(n)]
        for _ in range(hop):
            powers.append(powers[-1] @ a)
        impulse = [d] + [float(c @ powers[k] @ b) for k in range(hop - 1)]
        # y = from_state @ z + from_input @ x ; z' = next_state @ z + next_input @ x
        self._from_state = np.stack([c @ powers[k] for k in range(hop)])
        self._from_input = np.array([[impulse[i - j] if i >= j else 0.0 for j in range(hop)] for i in range(hop)])
        self._next_state = powers[hop]
        self._next_input = np.stack([powers[hop - 1 - j] @ b for j in range(hop)], axis=1)

    def start(self) -> FrontendState:
        """The state at the start of a segment."""
        return FrontendState(np.zeros(len(self._next_state)))

    def step(self, state: FrontendState, samples: F64) -> tuple[F64, F32]:
        """One hop of raw samples, shape ``(hop,)``, all finite; updates ``state``.

        Returns the band-passed hop (in counts) and the patch: the same divided by the running gain, clipped,
        float32. The gain is the square root of the median energy of the last ``gain_hops`` hops, this one
        included: it follows a change of contact within seconds, yet a pulse pause of 3 s still looks small.
        """
        if state.origin is None:
            state.origin = float(samples[0])
        x = samples - state.origin
        filtered = self._from_state @ state.z + self._from_input @ x
        state.z = self._next_state @ state.z + self._next_input @ x
        state.energies.append(float(filtered @ filtered) / len(filtered))
        del state.energies[: -self.config.gain_hops]
        gain = float(np.sqrt(np.median(state.energies)))
        clip = self.config.clip
        patch = np.clip(filtered / gain, -clip, clip) if gain > 0 else np.zeros_like(filtered)
        return filtered, patch.astype(np.float32)
