"""ONNX Runtime engine, on the CPU provider."""

import numpy as np

from edge.bundle import EncoderShape
from edge.engines.engine import OUTPUTS, EngineState, StepOutput, check_shapes, write_mask
from edge.frontend import F32
from firmware_bridge.errors import BadInput, not_installed

FATAL = 4  # ONNX Runtime's log severity: what goes wrong reaches us as exceptions


class OnnxEngine:
    """One session; a hop hands the state's own arrays over and takes the new ones."""

    name = "onnx"

    def __init__(self, model: bytes, shape: EncoderShape, hop: int, *, threads: int = 1, label: str = "model") -> None:
        """Load ``model`` (an .onnx file's bytes); :class:`BadInput` if it is damaged or not of this ``shape``."""
        try:
            import onnxruntime
        except ImportError:
            raise not_installed("engine onnx: ONNX Runtime", "onnx") from None
        onnxruntime.set_default_logger_severity(FATAL)
        onnxruntime.disable_telemetry_events()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        # A waiting thread that spins would burn the battery between hops.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exception types have no public common base
            first = str(error).strip().partition("\n")[0][:120]
            raise BadInput(f"{label}: not a model that ONNX Runtime can load ({first})") from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        # The new rings cannot share the names of the old ones inside one ONNX graph: outputs go by position, and one
        # that is not there is told by name below.
        check_shapes(
            label,
            shape,
            hop,
            {tensor.name: tensor.shape for tensor in inputs},
            {name: tensor.shape for name, tensor in zip(OUTPUTS, outputs, strict=False)},
        )
        for tensor in (*inputs, *outputs):
            if tensor.type != "tensor(float)":
                raise BadInput(
                    f"{label}: tensor {tensor.name!r} is not float32; make the bundle again with `pulsecode quantize`"
                )
        self._output_names = [tensor.name for tensor in outputs]
        self._shape = shape
        self._mask = np.zeros((1, 1, shape.context), np.float32)

    def start(self) -> EngineState:
        """The state at the start of a segment."""
        return EngineState.empty(self._shape)

    def step(self, state: EngineState, patch: F32) -> StepOutput:
        """One hop: ``patch`` (hop,) float32; updates ``state``."""
        write_mask(self._mask, state.hops)
        feed = {"patch": patch[np.newaxis], "k": state.k, "v": state.v, "mask": self._mask}
        scores, embedding, state.k, state.v = self._session.run(self._output_names, feed)
        state.hops += 1
        return StepOutput(scores[0], embedding[0])
