"""Builds the shim from the executorch wheel's own headers and torch-free libraries."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge.engines.executorch.library import SHIM, SOURCE, cache_folder, folder_name
from firmware_bridge.errors import BadInput

# The runtime; one thread's pool, which the kernels link; the kernels of what is not delegated; the delegate.
LIBRARIES = (
    "libexecutorch.so",
    "libexecutorch_threadpool.so",
    "libexecutorch_kernels_optimized.so",
    "libexecutorch_backend_xnnpack.so",
)
# What the wheel's own cmake/executorch-config.cmake tells a consumer to define.
DEFINITIONS = ("C10_USING_CUSTOM_GENERATED_MACROS", "ET_EVENT_TRACER_ENABLED")
COMPILERS = ("c++", "g++", "clang++")


@dataclass(frozen=True)
class Wheel:
    """An installed or unpacked executorch wheel."""

    package: Path
    version: str


def installed_wheel() -> Wheel | None:
    """The executorch wheel of this environment, found without importing it (which would import torch)."""
    spec = importlib.util.find_spec("executorch")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / "lib" / LIBRARIES[0]).is_file():
            return Wheel(Path(place), importlib.metadata.version("executorch"))
    return None


def compiler() -> str | None:
    """The C++ compiler to use: ``$CXX``, or the first of :data:`COMPILERS` on the path."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), *COMPILERS)))), None)


def build(wheel: Wheel | None = None) -> Path:
    """Build the runtime and return its folder, which holds all that is needed at run time.

    Raises :class:`BadInput` in one line if the wheel or a compiler is missing, or the compiler fails.
    """
    wheel = wheel or installed_wheel()
    if wheel is None:
        raise BadInput(
            "engine executorch: the executorch wheel with its C++ libraries is not installed; "
            "run `pip install --no-deps 'executorch>=1.5'` (no torch needed)"
        )
    cxx = compiler()
    if cxx is None:
        raise BadInput("engine executorch: no C++ compiler found; install one (Debian: `sudo apt install g++`)")
    folder = cache_folder() / folder_name(wheel.version, platform.machine())
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Built beside its place and then moved there: nobody ever sees half of it.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-") as scratch:
        made = Path(scratch) / "runtime"
        made.mkdir()
        for name in LIBRARIES:
            shutil.copy(wheel.package / "lib" / name, made)
        _compile(cxx, wheel.package / "include", made)
        old = Path(scratch) / "old"
        if folder.exists():
            folder.rename(old)
        made.rename(folder)
    return folder


def command(cxx: str, include: Path, folder: Path) -> list[str]:
    """The compiler's command line; libraries are looked for where the shim lies, wherever that is."""
    return [
        cxx,
        *("-std=c++17", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"),
        *(f"-D{name}" for name in DEFINITIONS),
        *("-isystem", str(include)),
        *("-isystem", str(include / "executorch" / "runtime" / "core" / "portable_type" / "c10")),
        str(SOURCE),
        *("-o", str(folder / SHIM)),
        f"-L{folder}",
        # The last two register what they bring when they are loaded, and nothing refers to them by name.
        "-Wl,--no-as-needed",
        *(f"-l:{name}" for name in LIBRARIES),
        *("-Wl,-rpath,$ORIGIN", "-Wl,--no-undefined", "-s"),
    ]


def _compile(cxx: str, include: Path, folder: Path) -> None:
    try:
        done = subprocess.run(command(cxx, include, folder), capture_output=True, text=True, check=False)
    except OSError as error:
        raise BadInput(f"engine executorch: {cxx} does not run ({error.strerror})") from None
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), "it said nothing")
        raise BadInput(f"engine executorch: {cxx} could not build {SOURCE.name}: {said.strip()}")
