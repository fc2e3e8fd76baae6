"""Whole arrays with holes as a stream of blocks: what the recording sources share."""

import itertools
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.block import Flag, SampleBlock, Samples, StreamInfo
from firmware_bridge.runs import runs

BLOCK_SECONDS = 0.1


class Replay:
    """A :class:`~firmware_bridge.source.Source` over ``values`` (n,), of which ``missing`` (n,) were not recorded.

    An empty block at the end says that the last samples are missing, if they are. ``stamps``: whether the
    recording's own time is the device's clock (then blocks carry ``device_us``).
    """

    live = False

    def __init__(
        self,
        info: StreamInfo,
        values: Samples,
        missing: NDArray[np.bool_],
        gap_reason: str,
        stamps: bool = True,
    ) -> None:
        self.info = info
        self._values, self._missing = values, missing
        self._gap_reason, self._stamps = gap_reason, stamps
        self._closed = False

    @property
    def counters(self) -> dict[str, int]:
        """No wire, no books."""
        return {}

    def __iter__(self) -> Iterator[SampleBlock]:
        longest = max(1, round(self.info.rate * BLOCK_SECONDS))
        expected = 0
        total = len(self._missing)
        last = [(total, total)] if total and self._missing[-1] else []
        for start, end in itertools.chain(runs(~self._missing, longest), last):
            if self._closed:
                return
            yield SampleBlock(
                index=start,
                values=self._values[start:end],
                arrival_ns=time.monotonic_ns(),
                device_us=start * self.info.period_ns // 1000 if self._stamps else None,
                flags=Flag.LOST_BEFORE if start > expected else Flag.NONE,
                gap_reason=self._gap_reason if start > expected else "",
            )
            expected = end

    def close(self) -> None:
        """Stop iterating at the next block."""
        self._closed = True
