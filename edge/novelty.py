"""How surprising is the token stream? A first novelty score from the tokens and their probabilities.

The surprise of a hop is ``-log Σ_k p(k) B(k | previous token)``: the token scores' own distribution seen through a
bigram model B of normal pulse waves. Averaged over some hops, it becomes a p-value against the calibration subjects:
the share of their time that looked at least as surprising.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.bundle import NoveltyModel
from firmware_bridge.errors import BadInput


@dataclass(slots=True)
class NoveltyState:
    """Previous token and the recent surprises, nats."""

    previous: int | None = None
    surprises: list[float] = field(default_factory=list)

    def copy(self) -> "NoveltyState":
        return NoveltyState(self.previous, list(self.surprises))


class Novelty:
    """The bigram model and its calibration, from the bundle."""

    def __init__(self, model: NoveltyModel, table: NDArray[np.uint8], codebook_size: int) -> None:
        if table.shape != (codebook_size + 1, codebook_size) or table.dtype != np.uint8:
            raise BadInput(
                f"bundle: {model.transitions} must be uint8 of shape ({codebook_size + 1}, {codebook_size}), "
                f"not {table.dtype} {table.shape}"
            )
        self.model = model
        self._probability = np.exp(-table.astype(np.float32) / np.float32(model.scale))
        self._levels = np.linspace(0.0, 1.0, len(model.quantiles))

    def step(self, state: NoveltyState, token: int, probabilities: NDArray[np.float32]) -> float | None:
        """One hop's token and its distribution, shape (K,); the smoothed surprise once enough hops were seen."""
        row = -1 if state.previous is None else state.previous
        likelihood = float(probabilities @ self._probability[row])
        state.previous = token
        state.surprises.append(-float(np.log(max(likelihood, 1e-12))))
        del state.surprises[: -self.model.smoothing_hops]
        if len(state.surprises) < self.model.smoothing_hops:
            return None
        return float(np.mean(state.surprises))

    def p_value(self, score: float) -> float:
        """Share of the calibration time with at least this score, 0–1."""
        return float(1.0 - np.interp(score, self.model.quantiles, self._levels, left=0.0, right=1.0))
