"""Contiguous runs of samples that are there."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def runs(present: NDArray[np.bool_], longest: int) -> Iterator[tuple[int, int]]:
    """``(start, end)`` of the runs of True in ``present`` (n,), cut at multiples of ``longest``."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], present, [False])).astype(np.int8)))
    for first, last in edges.reshape(-1, 2).tolist():
        start = first
        while start < last:
            end = min(last, (start // longest + 1) * longest)
            yield start, end
            start = end
