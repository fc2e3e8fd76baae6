"""What an engine is: one step of the encoder with explicit state, whatever library runs it.

The graph's contract (ARCHITECTURE: "a step with explicit state"): inputs ``patch`` (1, hop), rings ``k`` and ``v``
(layers, heads, context-1, head_dim) and ``mask`` (1, 1, context); outputs ``scores`` (1, K), ``embedding`` (1, dim)
and the new ``k`` and ``v``; all float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge.bundle import EncoderShape
from edge.frontend import F32
from firmware_bridge.errors import BadInput

# Added to the attention logits of context that does not exist yet; finite, so that int8 graphs stay finite.
# The encoder was trained with the same number (trainer.encoder.MASKED; edge may not import trainer).
MASKED = np.float32(-1e4)

INPUTS = ("patch", "k", "v", "mask")
OUTPUTS = ("scores", "embedding", "k", "v")


@dataclass(slots=True)
class EngineState:
    """Key and value rings, each (layers, heads, context-1, head_dim) float32, oldest first, and the hops seen."""

    k: F32
    v: F32
    hops: int = 0

    @classmethod
    def empty(cls, shape: EncoderShape) -> "EngineState":
        """The state before the first hop of a segment."""
        ring = (shape.layers, shape.heads, shape.context - 1, shape.head_dim)
        return cls(np.zeros(ring, np.float32), np.zeros(ring, np.float32))

    def copy(self) -> "EngineState":
        """A snapshot: stepping either one leaves the other as it is."""
        return EngineState(self.k.copy(), self.v.copy(), self.hops)


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What one hop gives: ``scores`` (K,) unnormalised, ``embedding`` (dim,), both float32 and the caller's own."""

    scores: F32
    embedding: F32


class Engine(Protocol):
    """A loaded encoder. One engine may serve many states; it holds none of its own, so the same state and patch
    give the same bits at every call."""

    name: str

    def start(self) -> EngineState:
        """The state at the start of a segment."""
        ...

    def step(self, state: EngineState, patch: F32) -> StepOutput:
        """One hop: ``patch`` (hop,) float32, all finite; updates ``state``."""
        ...


def write_mask(mask: F32, hops: int) -> None:
    """Fill ``mask`` (1, 1, context) for the hop after ``hops`` earlier ones: 0 where context exists."""
    missing = max(0, mask.shape[-1] - 1 - hops)
    mask[..., :missing] = MASKED
    mask[..., missing:] = 0.0


def expected_shapes(shape: EncoderShape, hop: int) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Shapes of the graph's inputs and outputs that a manifest promises."""
    ring = (shape.layers, shape.heads, shape.context - 1, shape.head_dim)
    inputs = {"patch": (1, hop), "k": ring, "v": ring, "mask": (1, 1, shape.context)}
    outputs = {"scores": (1, shape.codebook_size), "embedding": (1, shape.heads * shape.head_dim), "k": ring, "v": ring}
    return inputs, outputs


def check_shapes(
    label: str, shape: EncoderShape, hop: int, inputs: Mapping[str, Sequence[int]], outputs: Mapping[str, Sequence[int]]
) -> None:
    """Raise :class:`BadInput` where a model's tensors are not those that the manifest describes."""
    for side, wanted, found in zip(("input", "output"), expected_shapes(shape, hop), (inputs, outputs), strict=True):
        for name, dims in wanted.items():
            if name not in found:
                raise BadInput(
                    f"{label}: has no {side} named {name!r}; make the bundle again with `pulsecode quantize`"
                )
            if tuple(found[name]) != dims:
                raise BadInput(
                    f"{label}: {side} {name!r} has shape {tuple(found[name])}, the manifest's encoder says {dims}; "
                    "make the bundle again with `pulsecode quantize`"
                )
