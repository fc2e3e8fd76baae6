"""The device's wheels for arm64: pulsecode's own, built from this clone, and the versions that run here of the rest."""

import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.aarch64.emulator import PYTHON, Say
from benchmarks.aarch64.shell import run
from firmware_bridge.errors import BadInput, not_installed

# What a device needs, with the second engine; ExecuTorch's shim is compiled on the device itself.
ENGINES = ("litert", "onnx")
DEVICE = ("numpy", "msgspec", "ai-edge-litert", "onnxruntime", "rich", "pyserial")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
SOURCES = ("firmware_bridge", "edge", "trainer", "quantize", "benchmarks", "pyproject.toml", "README.md", "LICENSE")
CLONE = Path(__file__).parents[2]


def pinned() -> list[str]:
    """``name==version`` of each, as installed here: the same code on both machines."""
    try:
        return [f"{name}=={version(name)}" for name in DEVICE]
    except PackageNotFoundError as error:
        raise not_installed(str(error.name), "device,onnx") from None


def install(site: Path, folder: Path, say: Say) -> None:
    """Fill ``site`` with the wheels; pulsecode's is built anew each time. Raises :class:`BadInput`."""
    wheels, wanted = folder / "wheels", pinned()
    stamp = folder / "installed.txt"
    if not (site.exists() and stamp.exists() and stamp.read_text().split() == wanted):
        say(f"fetching the arm64 wheels of {', '.join(wanted)}")
        stamp.unlink(missing_ok=True)
        for stale in (site, wheels):
            shutil.rmtree(stale, ignore_errors=True)
        _pip("download", "--dest", wheels, *_target(), *wanted, what="the arm64 wheels")
        _pip("install", "--no-index", "--no-deps", "--target", site, *_target(), *sorted(wheels.glob("*.whl")))
        stamp.write_text("\n".join(wanted))
    say("building pulsecode's wheel")
    with tempfile.TemporaryDirectory(prefix="pulsecode-") as room:
        _build(Path(room))
        (wheel,) = Path(room).glob("pulsecode-*.whl")
        for stale in [*site.glob("pulsecode-*.dist-info"), *(site / name for name in SOURCES if "." not in name)]:
            shutil.rmtree(stale, ignore_errors=True)
        _pip("install", "--no-index", "--no-deps", "--upgrade", "--target", site, wheel)


def _target() -> list[str]:
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, *platforms]


def _pip(*words: str | Path, what: str = "pip") -> None:
    quiet = ("--quiet", "--disable-pip-version-check")
    run([sys.executable, "-m", "pip", *words, *quiet], what=what)


def _build(room: Path) -> None:
    """From a copy of the sources, so that nothing of an earlier build comes along."""
    if not (CLONE / "pyproject.toml").exists():
        raise BadInput("bench aarch64: builds pulsecode's wheel from its sources; run it in a clone (`make dev`)")
    source = room / "source"
    source.mkdir()
    for name in SOURCES:
        found = CLONE / name
        if found.is_dir():
            shutil.copytree(found, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(found, source / name)
    _pip("wheel", "--no-deps", "--wheel-dir", room, source, what="building pulsecode's wheel")
