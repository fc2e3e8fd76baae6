"""Which engines this machine has, in which version, and what is missing for the others."""

import importlib
import importlib.metadata
import importlib.util
import platform
from dataclasses import dataclass

from edge.engines import ENGINES
from edge.engines.executorch.build import compiler, installed_wheel
from edge.engines.executorch.library import BUILD_COMMAND, built, built_version, open_library
from firmware_bridge.errors import BadInput

_LITERT = (("ai_edge_litert", "ai-edge-litert"), ("tflite_runtime", "tflite-runtime"))
_ONNX = (("onnxruntime", "onnxruntime"),)


@dataclass(frozen=True)
class Found:
    """One engine on this machine: ``runtime`` names what would run it with its version; ``lacks`` says what is
    missing and what to do, empty where the engine is ready."""

    engine: str
    runtime: str
    lacks: str


def _imports(module: str) -> str:
    """Empty if ``module`` can be imported, else why not."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a compiled package built for another numpy fails in its own way
        first = str(error).strip().partition("\n")[0][:100]
        return f"does not import here ({first})"
    return ""


def _package(engine: str, packages: tuple[tuple[str, str], ...], extra: str) -> Found:
    for module, distribution in packages:
        if importlib.util.find_spec(module):
            runtime = f"{distribution} {importlib.metadata.version(distribution)}"
            main = f"{module}.interpreter" if engine == "litert" else module
            return Found(engine, runtime, _imports(main))
    return Found(engine, "-", f"not installed: `pip install 'pulsecode[{extra}]'`")


def _executorch() -> Found:
    folder, wheel = built(), installed_wheel()
    if folder is not None:
        try:
            open_library(folder)
        except BadInput as error:
            return Found("executorch", f"executorch {built_version(folder)}", str(error))
        return Found("executorch", f"executorch {built_version(folder)}, without torch", "")
    missing = []
    if wheel is None:
        missing.append("the wheel (`pip install --no-deps 'executorch>=1.5'`)")
    if compiler() is None:
        missing.append("a C++ compiler (Debian: `sudo apt install g++`)")
    runtime = f"executorch {wheel.version}" if wheel else "-"
    todo = f"not built: `{BUILD_COMMAND}`"
    return Found("executorch", runtime, f"{todo}, which needs {' and '.join(missing)}" if missing else todo)


def inventory() -> list[Found]:
    """Every engine, in the order they are preferred."""
    found = {
        "litert": _package("litert", _LITERT, "device"),
        "executorch": _executorch(),
        "onnx": _package("onnx", _ONNX, "onnx"),
    }
    return [found[name] for name in ENGINES]


def table() -> str:
    """The inventory in lines of text."""
    rows = [("engine", "runtime", "")]
    rows += [(found.engine, found.runtime, found.lacks or "ready") for found in inventory()]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    lines = [f"{name:<{widths[0]}}  {runtime:<{widths[1]}}  {state}".rstrip() for name, runtime, state in rows]
    return "\n".join(
        [
            *lines,
            f"on {platform.system()} {platform.machine()}; the first that is ready and that a bundle ships is used",
        ]
    )
