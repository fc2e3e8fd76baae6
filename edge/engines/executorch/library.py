"""Where the built ExecuTorch runtime lies, and its C functions."""

import ctypes
import functools
import hashlib
import os
import platform
import re
from pathlib import Path

from firmware_bridge.errors import BadInput

SOURCE = Path(__file__).with_name("shim.cpp")
SHIM = "libpulsecode_executorch.so"
MAX_RANK = 8
_BUILT = re.compile(r"executorch-(?P<version>[^-]+)-(?P<machine>[^-]+)-(?P<source>[0-9a-f]+)")
BUILD_COMMAND = "pulsecode engines build executorch"


def cache_folder() -> Path:
    """Where what this user has built is kept: ``$XDG_CACHE_HOME/pulsecode``, by default ``~/.cache/pulsecode``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification: a relative path is to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "pulsecode"


def source_hash() -> str:
    """Identity of the shim's source, so that a newer pulsecode never loads an older shim."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]


def folder_name(version: str, machine: str) -> str:
    """Name of the folder that a build for ``machine`` ("x86_64", "aarch64") from a wheel's ``version`` goes to."""
    return f"executorch-{version}-{machine}-{source_hash()}"


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def built() -> Path | None:
    """The folder of the newest runtime built for this machine and this version of the shim; None without one."""
    found: list[tuple[list[int], Path]] = []
    for folder in cache_folder().glob("executorch-*"):
        name = _BUILT.fullmatch(folder.name)
        fits = name and (name["machine"], name["source"]) == (platform.machine(), source_hash())
        if name and fits and (folder / SHIM).is_file():
            found.append((_order(name["version"]), folder))
    return max(found)[1] if found else None


def built_version(folder: Path) -> str:
    """The wheel's version that ``folder`` was built from."""
    name = _BUILT.fullmatch(folder.name)
    return name["version"] if name else ""


@functools.cache
def open_library(folder: Path) -> ctypes.CDLL:
    """The C functions of the runtime in ``folder``, with their types; loaded once a process.

    Raises :class:`BadInput` if the system's loader refuses it.
    """
    try:
        library = ctypes.CDLL(str(folder / SHIM))
    except OSError as error:
        raise BadInput(
            f"engine executorch: the runtime in {folder} does not load ({error}); build it again with `{BUILD_COMMAND}`"
        ) from None
    pointer, i32, u64, code = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint64, ctypes.c_int
    out_i32 = ctypes.POINTER(i32)
    for name, returns, takes in (
        ("load", code, (pointer, u64, ctypes.POINTER(pointer))),
        ("count", None, (pointer, out_i32, out_i32)),
        ("shape", code, (pointer, i32, i32, out_i32, i32, out_i32)),
        ("bind_input", code, (pointer, i32, pointer, u64)),
        ("bind_output", code, (pointer, i32, pointer, u64)),
        ("step", code, (pointer,)),
        ("free", None, (pointer,)),
        ("silence", None, ()),
    ):
        function = getattr(library, f"pulsecode_{name}")
        function.restype, function.argtypes = returns, takes
    library.pulsecode_silence()
    return library
