"""What engines share whose graph is tied to memory of ours: a hop copies in, runs and copies out, and allocates
nothing but the outputs that it gives away."""

import numpy as np

from edge.bundle import EncoderShape
from edge.engines.engine import INPUTS, OUTPUTS, EngineState, StepOutput, expected_shapes, write_mask
from edge.frontend import F32


class BoundEngine:
    """``inputs`` and ``outputs``: arrays in the contract's order, which a subclass ties its graph to."""

    def __init__(self, shape: EncoderShape, hop: int) -> None:
        inputs, outputs = expected_shapes(shape, hop)
        self._shape = shape
        self.inputs = [np.zeros(inputs[name], np.float32) for name in INPUTS]
        self.outputs = [np.zeros(outputs[name], np.float32) for name in OUTPUTS]

    def run(self) -> None:
        """Compute :attr:`outputs` from :attr:`inputs`."""
        raise NotImplementedError

    def start(self) -> EngineState:
        """The state at the start of a segment."""
        return EngineState.empty(self._shape)

    def step(self, state: EngineState, patch: F32) -> StepOutput:
        """One hop: ``patch`` (hop,) float32; updates ``state`` in place."""
        in_patch, in_k, in_v, in_mask = self.inputs
        in_patch[0] = patch
        in_k[...] = state.k
        in_v[...] = state.v
        write_mask(in_mask, state.hops)
        self.run()
        scores, embedding, out_k, out_v = self.outputs
        state.k[...] = out_k
        state.v[...] = out_v
        state.hops += 1
        return StepOutput(scores[0].copy(), embedding[0].copy())
