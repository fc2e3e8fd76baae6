"""Engines: the libraries that run a bundle's encoder, one hop at a time, behind one small protocol."""

import importlib.util
from collections.abc import Callable

from edge.bundle import Bundle, EncoderShape
from edge.engines.engine import Engine, EngineState, StepOutput
from firmware_bridge.errors import BadInput

__all__ = ["ENGINES", "Engine", "EngineState", "StepOutput", "load_engine", "open_engine"]


def _litert(model: bytes, shape: EncoderShape, hop: int, threads: int, label: str) -> Engine:
    from edge.engines.litert import LiteRTEngine

    return LiteRTEngine(model, shape, hop, threads=threads, label=label)


def _onnx(model: bytes, shape: EncoderShape, hop: int, threads: int, label: str) -> Engine:
    from edge.engines.onnx import OnnxEngine

    return OnnxEngine(model, shape, hop, threads=threads, label=label)


# In the order they are preferred; each with the packages of which one must be installed.
ENGINES: dict[str, Callable[[bytes, EncoderShape, int, int, str], Engine]] = {"litert": _litert, "onnx": _onnx}
PACKAGES = {"litert": ("ai_edge_litert", "tflite_runtime"), "onnx": ("onnxruntime",)}


def load_engine(
    name: str, model: bytes, shape: EncoderShape, hop: int, *, threads: int = 1, label: str = "model"
) -> Engine:
    """Load the bytes of one engine's model; ``label`` names them in errors. Raises :class:`BadInput`."""
    if name not in ENGINES:
        raise BadInput(f"engine {name!r} is unknown; known: {', '.join(ENGINES)}")
    if threads < 1:
        raise BadInput(f"engine {name}: threads must be at least 1, not {threads}")
    return ENGINES[name](model, shape, hop, threads, label)


def open_engine(bundle: Bundle, name: str | None = None, threads: int = 1) -> Engine:
    """The bundle's engine ``name``, or the first of :data:`ENGINES` that it ships and whose package is installed.

    Raises :class:`BadInput` if the bundle has no such engine, its package is missing, or the model is not the one
    that the manifest describes.
    """
    shipped = bundle.manifest.engines
    if name is None:
        usable = [known for known in ENGINES if known in shipped]
        installed = [known for known in usable if any(map(importlib.util.find_spec, PACKAGES[known]))]
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
