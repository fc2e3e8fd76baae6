"""An encoder for each engine: converted, checked hop by hop against PyTorch, and quantized as a plan says.

Two forms of the same weights: the step (one patch, explicit state), which devices run and a bundle holds, and the
window (a stretch of patches at once), made on demand. How each engine does it is in :mod:`quantize.litert`,
:mod:`quantize.onnx` and :mod:`quantize.executorch`.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge.bundle import EncoderShape
from edge.engines import EngineState, StepOutput, load_engine
from edge.engines.engine import OUTPUTS, write_mask
from quantize.plan import Plan, layers
from trainer.encoder import Encoder, EncoderConfig, StepForm

F32 = NDArray[np.float32]
EngineName = Literal["litert", "onnx", "executorch"]
Form = Literal["step", "window"]
Method = str  # a slug of quantize.methods.table.METHODS

ENGINE_NAMES: tuple[EngineName, ...] = ("litert", "executorch", "onnx")  # the preferred first
SUFFIX = {"litert": "tflite", "onnx": "onnx", "executorch": "pte"}
# One ONNX graph is in single-assignment form: the new rings need names of their own.
ONNX_OUTPUTS = ("scores", "embedding", "k_next", "v_next")
WINDOW_OUTPUTS = ("scores", "embedding")
WINDOW_CONTEXTS = 2  # a window's patches, in lengths of the context

# Conversion is right to float rounding or wrong altogether; measured differences are below 1e-5.
PARITY_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Artefact:
    """One converted model: what a bundle's engine file holds."""

    engine: EngineName
    method: Method
    model: bytes
    form: Form = "step"

    @property
    def file(self) -> str:
        """Its file name in a bundle."""
        window = "window-" if self.form == "window" else ""
        return f"encoder-{window}{self.method}.{SUFFIX[self.engine]}"


class ConversionError(RuntimeError):
    """A converted graph does not compute what the PyTorch form computes: a converter's bug, not bad input."""


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


class NamedStep(torch.nn.Module):
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
    """fp32 step artefact for one engine, checked hop by hop against PyTorch over more hops than the context is long.

    The check also proves the order of inputs and outputs: exchanged rings would differ at once. Raises
    :class:`ConversionError`.
    """
    if engine == "litert":
        from quantize.litert import to_litert

        model = to_litert(NamedStep(encoder), _example(encoder))
    elif engine == "onnx":
        from quantize.onnx import to_onnx

        model = to_onnx(StepForm(encoder), _example(encoder), ONNX_OUTPUTS)
    else:
        from quantize.executorch import to_executorch

        model = to_executorch(encoder)
    artefact = Artefact(engine, "fp32", model)
    config = encoder.config
    patches = np.random.default_rng(0).standard_normal((config.context + 5, config.hop)).astype(np.float32)
    check(artefact, largest_difference(artefact, encoder, patches))
    return artefact


def window_patches(encoder: Encoder) -> int:
    """How many patches the window form takes at once."""
    return WINDOW_CONTEXTS * encoder.config.context


def check(artefact: Artefact, difference: float) -> None:
    """Raise :class:`ConversionError` where an fp32 artefact differs from PyTorch by more than float rounding."""
    if not difference < PARITY_TOLERANCE:
        raise ConversionError(
            f"{artefact.file}: differs from PyTorch by {difference:.2g}, more than {PARITY_TOLERANCE}"
        )


def quantized(fp32: Artefact, encoder: Encoder, plan: Plan, method: Method) -> Artefact:
    """``fp32``, converted from ``encoder``, with each layer in the arithmetic of ``plan``; of the same form."""
    missing = [name for name in layers(encoder) if name not in plan]
    if missing:
        raise ValueError(f"plan for {method}: says nothing of {', '.join(missing)}")
    if fp32.engine == "litert":
        from quantize.litert import quantize_litert

        model = quantize_litert(fp32.model, encoder, plan)
    elif fp32.engine == "onnx":
        from quantize.onnx import quantize_onnx

        model = quantize_onnx(fp32.model, encoder, plan)
    else:  # ExecuTorch has no file to start from: it lowers PyTorch's graph
        from quantize.executorch import lower, lower_window

        window = fp32.form == "window"
        model = (lower_window(encoder, window_patches(encoder), plan) if window else lower(encoder, plan)).model
    return Artefact(fp32.engine, method, model, fp32.form)
