"""The books of a stream: whatever is lost, doubled, delayed or damaged, every delivered sample is at its place."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge.assembler import Assembler, PeriodFit
from firmware_bridge.block import Flag, SampleBlock
from firmware_bridge.pbf import Decoder, Frame, FrameType, SampleFormat, pack_samples

PERIOD_NS = 10_000_000
N = 20


def value_at(index: int, boot: int = 0) -> int:
    """The sample a test device has at ``index``: tells both, so a misplaced one shows."""
    return (index * 7 + boot * 100_003) % (1 << 22)


@dataclass
class Device:
    """A sensor with a stated error of its clock: ``period_us`` true, ``PERIOD_NS`` claimed."""

    period_us: float = 10_000.0
    boot: int = 1
    sequence: int = 0
    index: int = 0
    boot_us: float = 5_000_000.0
    host_ns: int = 10**12
    flags: Flag = Flag.NONE
    truth: dict[tuple[int, int], int] = field(default_factory=dict)  # (boot, sequence) → index

    def skip(self, samples: int) -> None:
        """The sensor misses samples and says so."""
        self.index += samples
        self.host_ns += round(samples * self.period_us * 1000)
        self.flags |= Flag.LOST_BEFORE

    def frame(self, n: int = N) -> tuple[Frame, int]:
        """The next frame and when its last byte is ready, host ns."""
        values = np.array([[value_at(self.index + i, self.boot)] for i in range(n)], np.int32).reshape(n, 1)
        out = Frame(
            FrameType.DATA,
            0x10,
            self.flags,
            self.boot,
            self.sequence,
            round(self.boot_us + self.index * self.period_us),
            PERIOD_NS,
            1,
            SampleFormat.S24,
            n,
            pack_samples(values, SampleFormat.S24),
        )
        self.truth[self.boot, self.sequence] = self.index
        self.sequence = (self.sequence + 1) % 65536
        self.index += n
        self.host_ns += round(n * self.period_us * 1000)
        self.flags = Flag.NONE
        return out, self.host_ns

    def restart(self, off_samples: int) -> None:
        self.boot, self.sequence = self.boot + 1, 0
        self.index += off_samples
        self.host_ns += round(off_samples * self.period_us * 1000)
        self.boot_us = 1000.0 - self.index * self.period_us


def run(assembler: Assembler, frames: list[tuple[Frame, int]]) -> list[SampleBlock]:
    return [block for frame, at in frames for block in assembler.push(frame, at)]


def check_books(assembler: Assembler, blocks: list[SampleBlock]) -> None:
    books = assembler.books
    assert books.received == sum(len(b.values) for b in blocks)
    assert blocks[0].index == 0
    assert all(b.index >= a.end for a, b in pairwise(blocks))
    assert books.received + books.missing == blocks[-1].end
    gaps = [(b, b.index - a.end) for a, b in pairwise(blocks)]
    assert all(bool(size) <= bool(b.gap_reason) for b, size in gaps)


def check_values(blocks: list[SampleBlock], first_index: int, boots: list[int]) -> None:
    for block in blocks:
        boot = boots[block.segment]
        wanted = [value_at(first_index + i, boot) for i in range(block.index, block.end)]
        assert block.values.tolist() == wanted


events = st.lists(
    st.one_of(
        st.just(("send", 0)),
        st.just(("send", 0)),
        st.just(("drop", 0)),
        st.just(("twice", 0)),
        st.tuples(st.just("delay"), st.integers(1, 4)),
        st.tuples(st.just("flip"), st.integers(0, 8 * 90)),
        st.tuples(st.just("skip"), st.integers(1, 300)),
        st.tuples(st.just("shorter"), st.integers(1, N)),
        st.tuples(st.just("restart"), st.integers(0, 500)),
    ),
    min_size=3,
    max_size=80,
)


def broadcast(device: Device, plan: list[tuple[str, int]]) -> list[tuple[bytes, int]]:
    """What ``plan`` makes of the device's frames: wire bytes in order of arrival, with the host's time."""
    wire: list[tuple[float, bytes, int]] = []
    for step, (what, number) in enumerate(plan):
        if what == "skip":
            device.skip(number)
        elif what == "restart":
            device.restart(number)
        frame, at = device.frame(number if what == "shorter" else N)
        data = frame.encode()
        if what == "flip":
            bit = number % (8 * (len(data) - 1))
            data = data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        if what != "drop":
            wire.append((step + (number + 0.5 if what == "delay" else 0), data, at))
        if what == "twice":
            wire.append((step + 0.2, data, at))
    return [(data, at) for _, data, at in sorted(wire, key=lambda w: w[0])]


@settings(max_examples=200, deadline=None)
@given(plan=events, start=st.sampled_from([0, 65_530]), chunk=st.integers(1, 400))
def test_any_damage_leaves_true_books(plan: list[tuple[str, int]], start: int, chunk: int) -> None:
    device = Device(sequence=start)
    frames = broadcast(device, [("send", 0), *plan])
    decoder, assembler = Decoder(), Assembler()
    decoder.feed(b"\0")
    blocks: list[SampleBlock] = []
    stream = b"".join(data for data, _ in frames)
    seen: list[int] = []
    for at in range(0, len(stream), chunk):
        for frame in decoder.feed(stream[at : at + chunk]):
            # Host time of the frame this is, so that a restart's estimate is exact here.
            arrival = next(t for data, t in frames if data == frame.encode())
            if frame.boot not in seen and not (seen and frame.boot < seen[-1]):
                seen.append(frame.boot)
            blocks += assembler.push(frame, arrival)
    check_books(assembler, blocks)
    assert assembler.books.time_errors == 0
    if any(what in ("delay",) for what, _ in plan) and len(seen) > 1:
        # A straggler around a restart blurs the host's estimate of its length: each segment is whole in itself.
        for segment in {b.segment for b in blocks}:
            own = [b for b in blocks if b.segment == segment]
            shift = {int(b.values[0]) - 7 * b.index for b in own}
            assert len({s % (1 << 22) for s in shift}) == 1
    else:
        check_values(blocks, 0, seen)


def frames_of(device: Device, count: int) -> list[tuple[Frame, int]]:
    return [device.frame() for _ in range(count)]


@pytest.mark.parametrize("error", [-0.05, -0.02, 1e-4, 0.03, 0.05])
def test_a_false_nominal_rate_makes_no_gap_and_sizes_gaps_truly(error: float) -> None:
    device = Device(period_us=10_000 * (1 + error))
    frames = frames_of(device, 1000)
    lost = frames[100:130] + frames[600:900]
    assembler = Assembler()
    blocks = run(assembler, [f for f in frames if f not in lost])
    check_books(assembler, blocks)
    check_values(blocks, 0, [1])
    assert assembler.books.missing == 330 * N
    assert assembler.books.gaps == 2
    assert assembler.books.disagreements == 0
    assert assembler.period_us == pytest.approx(device.period_us, rel=1e-5)


def test_a_device_that_claims_135_hz_and_delivers_55_is_believed_by_its_stamps() -> None:
    device = Device(period_us=1e6 / 55)
    frames = [(replace(f, period_ns=round(1e9 / 135)), t) for f, t in frames_of(device, 60)]
    assembler = Assembler()
    blocks = run(assembler, frames[:30] + frames[33:])
    assert assembler.books.missing == 3 * N
    check_values(blocks, 0, [1])


@settings(max_examples=60, deadline=None)
@given(jitter=st.lists(st.integers(-2000, 2000), min_size=120, max_size=120), lost=st.sets(st.integers(5, 119)))
def test_jittery_stamps_lose_no_sample(jitter: list[int], lost: set[int]) -> None:
    frames = [(replace(f, device_us=f.device_us + jitter[i]), t) for i, (f, t) in enumerate(frames_of(Device(), 120))]
    assembler = Assembler()
    blocks = run(assembler, [f for i, f in enumerate(frames) if i not in lost])
    check_books(assembler, blocks)
    check_values(blocks, 0, [1])


def test_a_jump_of_time_alone_is_a_gap_once_the_period_is_known() -> None:
    device = Device()
    before = frames_of(device, 5)
    device.skip(137)
    device.flags = Flag.NONE  # this device does not say so
    assembler = Assembler()
    blocks = run(assembler, before + frames_of(device, 3))
    assert [b.gap_reason for b in blocks if b.gap_reason] == ["time jump"]
    assert assembler.books.missing == 137
    check_values(blocks, 0, [1])


def test_missing_samples_inside_a_recording_are_flagged_jumps() -> None:
    device = Device()
    frames = [device.frame(0)]
    for size in (1, 3, 4000):
        device.skip(size)
        frames.append(device.frame())
    assembler = Assembler()
    blocks = run(assembler, frames)
    assert [b.index for b in blocks] == [1, 24, 4044]  # the empty frame anchored index 0
    assert {b.gap_reason for b in blocks} == {"device lost samples"}
    assert all(b.flags & Flag.LOST_BEFORE for b in blocks)
    check_values(blocks, 0, [1])


def test_an_outage_longer_than_the_sequence_is_counted_by_time() -> None:
    device = Device(period_us=10_000 * 1.0001)
    frames = frames_of(device, 300)
    lost = 70_000
    device.index += lost * N
    device.sequence = (device.sequence + lost) % 65536
    assembler = Assembler()
    assembler.link_lost()
    blocks = run(assembler, frames)
    assembler.link_lost()
    blocks += run(assembler, frames_of(device, 2))
    assert assembler.books.missing == lost * N
    assert assembler.books.lost_frames == lost
    assert blocks[-2].gap_reason == "link lost"
    check_values(blocks, 0, [1])


def test_a_restart_starts_a_segment_and_says_its_gap_is_estimated() -> None:
    device = Device()
    frames = frames_of(device, 10)
    device.restart(250)
    assembler = Assembler()
    blocks = run(assembler, frames + frames_of(device, 2))
    first = blocks[10]
    assert (first.segment, first.gap_reason, first.gap_estimated) == (1, "device restarted", True)
    assert first.index - blocks[9].end == 250
    assert assembler.books.restarts == 1
    assert not blocks[11].gap_estimated


def test_a_straggler_from_before_a_restart_is_late_and_no_restart() -> None:
    device = Device()
    frames = frames_of(device, 4)
    device.restart(30)
    frames += frames_of(device, 6)
    frames.insert(6, frames.pop(3))  # the last frame of the old boot overtaken by two of the new one
    assembler = Assembler()
    blocks = run(assembler, frames)
    assert assembler.books.restarts == 1
    assert assembler.books.late == N
    check_values(blocks, 0, [1, 2])


def test_a_clock_that_stands_still_is_not_taken_for_an_infinite_rate() -> None:
    device = Device()
    frames = [(replace(f, device_us=77), t) for f, t in (device.frame(1) for _ in range(10))]
    assembler = Assembler()
    blocks = run(assembler, frames)
    assert [b.index for b in blocks] == list(range(10))
    assert assembler.period_us == 10_000


def test_a_restart_with_the_same_boot_id_is_found_after_some_frames() -> None:
    device = Device(sequence=500)
    assembler = Assembler()
    blocks = run(assembler, frames_of(device, 10))
    device.restart(100)
    device.boot = 1
    later = run(assembler, frames_of(device, 20))
    assert assembler.books.time_errors == 1
    assert {b.segment for b in later} == {1}
    assert later[0].gap_reason == "device restarted without a new boot id"
    check_books(assembler, blocks + later)
    check_values(later, 0, [1, 1])


def test_frames_stored_and_sent_again_in_a_burst_are_late_not_a_restart() -> None:
    device = Device()
    frames = frames_of(device, 40)
    now = frames[-1][1]
    assembler = Assembler()
    blocks = run(assembler, frames + [(f, now) for f, _ in frames[5:35]] + frames_of(device, 3))
    assert assembler.books.restarts == 0
    assert assembler.books.late == 30 * N
    check_values(blocks, 0, [1])


def test_time_that_goes_back_is_an_error_and_no_loss_unless_the_clock_step_is_declared() -> None:
    for flag, errors in ((Flag.NONE, 1), (Flag.CLOCK_STEPPED, 0)):
        device = Device(boot_us=1e9)
        assembler = Assembler()
        frames = frames_of(device, 5)
        device.boot_us -= 5e8
        device.flags = flag
        blocks = run(assembler, frames + frames_of(device, 5))
        assert assembler.books.time_errors == errors
        assert assembler.books.missing == 0
        check_values(blocks, 0, [1])


def test_channels_floats_and_frames_that_cannot_be_used() -> None:
    values = np.array([[1.5, 0], [np.nan, 0], [2.5, 0], [np.nan, 0]])
    frame = Frame(
        FrameType.DATA, 0x10, Flag.NO_CONTACT, 1, 0, 0, PERIOD_NS, 2, SampleFormat.F32, 4,
        pack_samples(values, SampleFormat.F32),
    )  # fmt: skip
    assembler = Assembler()
    blocks = assembler.push(frame, 0)
    assert [(b.index, b.values.tolist()) for b in blocks] == [(0, [1.5]), (2, [2.5])]
    assert blocks[1].gap_reason == "not a number"
    assert all(b.flags == Flag.NO_CONTACT for b in blocks)
    assert (assembler.books.received, assembler.books.missing) == (2, 2)
    assert Assembler(channel=2).push(frame, 0) == []
    irregular = Assembler()
    assert irregular.push(replace(frame, period_ns=0), 0) == []
    assert irregular.books.unusable_frames == 1


def test_what_is_missing_at_the_end_is_told_once() -> None:
    device, assembler = Device(), Assembler()
    run(assembler, frames_of(device, 3))
    assert assembler.finish(0) == []
    device.skip(33)
    assert run(assembler, [device.frame(0)]) == []
    (last,) = assembler.finish(7)
    assert (last.index, len(last.values), last.gap_reason, last.arrival_ns) == (93, 0, "device lost samples", 7)
    assert last.flags & Flag.LOST_BEFORE
    assert (assembler.books.received, assembler.books.missing, assembler.books.gaps) == (60, 33, 1)
    assert assembler.finish(8) == []


def test_a_signalling_nan_is_a_missing_sample() -> None:
    payload = b"\x00\x00\x80\x3f" + b"\x01\x00\x80\x7f" + b"\x00\x00\x80\x3f"  # 1, sNaN, 1
    frame = Frame(FrameType.DATA, 0x10, Flag.NONE, 1, 0, 0, PERIOD_NS, 1, SampleFormat.F32, 3, payload)
    assert [b.index for b in Assembler().push(frame, 0)] == [0, 2]


def test_the_period_estimate_is_nominal_until_measured() -> None:
    fit = PeriodFit(PERIOD_NS)
    fit.add(20, 210_000.0)
    assert fit.period == 10_000
    assert not fit.trusted
    for _ in range(300):
        fit.add(20, 210_000.0)
    assert fit.period == pytest.approx(10_500)
