"""A ring of raw samples that never loses one in silence.

Every sample has its absolute index on the sensor's own grid. Gaps are facts about indices; overwriting what nobody
has read yet is counted; so ``received + missing + overwritten == expected`` holds after every call.
"""

from collections import deque
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from firmware_bridge.block import SampleBlock

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
    """Samples from ``start`` up to the next segment's ``after`` may share state.

    ``after`` is where the segment before ended (a gap may lie between); ``reason`` says why this one began.
    """

    start: int
    after: int
    reason: str


class SampleRing:
    """Holds the last ``capacity`` samples; a gap longer than ``max_bridge`` samples starts a new segment."""

    def __init__(self, capacity: int, max_bridge: int) -> None:
        if capacity < 4 * max_bridge:
            raise ValueError(f"capacity {capacity} must be at least four times max_bridge {max_bridge}")
        self.capacity, self.max_bridge = capacity, max_bridge
        self._values = np.zeros(capacity)
        self._flags = np.zeros(capacity, np.uint8)
        self.head = 0  # index after the newest sample
        self.tail = 0  # oldest index that is still held
        self.consumed = 0  # everything before this has been used or given up
        self.books = Books()
        self.segments: deque[Segment] = deque()
        self._device_segment: int | None = None

    @property
    def room(self) -> int:
        """How many samples fit before unread ones are overwritten."""
        return self.capacity - (self.head - self.consumed)

    def write(self, block: SampleBlock) -> Gap | None:
        """Append a block; returns the gap before it, if any. Late samples are dropped and counted.

        A stream starts at index 0, so samples missing before the first block count too; an empty block declares
        the samples before it missing (the end of a recording).
        """
        values, index = block.values, block.index
        if index < self.head:
            self.books.late += min(len(values), self.head - index)
            values, index = values[self.head - index :], self.head
            if not len(values):
                return None
        missing = index - self.head
        if len(values):
            if self._device_segment is None:
                self.segments.append(Segment(index, index, "start"))
            elif block.segment != self._device_segment:
                self.segments.append(Segment(index, self.head, block.gap_reason or "device restarted"))
            elif missing > self.max_bridge:
                self.segments.append(Segment(index, self.head, block.gap_reason or "gap"))
            self._device_segment = block.segment
        gap = Gap(self.head, missing, block.gap_reason or "lost", block.gap_estimated) if missing else None
        if missing:
            self.books.missing += missing
            self._append(np.full(min(missing, self.capacity), np.nan), missing, MISSING)
        self.books.received += len(values)
        self._append(values[-self.capacity :], len(values), int(block.flags) & 0xBF)
        return gap

    def _append(self, newest: NDArray[np.int32] | NDArray[np.float64], count: int, flags: int) -> None:
        """Advance by ``count`` samples of which ``newest`` are the last ones (all, unless more than fit)."""
        head = self.head + count
        tail = max(self.tail, head - self.capacity)
        if tail > self.consumed:
            self._count_overwritten(tail, flags)
        where = np.arange(head - len(newest), head) % self.capacity
        self._values[where] = newest
        self._flags[where] = flags
        self.head, self.tail = head, tail

    def _count_overwritten(self, tail: int, flags: int) -> None:
        """Unread samples before ``tail`` are lost: those held, and those of this write that never fit."""
        held = np.arange(self.consumed, min(tail, self.head)) % self.capacity
        lost = int(np.count_nonzero(self._flags[held] & MISSING == 0))
        if not flags & MISSING:
            lost += max(0, tail - max(self.head, self.consumed))
        self.books.overwritten += lost
        self.books.received -= lost
        self.consumed = tail

    def read(self, start: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Values (NaN where missing) and flags of ``start`` … ``stop``, which must be held."""
        if not self.tail <= start <= stop <= self.head:
            raise IndexError(f"samples {start}…{stop} are not all held ({self.tail}…{self.head})")
        where = np.arange(start, stop) % self.capacity
        return self._values[where], self._flags[where]

    def consume(self, upto: int) -> None:
        """Declare everything before ``upto`` used; it may be overwritten without loss."""
        self.consumed = max(self.consumed, upto)
