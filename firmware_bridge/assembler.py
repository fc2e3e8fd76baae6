"""DATA frames of one stream → :class:`SampleBlock`s with an absolute sample index that never wraps.

A frame says three things about where its samples belong: its sequence number (exact, but mod 65536 and blind to what
the sensor itself missed), its device time (sees everything, but in a clock whose rate is only roughly the nominal
one), and flag b0. While the sequence goes on and b0 is unset, continuity is trusted and time only teaches the true
period; across a loss, time says how many samples are missing and the sequence is the cross-check (PBF v1 receiver
rules 4–6). Nothing late is ever delivered: its samples were counted as missing already, so the books stay true.
"""

from collections import deque
from dataclasses import asdict, dataclass

import numpy as np

from firmware_bridge.block import Flag, SampleBlock, Samples
from firmware_bridge.pbf import Frame, FrameType, unpack_samples
from firmware_bridge.runs import runs

SEQUENCES = 1 << 16
LATE_RUN = 8  # so many late frames, each the successor of the one before, are no reordering but a new start
FIT_FRAMES = 256  # frames the period estimate looks back on: about 50 s
FIT_TRUSTED = 3  # intervals before a measured period is preferred to the nominal one
PERIOD_DOUBT = 0.05  # how wrong a nominal rate may be before anything was measured
STAMP_US = 1.0  # resolution of a device stamp
LONGEST_JUMP_US = 31 * 86_400 * 1_000_000  # a longer jump is a wrong stamp


@dataclass(slots=True)
class Books:
    """What became of the samples: ``received + missing`` is the index of the next sample.

    ``late``: samples that came after their place was counted as missing, or twice; dropped. ``lost_frames`` by
    sequence number; ``disagreements``: losses where sequence and time differ by half a frame or more.
    ``time_errors``: device time went backwards without a new boot id or a declared clock step.
    """

    received: int = 0
    missing: int = 0
    late: int = 0
    late_frames: int = 0
    lost_frames: int = 0
    gaps: int = 0
    disagreements: int = 0
    restarts: int = 0
    time_errors: int = 0
    unusable_frames: int = 0

    def to_dict(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


class PeriodFit:
    """The true sample period in device time, from frames that follow each other without loss.

    A clock that agrees with the nominal period within the resolution of its stamps *is* nominal, so an exact
    device is never made inexact.
    """

    def __init__(self, nominal_ns: int) -> None:
        self.nominal = nominal_ns / 1e3
        self._intervals: deque[tuple[int, float]] = deque(maxlen=FIT_FRAMES)
        self._samples = 0
        self._us = 0.0

    def add(self, samples: int, us: float) -> None:
        """``samples`` took ``us`` of device time."""
        if len(self._intervals) == FIT_FRAMES:
            old_samples, old_us = self._intervals[0]
            self._samples, self._us = self._samples - old_samples, self._us - old_us
        self._intervals.append((samples, us))
        self._samples, self._us = self._samples + samples, self._us + us

    @property
    def trusted(self) -> bool:
        """Whether the period was measured often enough to doubt a time stamp by it."""
        return len(self._intervals) >= FIT_TRUSTED

    @property
    def period(self) -> float:
        """Sample period, µs of device time."""
        # Each contiguous run telescopes, so its error is that of two stamps, not of every one.
        if not self.trusted or abs(self._us - self._samples * self.nominal) <= 2 * STAMP_US:
            return self.nominal
        return self._us / self._samples

    def doubt(self, samples: float) -> float:
        """How many samples an estimate over ``samples`` missing ones may be off."""
        if not self.trusted:
            return PERIOD_DOUBT * samples
        period = self.period
        jitter = max(abs(us - n * period) for n, us in self._intervals)
        return (jitter + STAMP_US) * (samples / self._samples + 1 / period)


@dataclass(frozen=True, slots=True)
class _Gap:
    missing: int = 0
    reason: str = ""
    estimated: bool = False


@dataclass(slots=True)
class _LateRun:
    """Late frames, each the successor of the one before."""

    first: Frame
    first_arrival_ns: int
    last: Frame
    length: int = 1

    def extend(self, frame: Frame) -> bool:
        if frame.boot != self.last.boot or frame.sequence != (self.last.sequence + 1) % SEQUENCES:
            return False
        self.last, self.length = frame, self.length + 1
        return True

    def is_new_start(self, arrival_ns: int) -> bool:
        """Long, and at the pace of a running sensor: frames that were stored and sent again come in a burst."""
        host_us, device_us = (arrival_ns - self.first_arrival_ns) / 1e3, self.last.device_us - self.first.device_us
        return self.length >= LATE_RUN and host_us >= device_us / 2


class Assembler:
    """Call :meth:`push` with every DATA frame of the stream in order of arrival.

    ``channel`` counts from 0. The index starts at 0 with the first frame, ``segment`` at 0.
    """

    def __init__(self, channel: int = 0) -> None:
        self.books = Books()
        self.segment = 0
        self._channel = channel
        self._index = 0
        self._previous: Frame | None = None
        self._arrival_ns = 0
        self._older_boot: int | None = None
        self._fit = PeriodFit(1)
        self._late_run: _LateRun | None = None
        self._link_lost = False
        # Kept until a block can tell it: frames without samples are legal.
        self._gap = _Gap()
        self._flags = Flag.NONE

    def link_lost(self) -> None:
        """The transport was down: the next gap is the link's."""
        self._link_lost = True

    @property
    def period_us(self) -> float:
        """Current estimate of the sample period in device time, µs (nominal before anything was measured)."""
        return self._fit.period

    def push(self, frame: Frame, arrival_ns: int) -> list[SampleBlock]:
        """Blocks of ``frame``: one; none if it was late or unusable; more if it holds NaN in between.

        ``arrival_ns``: the host's monotonic clock when the frame's last byte came.
        """
        if frame.type is not FrameType.DATA or frame.period_ns == 0 or self._channel >= frame.channels:
            self.books.unusable_frames += 1
            return []
        gap = self._place(frame, arrival_ns)
        if gap is None:
            self.books.late_frames += 1
            self.books.late += frame.count
            return []
        self._late_run = None
        self._link_lost = False
        self._previous, self._arrival_ns = frame, arrival_ns
        self._flags |= frame.flags
        self._miss(gap)
        return self._deliver(frame, arrival_ns)

    def finish(self, arrival_ns: int) -> list[SampleBlock]:
        """The recording is over: an empty block for what is missing at its end, if anything is."""
        gap = self._gap
        if not gap.missing:
            return []
        self.books.gaps += 1
        self._gap, flags, self._flags = _Gap(), self._flags, Flag.NONE
        return [
            SampleBlock(
                index=self._index,
                values=np.empty(0, np.int32),
                arrival_ns=arrival_ns,
                flags=flags,
                segment=self.segment,
                gap_reason=gap.reason,
                gap_estimated=gap.estimated,
            )
        ]

    def _place(self, frame: Frame, arrival_ns: int) -> _Gap | None:
        """What is missing before ``frame``; None if it is late."""
        last = self._previous
        if last is None:
            self._fit = PeriodFit(frame.period_ns)
            return _Gap()
        if frame.boot != last.boot:
            if frame.boot == self._older_boot:  # a straggler from before the restart
                return self._late(frame, arrival_ns)
            return self._restart(frame, arrival_ns, "device restarted")
        lost = (frame.sequence - last.sequence - 1) % SEQUENCES
        stepped = bool(frame.flags & Flag.CLOCK_STEPPED)
        if lost >= SEQUENCES // 2:
            if stepped or frame.device_us <= last.device_us:
                return self._late(frame, arrival_ns)
            if self._ahead(frame, last) <= LONGEST_JUMP_US:
                # Time went on: the sequence wrapped in a long outage or was reset, and says nothing.
                return self._across_loss(frame, last, 0)
        return self._onward(frame, last, lost, stepped, arrival_ns)

    def _onward(self, frame: Frame, last: Frame, lost: int, timeless: bool, arrival_ns: int) -> _Gap:
        """The sequence went forward over ``lost`` frames: does the stamp agree?"""
        told = bool(frame.flags & Flag.LOST_BEFORE)
        slack, ahead = self._slack(last), self._ahead(frame, last)
        if not timeless and (ahead < -slack or ahead > LONGEST_JUMP_US):
            self.books.time_errors += 1
            if lost:
                return self._restart(frame, arrival_ns, f"device time {'jumped' if ahead > 0 else 'went back'}")
            timeless = True
        if timeless or (frame.flags & Flag.TIME_ESTIMATED and not told):
            self.books.lost_frames += lost
            return _Gap(lost * last.count, self._reason("frames lost"))
        if lost or told:
            return self._across_loss(frame, last, lost)
        return self._in_sequence(frame, last, ahead > slack)

    def _ahead(self, frame: Frame, last: Frame) -> float:
        """How much later than the end of ``last`` the frame begins, µs."""
        return (frame.device_us - last.device_us) - last.count * self._fit.period

    def _slack(self, last: Frame) -> float:
        """How far a stamp may be off before it is taken for more than jitter and a false nominal rate, µs."""
        return (0.25 * last.count + 1.5) * self._fit.period

    def _in_sequence(self, frame: Frame, last: Frame, jumped: bool) -> _Gap:
        us, nominal_us = float(frame.device_us - last.device_us), last.count * last.period_ns / 1e3
        if jumped and (self._fit.trusted or us > 4 * nominal_us):
            return _Gap(round(self._ahead(frame, last) / self._fit.period), self._reason("time jump"))
        if us > nominal_us / 4 and not last.flags & (Flag.TIME_ESTIMATED | Flag.CLOCK_STEPPED):
            self._fit.add(last.count, us)
        return _Gap()

    def _across_loss(self, frame: Frame, last: Frame, lost: int) -> _Gap:
        samples = self._ahead(frame, last) / self._fit.period
        missing = max(0, round(samples))
        told = bool(frame.flags & Flag.LOST_BEFORE)
        if lost and last.count:
            wraps = max(0, round((samples / last.count - lost) / SEQUENCES))
            lost += wraps * SEQUENCES
            by_sequence = lost * last.count
            # Where time cannot tell the two apart, whole frames of the usual size are the better guess. A clock whose
            # stamps fall on whole samples to the microsecond can tell.
            exact = abs(samples - missing) * self._fit.period <= 2 * STAMP_US
            if not (told or exact) and abs(samples - by_sequence) <= 0.5 + self._fit.doubt(by_sequence):
                missing = by_sequence
            elif abs(samples - by_sequence) >= last.count / 2:
                self.books.disagreements += 1
        self.books.lost_frames += lost
        return _Gap(missing, self._reason("frames lost" if lost else "device lost samples"))

    def _late(self, frame: Frame, arrival_ns: int) -> _Gap | None:
        if self._late_run is None or not self._late_run.extend(frame):
            self._late_run = _LateRun(frame, arrival_ns, frame)
        if not self._late_run.is_new_start(arrival_ns):
            return None
        self.books.time_errors += 1
        return self._restart(frame, arrival_ns, "device restarted without a new boot id")

    def _restart(self, frame: Frame, arrival_ns: int, reason: str) -> _Gap:
        # Nothing but the host's clock spans a restart.
        elapsed = (arrival_ns - self._arrival_ns) / 1e3 / self._fit.period
        self._older_boot = self._previous.boot if self._previous else None
        self._fit = PeriodFit(frame.period_ns)
        self.segment += 1
        self.books.restarts += 1
        return _Gap(max(0, round(elapsed) - frame.count), reason, estimated=True)

    def _reason(self, cause: str) -> str:
        return "link lost" if self._link_lost else cause

    def _miss(self, gap: _Gap) -> None:
        self._index += gap.missing
        self.books.missing += gap.missing
        if gap.missing or gap.estimated:
            kept = self._gap
            self._gap = _Gap(kept.missing + gap.missing, kept.reason or gap.reason, kept.estimated or gap.estimated)

    def _deliver(self, frame: Frame, arrival_ns: int) -> list[SampleBlock]:
        values: Samples = unpack_samples(frame)[:, self._channel].copy()
        blocks: list[SampleBlock] = []
        done = 0
        for start, end in runs(np.isfinite(values), max(1, frame.count)):
            self._miss(_Gap(start - done, "not a number"))
            gap = self._gap
            self.books.gaps += gap.missing > 0
            blocks.append(
                SampleBlock(
                    index=self._index,
                    values=values[start:end],
                    arrival_ns=arrival_ns,
                    device_us=frame.device_us + round(start * self._fit.period),
                    flags=self._flags,
                    segment=self.segment,
                    gap_reason=gap.reason,
                    gap_estimated=gap.estimated,
                )
            )
            self._index += end - start
            self.books.received += end - start
            self._gap, self._flags, done = _Gap(), frame.flags & ~Flag.LOST_BEFORE, end
        if blocks:
            self._flags = Flag.NONE
        self._miss(_Gap(frame.count - done, "not a number"))
        return blocks
