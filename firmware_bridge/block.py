"""What crosses from a sensor into :mod:`edge`: runs of samples with absolute indices, and notices about the link."""

import enum
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int32] | NDArray[np.float64]
Signal = Literal["ppg", "ecg"]


class Flag(enum.IntFlag):
    """Device status that holds for a whole block (PBF v1 flag bits)."""

    NONE = 0
    LOST_BEFORE = 1 << 0
    NO_CONTACT = 1 << 1
    SATURATED = 1 << 2
    TIME_ESTIMATED = 1 << 3
    CLOCK_STEPPED = 1 << 4
    SYNTHETIC = 1 << 7


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source declares about the one stream it delivers.

    ``period_ns`` is the sample period in ns that sample times are computed with: the device's nominal one unless
    the user decided otherwise (``?rate=``), never a silent guess. ``physical = (count - offset) * scale``; a
    negative ``scale`` means counts fall as blood volume rises (raw reflectance PPG). ``resolution`` is the smallest
    step of a value: 1 where values are a converter's counts, 0 where it is not known.
    """

    signal: Signal
    name: str
    period_ns: int
    unit: str = "counts"
    scale: float = 1.0
    offset: float = 0.0
    resolution: float = 0.0
    device: str = ""
    rate_decision: str = "nominal"

    @property
    def rate(self) -> float:
        """Sample rate, Hz."""
        return 1e9 / self.period_ns


@dataclass(frozen=True, slots=True)
class SampleBlock:
    """A contiguous run of samples of one channel.

    ``index`` is the absolute 64-bit sample index since the stream's start and counts missing samples too, so
    ``index`` minus the previous block's ``end`` is exactly what was lost in between (``gap_reason`` says why;
    ``gap_estimated`` if the length had to be taken from the host's clock). ``segment`` rises when the device
    restarted: no state may be carried across. Values are raw counts (int32) or numbers from a text file
    (float64), shape ``(n,)``.
    """

    index: int
    values: Samples
    arrival_ns: int
    device_us: int | None = None
    flags: Flag = Flag.NONE
    segment: int = 0
    gap_reason: str = ""
    gap_estimated: bool = False

    @property
    def end(self) -> int:
        """Index of the first sample after this block."""
        return self.index + len(self.values)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to the link, with the host's monotonic time: it carries no samples.

    ``kind``: ``connected``, ``lost`` (link down, reconnecting), ``restored``, ``silent`` (link up, no data),
    ``warning``.
    """

    kind: Literal["connected", "lost", "restored", "silent", "warning"]
    text: str
    arrival_ns: int
