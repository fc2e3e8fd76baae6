"""Arrays that took a while to make, kept by a digest of everything they were made from."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import BadInput

Arrays = dict[str, NDArray[np.generic]]


def digest(*parts: object) -> str:
    """16 hexadecimal digits of SHA-256 over ``parts``: arrays by their bytes, modules by their source, files (Path) by
    size and time, anything else by its ``repr``."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.shape}{part.dtype}".encode() + np.ascontiguousarray(part).tobytes())
        elif isinstance(part, ModuleType):
            found.update(Path(str(part.__file__)).read_bytes())
        elif isinstance(part, Path):
            stat = part.stat() if part.exists() else None
            found.update(f"{part.name} {stat and (stat.st_size, stat.st_mtime_ns)}".encode())
        else:
            found.update(repr(part).encode())
        found.update(b"\0")
    return found.hexdigest()[:16]


def kept(cache: Path, kind: str, key: str, make: Callable[[], Arrays]) -> Arrays:
    """What ``make`` returned when it was first asked for ``kind`` and ``key``; raises :class:`BadInput`."""
    file = cache / "protocols" / f"{kind}-{key}.npz"
    if file.exists():
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
                return {name: saved[name] for name in saved.files}
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise BadInput(f"cache {file}: cannot be read ({error}); delete that file") from None
    arrays = make()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".unfinished-", suffix=".npz")
        with os.fdopen(handle, "wb") as target:
            np.savez(target, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, file)  # whole or not at all
    except OSError as error:
        raise BadInput(f"cache {cache}: cannot be written ({error.strerror}); give --cache DIR") from None
    return arrays
