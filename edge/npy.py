"""Arrays out of a bundle and into one: `.npy` without pickle."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle
from firmware_bridge.errors import BadInput


def read_array(bundle: Bundle, name: str) -> NDArray[Any]:
    """The array in the bundle's file ``name``; raises :class:`BadInput` if it is not one."""
    try:
        array: NDArray[Any] = np.load(io.BytesIO(bundle.read(name)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise BadInput(f"bundle {bundle.path}: {name} is not a plain .npy array ({error})") from None
    return array


def npy_bytes(array: NDArray[Any]) -> bytes:
    """An array as the bytes of a ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
