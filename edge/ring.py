"""A ring of raw samples that never loses one in silence.

Every sample has its absolute index on the sensor's own grid. Gaps are facts about indices; overwriting what nobody
has read yet is counted; so ``received + missing + overwritten == expected`` holds after every call.

Inside, samples lie one after the other by *position*. A gap short enough to be bridged is kept as NaN; a longer one,
or a restart of the device, starts a new segment and takes no room, however long it was.
"""

from collections import deque
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from firmware_bridge.block import SampleBlock, Samples

MISSING = 0x40  # our own bit in the ring's per-sample flags, beside the device's


class Books(msgspec.Struct):
    """The sample books of one stream, in sensor samples. ``received`` are those that reached the pipeline or still
    can; ``late`` came after their place was settled (and are counted as missing there)."""

    received: int = 0
    missing: int = 0
    overwritten: int = 0
    late: int = 0

    @property
    def expected(self) -> int:
        """How many samples the stream spanned."""
        return self.received + self.missing + self.overwritten


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of samples that never came, just before ``index + missing``."""

    index: int
    missing: int
    reason: str
    estimated: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """Samples from index ``start`` (at ``position``) up to the next segment may share state.

    ``reason`` says why it began.
    """

    start: int
    position: int
    reason: str


class SampleRing:
    """Holds the last ``capacity`` samples; a gap longer than ``max_bridge`` samples starts a new segment."""

    def __init__(self, capacity: int, max_bridge: int) -> None:
        if capacity < 4 * max_bridge:
            raise ValueError(f"capacity {capacity} must be at least four times max_bridge {max_bridge}")
        self.capacity, self.max_bridge = capacity, max_bridge
        self._values = np.zeros(capacity)
        self._flags = np.zeros(capacity, np.uint8)
        self.head = 0  # index after the newest sample, come or missing
        self.end = 0  # position after the newest that is held
        self.tail = 0  # oldest position that is held
        self.consumed = 0  # every position before this has been used or given up
        self.books = Books()
        self.segments: deque[Segment] = deque()
        self._came = 0  # index after the newest sample that came
        self._device_segment: int | None = None

    def write(self, block: SampleBlock) -> Gap | None:
        """Append a block; returns the gap before it, if any. Late samples are dropped and counted.

        A stream starts at index 0, so samples missing before the first block count too; an empty block declares
        the samples before it missing (the end of a recording).
        """
        # A source may count in numpy's integers, which no JSON encoder takes.
        values, index = block.values, int(block.index)
        if index < self.head:
            self.books.late += min(len(values), self.head - index)
            values, index = values[self.head - index :], self.head
            if not len(values):
                return None
        missing = index - self.head
        gap = Gap(self.head, missing, block.gap_reason or "lost", block.gap_estimated) if missing else None
        self.books.missing += missing
        self.head = index
        if len(values):
            why = self._break(block, index - self._came)
            if why is not None:
                self.segments.append(Segment(index, self.end, why))
            elif index > self._came:
                self._append(np.full(index - self._came, np.nan), MISSING)
            self.books.received += len(values)
            self._append(values, int(block.flags) & ~MISSING & 0xFF)
            self.head = self._came = index + len(values)
            self._device_segment = block.segment
        return gap

    def _break(self, block: SampleBlock, hole: int) -> str | None:
        """Why ``block``, after ``hole`` missing samples, starts a segment; None if it does not."""
        if self._device_segment is None:
            return "start"
        if block.segment != self._device_segment:
            return block.gap_reason or "device restarted"
        return (block.gap_reason or "gap") if hole > self.max_bridge else None

    def _append(self, values: Samples, flags: int) -> None:
        end = self.end + len(values)
        tail = max(self.tail, end - self.capacity)
        if tail > self.consumed:
            self._count_overwritten(tail, flags)
        newest = values[-self.capacity :]
        where = np.arange(end - len(newest), end) % self.capacity
        self._values[where] = newest
        self._flags[where] = flags
        self.end, self.tail = end, tail

    def _count_overwritten(self, tail: int, flags: int) -> None:
        """Unread samples before ``tail`` are lost: those held, and those of this write that never fit."""
        held = np.arange(self.consumed, min(tail, self.end)) % self.capacity
        lost = int(np.count_nonzero(self._flags[held] & MISSING == 0))
        if not flags & MISSING:
            lost += max(0, tail - max(self.end, self.consumed))
        self.books.overwritten += lost
        self.books.received -= lost
        self.consumed = tail

    def read(self, start: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Values (NaN where missing) and flags at positions ``start`` … ``stop``, which must be held."""
        if not self.tail <= start <= stop <= self.end:
            raise IndexError(f"positions {start}…{stop} are not all held ({self.tail}…{self.end})")
        where = np.arange(start, stop) % self.capacity
        return self._values[where], self._flags[where]

    def consume(self, upto: int) -> None:
        """Declare every position before ``upto`` used; it may be overwritten without loss."""
        self.consumed = max(self.consumed, min(upto, self.end))
