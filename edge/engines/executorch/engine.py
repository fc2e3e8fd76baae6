"""The ExecuTorch engine: a .pte program, its weights' products in the XNNPACK delegate, run by the shim."""

import ctypes
import weakref

import numpy as np
from numpy.typing import NDArray

from edge.bundle import EncoderShape
from edge.engines.bound import BoundEngine
from edge.engines.engine import INPUTS, OUTPUTS, check_shapes
from edge.engines.executorch.library import BUILD_COMMAND, MAX_RANK, built, open_library
from firmware_bridge.errors import BadInput

ALIGNMENT = 64  # ExecuTorch reads a program where it lies, and its segments' alignment counts from there

# executorch/runtime/core/error.h; from 1000 on the shim's own.
_ERRORS = {
    0x10: "an operation that it does not support",
    0x14: "an operator that this runtime does not have",
    0x20: "it has no `forward`, or a delegate that this runtime does not have",
    0x21: "not enough memory",
    0x23: "the program is damaged",
    0x30: "made for another version of the runtime",
    1000: "not enough memory",
    1001: "a tensor is not float32",
    1002: "a tensor has too many dimensions",
    1003: "a tensor cannot be bound; make the bundle again with `pulsecode quantize`",
}


class ExecuTorchEngine(BoundEngine):
    """One program, its tensors bound once to arrays of ours.

    It runs in the caller's thread alone: ExecuTorch's pool takes every core or none, and a batch of one gains nothing.
    """

    name = "executorch"

    def __init__(self, model: bytes, shape: EncoderShape, hop: int, *, label: str = "model") -> None:
        """Load ``model`` (a .pte file's bytes); :class:`BadInput` if it is damaged or not of this ``shape``, or if
        the runtime has not been built."""
        folder = built()
        if folder is None:
            raise BadInput(f"engine executorch: its runtime is not installed; build it with `{BUILD_COMMAND}`")
        super().__init__(shape, hop)
        self._library, self._label, handle = open_library(folder), label, ctypes.c_void_p()
        self._model = _aligned(model)
        self._check(self._library.pulsecode_load(self._model.ctypes.data, len(model), ctypes.byref(handle)))
        # Called while this object's arrays still exist; they are what the program is bound to.
        weakref.finalize(self, self._library.pulsecode_free, handle)
        inputs, outputs = ctypes.c_int32(), ctypes.c_int32()
        self._library.pulsecode_count(handle, ctypes.byref(inputs), ctypes.byref(outputs))
        # The program's tensors have no names: they go by position, and one that is not there is told by name.
        found_inputs = {name: self._dims(handle, 0, i) for i, name in enumerate(INPUTS[: inputs.value])}
        found_outputs = {name: self._dims(handle, 1, i) for i, name in enumerate(OUTPUTS[: outputs.value])}
        check_shapes(label, shape, hop, found_inputs, found_outputs)
        for i, array in enumerate(self.inputs):
            self._check(self._library.pulsecode_bind_input(handle, i, array.ctypes.data, array.nbytes))
        for i, array in enumerate(self.outputs):
            self._check(self._library.pulsecode_bind_output(handle, i, array.ctypes.data, array.nbytes))
        self._handle = handle

    def run(self) -> None:
        """The bound inputs to the bound outputs."""
        self._check(self._library.pulsecode_step(self._handle))

    def _check(self, code: int) -> None:
        if code:
            why = _ERRORS.get(code, f"error {code:#x}")
            raise BadInput(f"{self._label}: not a model that ExecuTorch can run ({why})")

    def _dims(self, handle: ctypes.c_void_p, output: int, index: int) -> tuple[int, ...]:
        dims, rank = (ctypes.c_int32 * MAX_RANK)(), ctypes.c_int32()
        self._check(self._library.pulsecode_shape(handle, output, index, dims, MAX_RANK, ctypes.byref(rank)))
        return tuple(dims[: rank.value])


def _aligned(model: bytes) -> NDArray[np.uint8]:
    """A copy of ``model`` that begins at a multiple of :data:`ALIGNMENT`."""
    room = np.empty(len(model) + ALIGNMENT, np.uint8)
    offset = -room.ctypes.data % ALIGNMENT
    copy = room[offset : offset + len(model)]
    copy[:] = np.frombuffer(model, np.uint8)
    return copy
