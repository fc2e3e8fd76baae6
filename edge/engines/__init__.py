"""Engines: the libraries that run a bundle's encoder, one hop at a time, behind one small protocol."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from edge.bundle import Bundle, EncoderShape
from edge.engines.engine import Engine, EngineState, StepOutput
from edge.engines.executorch.library import built
from firmware_bridge.errors import BadInput

__all__ = ["ENGINES", "Engine", "EngineKind", "EngineState", "StepOutput", "load_engine", "open_engine"]


@dataclass(frozen=True)
class EngineKind:
    """A library that can run an encoder. ``load`` (model, shape, hop, threads, label) makes an engine of it;
    ``installed`` says, without importing anything heavy, whether this machine has it."""

    load: Callable[[bytes, EncoderShape, int, int, str], Engine]
    installed: Callable[[], bool]


def _litert(model: bytes, shape: EncoderShape, hop: int, threads: int, label: str) -> Engine:
    from edge.engines.litert import LiteRTEngine

    return LiteRTEngine(model, shape, hop, threads=threads, label=label)


def _executorch(model: bytes, shape: EncoderShape, hop: int, threads: int, label: str) -> Engine:
    from edge.engines.executorch.engine import ExecuTorchEngine

    return ExecuTorchEngine(model, shape, hop, label=label)  # one thread is never more than ``threads``


def _onnx(model: bytes, shape: EncoderShape, hop: int, threads: int, label: str) -> Engine:
    from edge.engines.onnx import OnnxEngine

    return OnnxEngine(model, shape, hop, threads=threads, label=label)


def _has(*packages: str) -> Callable[[], bool]:
    return lambda: any(importlib.util.find_spec(package) for package in packages)


# In the order they are preferred, which is that of their speed (`pulsecode bench latency`).
ENGINES: dict[str, EngineKind] = {
    "litert": EngineKind(_litert, _has("ai_edge_litert", "tflite_runtime")),
    "executorch": EngineKind(_executorch, lambda: built() is not None),
    "onnx": EngineKind(_onnx, _has("onnxruntime")),
}


def load_engine(
    name: str, model: bytes, shape: EncoderShape, hop: int, *, threads: int = 1, label: str = "model"
) -> Engine:
    """Load the bytes of one engine's model, to run on at most ``threads``; ``label`` names them in errors. Raises
    :class:`BadInput`."""
    if name not in ENGINES:
        raise BadInput(f"engine {name!r} is unknown; known: {', '.join(ENGINES)}")
    if threads < 1:
        raise BadInput(f"engine {name}: threads must be at least 1, not {threads}")
    return ENGINES[name].load(model, shape, hop, threads, label)


def open_engine(bundle: Bundle, name: str | None = None, threads: int = 1) -> Engine:
    """The bundle's engine ``name``, or the first of :data:`ENGINES` that it ships and that is installed.

    Raises :class:`BadInput` if the bundle has no such engine, it is not installed, or the model is not the one
    that the manifest describes.
    """
    shipped = bundle.manifest.engines
    if name is None:
        usable = [known for known in ENGINES if known in shipped]
        installed = [known for known in usable if ENGINES[known].installed()]
        if not usable:
            raise BadInput(
                f"bundle {bundle.path}: ships engines {', '.join(shipped)}; this version runs {', '.join(ENGINES)}"
            )
        # With none installed the preferred one says what to install.
        name = (installed or usable)[0]
    elif name not in shipped:
        raise BadInput(f"bundle {bundle.path}: has no engine {name!r}; it ships {', '.join(shipped)}")
    file = shipped[name].file
    manifest = bundle.manifest
    label = f"bundle {bundle.path}: {file}"
    return load_engine(name, bundle.read(file), manifest.encoder, manifest.frontend.hop, threads=threads, label=label)
