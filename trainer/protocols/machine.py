"""What a table was made on, in one line."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """Processor, cores, load, system and the versions that training and probing depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model\t")))
    cpu = next(names, platform.processor() or platform.machine())
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "scikit-learn", "numpy"))
    return f"{cpu}, {os.cpu_count()} cores; {platform.system()} {platform.machine()}; " \
           f"Python {platform.python_version()}, {packages}"  # fmt: skip
