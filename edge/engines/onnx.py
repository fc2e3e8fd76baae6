"""ONNX Runtime engine, on the CPU provider."""

from edge.bundle import EncoderShape
from edge.engines.bound import BoundEngine
from edge.engines.engine import INPUTS, OUTPUTS, check_shapes
from firmware_bridge.errors import BadInput, not_installed

FATAL = 4  # ONNX Runtime's log severity: what goes wrong reaches us as exceptions


class OnnxEngine(BoundEngine):
    """One session, its tensors bound once to arrays of ours."""

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
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exception types have no public common base
            first = str(error).strip().partition("\n")[0][:120]
            raise BadInput(f"{label}: not a model that ONNX Runtime can load ({first})") from None
        inputs, outputs = session.get_inputs(), session.get_outputs()
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
        super().__init__(shape, hop)
        binding = session.io_binding()
        # An OrtValue on the CPU is the array's own memory, not a copy.
        for name, array in zip(INPUTS, self.inputs, strict=True):
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for tensor, array in zip(outputs, self.outputs, strict=False):
            binding.bind_ortvalue_output(tensor.name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        self._session, self._binding = session, binding

    def run(self) -> None:
        """The bound inputs to the bound outputs."""
        self._session.run_with_iobinding(self._binding)
