"""What the figures were taken on: without it a time means nothing."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

PACKAGES = ("numpy", "ai-edge-litert", "tflite-runtime", "onnxruntime", "executorch", "torch", "neurokit2")


class Machine(msgspec.Struct, frozen=True):
    """The computer and what is installed on it. ``load``: processes that wanted a core in the minute before."""

    cpu: str
    cores: int
    memory_gb: float | None
    system: str
    python: str
    load: float | None
    packages: dict[str, str]

    def __str__(self) -> str:
        memory = f", {self.memory_gb:.1f} GB" if self.memory_gb else ""
        busy = f", load {self.load:.1f}" if self.load is not None else ""
        packages = ", ".join(f"{name} {found}" for name, found in self.packages.items())
        return f"{self.cpu}, {self.cores} cores{memory}{busy}; {self.system}; Python {self.python}; {packages}"


def _field(path: str, *names: str) -> str | None:
    """The value of the first line ``name : value`` of a /proc file."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    for name in names:
        for line in lines:
            key, colon, value = line.partition(":")
            if colon and key.strip() == name:
                return value.strip()
    return None


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def describe() -> Machine:
    """This machine."""
    memory = _field("/proc/meminfo", "MemTotal")
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return Machine(
        # Arm boards name themselves under "Model" and have no "model name".
        cpu=_field("/proc/cpuinfo", "model name", "Model") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        memory_gb=round(int(memory.split()[0]) / 1e6, 1) if memory else None,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        load=_load(),
        packages=packages,
    )
