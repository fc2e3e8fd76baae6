"""The step graph of an encoder, converted for each engine and quantized to int8.

Only the matrix products with weights (fully connected, convolution) are quantized: they hold almost all of the
weights and the time, whereas int8 LayerNorm, softmax and attention products are slower and less faithful in every
engine that was measured. Static int8 fixes the activations' scales from calibration streams; dynamic int8 finds them
at every hop.
"""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.bundle import EncoderShape
from edge.engines import EngineState, StepOutput, load_engine
from edge.engines.engine import INPUTS, OUTPUTS, write_mask
from quantize.quiet import quiet_libraries
from trainer.encoder import Encoder, EncoderConfig, StepForm

F32 = NDArray[np.float32]
EngineName = Literal["litert", "onnx"]
Method = Literal["fp32", "static", "dynamic"]

ENGINE_NAMES: tuple[EngineName, ...] = ("litert", "onnx")
METHODS: tuple[Method, ...] = ("fp32", "static", "dynamic")
SUFFIX = {"litert": "tflite", "onnx": "onnx"}
METHOD_TEXT = {"fp32": "fp32", "static": "int8 static (FC, Conv)", "dynamic": "int8 dynamic"}

# Conversion is right to float rounding or wrong altogether; measured differences are below 1e-5.
PARITY_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Artefact:
    """One converted model: what a bundle's engine file holds."""

    engine: EngineName
    method: Method
    model: bytes

    @property
    def file(self) -> str:
        """Its file name in a bundle."""
        return f"encoder-{self.method}.{SUFFIX[self.engine]}"


class ConversionError(RuntimeError):
    """A converted graph does not compute what the PyTorch step form computes: a converter's bug, not bad input."""


def encoder_shape(config: EncoderConfig) -> EncoderShape:
    """The manifest's description of an encoder."""
    return EncoderShape(
        layers=config.layers,
        heads=config.heads,
        head_dim=config.dim // config.heads,
        context=config.context,
        lookahead=config.lookahead,
        codebook_size=config.codebook_size,
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread inside: a batch of one gains nothing from more, and times are compared per thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class TorchStep:
    """The fp32 step form in PyTorch behind the same protocol as the edge's engines: the reference of every figure."""

    name = "torch"

    def __init__(self, encoder: Encoder) -> None:
        self._form = StepForm(encoder).eval()
        self._shape = encoder_shape(encoder.config)

    def start(self) -> EngineState:
        """The state at the start of a segment."""
        return EngineState.empty(self._shape)

    def inputs(self, state: EngineState, patch: F32) -> dict[str, F32]:
        """What the graph is fed at this hop, by input name; copies."""
        mask = np.zeros((1, 1, self._shape.context), np.float32)
        write_mask(mask, state.hops)
        return {"patch": patch[None].copy(), "k": state.k.copy(), "v": state.v.copy(), "mask": mask}

    def step(self, state: EngineState, patch: F32) -> StepOutput:
        """One hop: ``patch`` (hop,) float32; updates ``state``."""
        with torch.inference_mode():
            feed = [torch.from_numpy(array) for array in self.inputs(state, patch).values()]
            scores, embedding, k, v = self._form(*feed)
        state.k, state.v, state.hops = k.numpy(), v.numpy(), state.hops + 1
        return StepOutput(scores[0].numpy(), embedding[0].numpy())


def calibration_feeds(encoder: Encoder, streams: Iterable[F32]) -> Iterator[dict[str, F32]]:
    """The step graph's inputs along streams of patches, each (hops, hop): rings as they are in real use."""
    reference = TorchStep(encoder)
    for patches in streams:
        state = reference.start()
        for patch in patches:
            yield reference.inputs(state, patch)
            reference.step(state, patch)


class _Named(torch.nn.Module):
    """The step form with its outputs named, so that a LiteRT signature names them too."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.form = StepForm(encoder)

    def forward(self, patch: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return dict(zip(OUTPUTS, self.form(patch, k, v, mask), strict=True))


def _example(encoder: Encoder) -> dict[str, Tensor]:
    reference = TorchStep(encoder)
    feed = reference.inputs(reference.start(), np.zeros(encoder.config.hop, np.float32))
    return {name: torch.from_numpy(array) for name, array in feed.items()}


def to_litert(encoder: Encoder) -> bytes:
    """fp32 LiteRT flatbuffer of the step form, with named inputs and outputs."""
    with quiet_libraries():
        import litert_torch

        converted = litert_torch.convert(_Named(encoder).eval(), sample_kwargs=_example(encoder))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "step.tflite"
            converted.export(str(path))
            return path.read_bytes()


def quantize_litert(model: bytes, method: Method, feeds: Sequence[dict[str, F32]]) -> bytes:
    """int8 weights per output channel; ``static`` also int8 activations calibrated on ``feeds``."""
    with quiet_libraries():
        from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe_manager
        from ai_edge_quantizer.utils import qsv_utils

        recipe = recipe_manager.RecipeManager()
        for op in (qtyping.TFLOperationName.FULLY_CONNECTED, qtyping.TFLOperationName.CONV_2D):
            if method == "static":
                recipe.add_static_config(".*", op, activation_num_bits=8, weight_num_bits=8)
            else:
                recipe.add_dynamic_config(".*", op, num_bits=8)
        ranges = None
        if method == "static":
            # The quantizer's own calibrate() averages each hop's extremes, so half of all hops would be clipped.
            observer = calibrator.Calibrator(model, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
            observer.calibrate({"serving_default": list(feeds)}, recipe)
            ranges = observer.get_model_qsvs()
        tool = quantizer.Quantizer(bytearray(model), recipe.get_quantization_recipe())
        return bytes(tool.quantize(ranges).quantized_model)


def to_onnx(encoder: Encoder) -> bytes:
    """fp32 ONNX of the step form; inputs named, outputs in the contract's order."""
    with quiet_libraries():
        example = _example(encoder)
        program = torch.onnx.export(
            StepForm(encoder).eval(),
            tuple(example[name] for name in INPUTS),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=list(INPUTS),
            # One ONNX graph is in single-assignment form: the new rings need names of their own.
            output_names=["scores", "embedding", "k_next", "v_next"],
        )
        assert program is not None
        return _serialized(program.model_proto)


def _serialized(model: Any) -> bytes:
    """Bytes of an ONNX model without the exporter's stack traces, which hold this machine's paths."""
    parts = [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]
    parts += model.graph.initializer
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def quantize_onnx(model: bytes, method: Method, feeds: Sequence[dict[str, F32]]) -> bytes:
    """int8 weights per output channel; ``static`` (QDQ) also uint8 activations calibrated on ``feeds``.

    Unsigned activations: x86 has a fast u8·s8 product and a slow s8·s8 one; on Arm they are equal.
    """
    with quiet_libraries(), tempfile.TemporaryDirectory() as folder:
        import onnx
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        raw, prepared, result = (Path(folder) / name for name in ("raw.onnx", "prepared.onnx", "int8.onnx"))
        raw.write_bytes(model)
        quant_pre_process(str(raw), str(prepared))
        ops = ["Conv", "Gemm", "MatMul"]
        if method == "static":
            quantization.quantize_static(
                str(prepared),
                str(result),
                _reader(feeds),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=ops,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        else:
            quantization.quantize_dynamic(
                str(prepared),
                str(result),
                op_types_to_quantize=ops,
                per_channel=True,
                weight_type=quantization.QuantType.QInt8,
            )
        return _serialized(onnx.load(str(result)))


def _reader(feeds: Sequence[dict[str, F32]]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """ONNX Runtime pulls one feed at a time."""

        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> dict[str, F32] | None:
            return next(self._feeds, None)

    return Reader()


CONVERT = {"litert": to_litert, "onnx": to_onnx}
QUANTIZE = {"litert": quantize_litert, "onnx": quantize_onnx}


def largest_difference(artefact: Artefact, encoder: Encoder, patches: F32) -> float:
    """Largest |Δ| of any output, rings included, from the PyTorch step form along ``patches`` (hops, hop)."""
    config = encoder.config
    engine = load_engine(artefact.engine, artefact.model, encoder_shape(config), config.hop, label=artefact.file)
    reference = TorchStep(encoder)
    state, wanted_state = engine.start(), reference.start()
    worst = 0.0
    for patch in patches:
        with one_thread():
            out, wanted = engine.step(state, patch), reference.step(wanted_state, patch)
        pairs = (
            (out.scores, wanted.scores),
            (out.embedding, wanted.embedding),
            (state.k, wanted_state.k),
            (state.v, wanted_state.v),
        )
        worst = max(worst, *(float(np.abs(a - b).max()) for a, b in pairs))
    return worst


def convert(encoder: Encoder, engine: EngineName) -> Artefact:
    """fp32 artefact for one engine, checked hop by hop against PyTorch over more hops than the context is long.

    The check also proves the order of inputs and outputs: exchanged rings would differ at once. Raises
    :class:`ConversionError`.
    """
    artefact = Artefact(engine, "fp32", CONVERT[engine](encoder))
    config = encoder.config
    patches = np.random.default_rng(0).standard_normal((config.context + 5, config.hop)).astype(np.float32)
    worst = largest_difference(artefact, encoder, patches)
    if not worst < PARITY_TOLERANCE:
        raise ConversionError(f"{artefact.file}: differs from PyTorch by {worst:.2g}, more than {PARITY_TOLERANCE}")
    return artefact


def quantized(fp32: Artefact, method: Method, feeds: Sequence[dict[str, F32]]) -> Artefact:
    """The int8 artefact of a converted model; ``feeds`` from :func:`calibration_feeds` (used by ``static`` only)."""
    return Artefact(fp32.engine, method, QUANTIZE[fp32.engine](fp32.model, method, feeds))
