"""LiteRT (TensorFlow Lite) engine; the older ``tflite_runtime`` serves where LiteRT has no wheel (armv7l)."""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from edge.bundle import EncoderShape
from edge.engines.engine import INPUTS, OUTPUTS, EngineState, StepOutput, check_shapes, write_mask
from edge.engines.old_tflite import repaired
from edge.frontend import F32
from firmware_bridge.errors import BadInput, not_installed


def _runtime() -> tuple[ModuleType, bool]:
    """The interpreter's module, and whether it is the old one."""
    for name in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        try:
            return importlib.import_module(name), name.startswith("tflite_runtime")
        except ImportError:
            continue
    raise not_installed("engine litert: LiteRT", "device")


@contextlib.contextmanager
def _without_info_lines() -> Iterator[None]:
    """Drop the "INFO: Created … delegate" that the C++ runtime writes to file descriptor 2 and cannot be told to
    leave out: it would tear the live view. Anything else written meanwhile is passed on."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all (a service with it closed): nothing to protect
        yield
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            caught.seek(0)
            for line in caught:
                if not line.startswith(b"INFO:"):
                    os.write(2, line)
            os.close(kept)


class LiteRTEngine:
    """One interpreter, its tensors resolved once; a hop copies the state in and out of them without allocating."""

    name = "litert"

    def __init__(self, model: bytes, shape: EncoderShape, hop: int, *, threads: int = 1, label: str = "model") -> None:
        """Load ``model`` (a .tflite flatbuffer); :class:`BadInput` if it is damaged or not of this ``shape``."""
        runtime, old = _runtime()
        try:
            model = repaired(model) if old else model
            with _without_info_lines():
                self._interpreter = runtime.Interpreter(model_content=model, num_threads=threads)
                self._interpreter.allocate_tensors()
            runner = self._interpreter.get_signature_runner()
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise BadInput(f"{label}: not a LiteRT model with one signature ({_first_line(error)})") from None
        check_shapes(
            label,
            shape,
            hop,
            {name: detail["shape"].tolist() for name, detail in inputs.items()},
            {name: detail["shape"].tolist() for name, detail in outputs.items()},
        )
        for name, detail in (*inputs.items(), *outputs.items()):
            if detail["dtype"] is not np.float32:
                raise BadInput(
                    f"{label}: tensor {name!r} is not float32; make the bundle again with `pulsecode quantize`"
                )
        # Views of the interpreter's own tensors may not be kept across a call; these functions make them anew.
        self._inputs = [self._interpreter.tensor(inputs[name]["index"]) for name in INPUTS]
        self._outputs = [self._interpreter.tensor(outputs[name]["index"]) for name in OUTPUTS]
        self._shape = shape

    def start(self) -> EngineState:
        """The state at the start of a segment."""
        return EngineState.empty(self._shape)

    def step(self, state: EngineState, patch: F32) -> StepOutput:
        """One hop: ``patch`` (hop,) float32; updates ``state`` in place."""
        in_patch, in_k, in_v, in_mask = self._inputs
        in_patch()[0] = patch
        in_k()[...] = state.k
        in_v()[...] = state.v
        write_mask(in_mask(), state.hops)
        self._interpreter.invoke()
        scores, embedding, out_k, out_v = self._outputs
        state.k[...] = out_k()
        state.v[...] = out_v()
        state.hops += 1
        return StepOutput(scores()[0].copy(), embedding()[0].copy())


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:120]
