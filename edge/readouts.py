"""What the frozen encoder's embedding says in plain numbers: linear readouts over its last seconds.

The mean of an embedding tells what the beats are like, its standard deviation that they differ from one another; both
over the last ``hops`` hops are what :mod:`trainer.probe` judges an encoder by.
"""

from dataclasses import dataclass

import numpy as np

from edge.bundle import ReadoutModel
from edge.frontend import F32
from firmware_bridge.errors import BadInput

READOUTS = ("log_rate",)


@dataclass(slots=True)
class ReadoutState:
    """``ring`` (hops, dim): the last embeddings, the next one's place at ``seen`` modulo its length."""

    ring: F32
    seen: int = 0

    def copy(self) -> "ReadoutState":
        """A snapshot: stepping either leaves the other as it is."""
        return ReadoutState(self.ring.copy(), self.seen)


class Readouts:
    """``step`` takes each hop's embedding."""

    def __init__(self, model: ReadoutModel, table: F32, dim: int) -> None:
        """``table`` (len(names), 2 dim + 1) float32; raises :class:`BadInput` where it is not."""
        if table.dtype != np.float32 or table.shape != (len(model.names), 2 * dim + 1):
            raise BadInput(
                f"bundle: {model.file} must be float32 of shape {(len(model.names), 2 * dim + 1)}, "
                f"it is {table.dtype} of {table.shape}"
            )
        unknown = sorted(set(model.names) - set(READOUTS))
        if unknown:
            raise BadInput(f"bundle: readout names {', '.join(unknown)}; this version knows {', '.join(READOUTS)}")
        self.model, self.dim = model, dim
        self._weights, self._bias = table[:, :-1], table[:, -1]

    def start(self) -> ReadoutState:
        """The state at the start of a segment."""
        return ReadoutState(np.zeros((self.model.hops, self.dim), np.float32))

    def step(self, state: ReadoutState, embedding: F32) -> dict[str, float]:
        """``embedding`` (dim,); each readout by name, nothing before ``hops`` hops were seen."""
        state.ring[state.seen % len(state.ring)] = embedding
        state.seen += 1
        if state.seen < len(state.ring):
            return {}
        return dict(zip(self.model.names, self._said(pooled(state.ring)), strict=True))

    def _said(self, features: F32) -> list[float]:
        said: list[float] = (self._weights @ features + self._bias).tolist()
        return said


def pooled(embeddings: F32) -> F32:
    """Mean and standard deviation over the hops: (…, hops, dim) → (…, 2 dim)."""
    mean = embeddings.mean(-2)
    spread = np.sqrt(np.maximum(np.square(embeddings).mean(-2) - np.square(mean), 0))
    return np.concatenate([mean, spread], -1)
