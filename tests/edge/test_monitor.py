"""The monitor under faults: whatever the source does, what came is told, and the books balance."""

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.alarms import AlarmLimits
from edge.bundle import Bundle, load_bundle
from edge.engines import Engine, open_engine
from edge.messages import (
    BeatLine,
    ErrorLine,
    EventLine,
    GapLine,
    Message,
    QualityLine,
    Summary,
    TokenLine,
    encode,
)
from edge.monitor import RING_SECONDS, Monitor
from edge.narrate import MAX_DETECTED, Narrator
from edge.ring import Gap
from firmware_bridge.block import Notice, SampleBlock, StreamInfo
from firmware_bridge.errors import BadInput, SourceLost
from firmware_bridge.source import Source, open_source

RATE = 100
PERIOD_NS = 10_000_000


@cache
def bundle() -> Bundle:
    return load_bundle()


@cache
def engine() -> Engine:
    return open_engine(bundle())


@cache
def body(scenario: str = "sinus", seconds: int = 90, seed: int = 1) -> np.ndarray:
    """A minute and a half of the virtual body, at 100 Hz."""
    source = open_source(f"sim:{scenario}?duration={seconds}&rate={RATE}&seed={seed}")
    return np.concatenate([b.values for b in source if isinstance(b, SampleBlock)])


Step = SampleBlock | Notice | Exception | Callable[[], None]


class Scripted:
    """A source that does as it is told: gives blocks and notices, raises errors, calls functions in between."""

    def __init__(self, steps: list[Step], live: bool, rate: float = RATE) -> None:
        self.info = StreamInfo("ppg", "ir", round(1e9 / rate), scale=-1.0, device="scripted")
        self.live = live
        self.counters: dict[str, int] = {"frames": len(steps)}
        self._steps = steps
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[SampleBlock | Notice]:
        for step in self._steps:
            if self.closed.is_set():
                return
            if isinstance(step, Exception):
                raise step
            if isinstance(step, SampleBlock | Notice):
                yield step
            else:
                step()

    def close(self) -> None:
        self.closed.set()


def blocks(start: int, stop: int, *, at: int | None = None, size: int = 20, **more: Any) -> list[SampleBlock]:
    """Samples ``start``…``stop`` of the body, as blocks whose first has the index ``at`` (default ``start``)."""
    shift = (start if at is None else at) - start
    out = [
        SampleBlock(a + shift, body()[a : min(a + size, stop)], time.monotonic_ns(), (a + shift) * 10_000)
        for a in range(start, stop, size)
    ]
    # What is told of a gap is told by the first block after it; the segment is that of all.
    segment = more.pop("segment", 0)
    return [replace(b, segment=segment, **(more if i == 0 else {})) for i, b in enumerate(out)]


def notice(kind: Any, text: str = "news") -> Notice:
    return Notice(kind, text, time.monotonic_ns())


def watch(
    steps: list[Step] | Source, *, live: bool = False, each: Callable[[Monitor], None] | None = None, **options: Any
) -> tuple[list[Message], Summary, Exception | None]:
    """All lines, the summary, and the error that ended it."""
    source: Any = Scripted(steps, live) if isinstance(steps, list) else steps
    monitor = Monitor(source, bundle(), engine(), fast=True, **options)
    narrator = Narrator(monitor, "test")
    lines: list[Message] = []
    failure = None
    try:
        for item in monitor:
            lines += narrator.lines(item)
            if each is not None:
                each(monitor)
    except (BadInput, SourceLost) as error:
        failure = error
    lines += narrator.finish()
    summary = narrator.summary()
    assert summary.balanced
    books = summary.samples
    assert books.received + books.missing + books.overwritten == summary.expected == books.expected
    assert books.missing == sum(line.missing for line in lines if isinstance(line, GapLine))
    assert summary.gaps == sum(isinstance(line, GapLine) for line in lines)
    for line in [*lines, summary]:
        assert json.loads(encode(line))["type"]
        plain(msgspec.to_builtins(line))
        assert_plain(line)
    # Every alarm that began has ended.
    begun = {(e.name, e.onset) for e in lines if isinstance(e, EventLine) and e.offset is None}
    ended = {(e.name, e.onset) for e in lines if isinstance(e, EventLine) and e.offset is not None}
    assert begun <= ended
    return lines, summary, failure


def plain(value: object) -> None:
    """Nothing of numpy's, and no NaN or infinity, which JSON does not know."""
    if isinstance(value, dict):
        for each in value.values():
            plain(each)
    elif isinstance(value, list):
        for each in value:
            plain(each)
    else:
        assert type(value) in (int, float, str, bool, type(None)), repr(value)
        assert not isinstance(value, float) or math.isfinite(value)


def assert_plain(line: Message) -> None:
    for name in line.__struct_fields__:
        value = getattr(line, name)
        assert not isinstance(value, np.generic), f"{type(line).__name__}.{name} is {type(value)}"


def tokens(lines: list[Message]) -> list[tuple[float, int, float]]:
    return [(line.t, line.id, line.p) for line in lines if isinstance(line, TokenLine)]


def events(lines: list[Message], name: str) -> list[EventLine]:
    return [line for line in lines if isinstance(line, EventLine) and line.name == name]


def test_live_and_recorded_say_the_same() -> None:
    recorded, _, _ = watch([*blocks(0, 3000)])
    live, summary, _ = watch([*blocks(0, 3000)], live=True)
    assert tokens(live) == tokens(recorded) and len(tokens(live)) > 70
    assert summary.ended == "end of source" and summary.samples.received == 3000


def test_a_slow_consumer_of_a_live_source_is_counted_overwrites() -> None:
    """The consumer takes its first hop and then sleeps until far more came than the ring holds."""
    taken, done = threading.Event(), threading.Event()
    steps: list[Step] = [*blocks(0, 200), lambda: taken.wait(10) and None, *blocks(200, 9000), done.set]

    def each(monitor: Monitor) -> None:
        taken.set()
        assert done.wait(10)

    lines, summary, _ = watch(steps, live=True, each=each)
    ring = int(RING_SECONDS * RATE)
    assert summary.expected == 9000 and summary.samples.missing == 0
    assert 9000 - ring - 200 < summary.samples.overwritten <= 9000 - ring
    # The newest are all there, as a segment of their own.
    assert tokens(lines)[-1][0] > 88
    assert summary.hops >= (ring - 100) / 40


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("error", [BadInput("line 7 is not a number"), SourceLost("gone")])
def test_what_came_before_an_error_is_delivered(live: bool, error: Exception) -> None:
    whole, _, _ = watch([*blocks(0, 2000)])
    lines, summary, failure = watch([*blocks(0, 2000), error, *blocks(2000, 3000)], live=live)
    assert failure is error and summary.ended == "error"
    assert tokens(lines) == tokens(whole)
    assert summary.samples.received == 2000


@pytest.mark.parametrize("live", [False, True])
def test_a_replug_is_a_gap_with_a_beginning_and_an_end(live: bool) -> None:
    back = blocks(2300, 4000, gap_reason="link lost")
    steps: list[Step] = [*blocks(0, 2000), notice("lost", "port hung up"), notice("restored"), *back]
    lines, summary, _ = watch(steps, live=live)
    (gap,) = [line for line in lines if isinstance(line, GapLine)]
    # It stands between the hops before and after it, however far behind the consumer was.
    at = lines.index(gap)
    assert all(line.t <= 20.0 for line in lines[:at] if isinstance(line, QualityLine))
    assert all(line.t >= 23.0 for line in lines[at:] if isinstance(line, QualityLine))
    assert (gap.missing, gap.reason, gap.t, gap.seconds) == (300, "link lost", 20.0, 3.0)
    begun, ended = events(lines, "gap")
    assert (begun.onset, begun.offset, ended.onset, ended.offset) == (20.0, None, 20.0, 23.0)
    assert [line.message for line in lines if isinstance(line, ErrorLine)] == ["port hung up", "news"]
    assert summary.samples.missing == 300 and summary.alarms["gap"] == 1
    assert not any(20.0 <= t < 23.0 for t, *_ in tokens(lines))


@pytest.mark.parametrize("live", [False, True])
def test_an_outage_that_cost_nothing_ends_too(live: bool) -> None:
    lines, summary, _ = watch([*blocks(0, 2000), notice("silent"), notice("restored"), *blocks(2000, 3000)], live=live)
    begun, ended = events(lines, "gap")
    assert begun.onset == 20.0 and ended.offset is not None and 20.0 < ended.offset <= 21.0
    assert ended.evidence == {"missing": 0.0}
    assert summary.samples.missing == 0


def test_an_outage_that_lasts_to_the_end_ends_with_the_stream() -> None:
    steps: list[Step] = [*blocks(0, 1000), notice("silent", "no samples"), notice("lost"), SourceLost("gave up")]
    lines, summary, failure = watch(steps, live=True)
    assert isinstance(failure, SourceLost)
    begun, ended = events(lines, "gap")
    assert begun.evidence == {"reason": "no samples"}
    assert (ended.offset, ended.evidence) == (10.0, {"ended_by": "end of stream"})
    assert summary.detected[-1].offset == 10.0


def test_a_short_gap_is_bridged_and_a_long_one_or_a_restart_starts_anew() -> None:
    short, _, _ = watch([*blocks(0, 1500), *blocks(1530, 3000)])
    assert not events(short, "gap")
    for more, at in (({"segment": 1, "gap_reason": "device restarted", "gap_estimated": True}, 1530), ({}, 1700)):
        lines, _, _ = watch([*blocks(0, 1500), *blocks(1530, 3000, at=at, **more)])
        # Warm-up begins again: nothing is believed for its first seconds.
        states = [line.state for line in lines if isinstance(line, QualityLine) and at / RATE < line.t < at / RATE + 7]
        assert set(states) == {"warmup"}
        assert next(line for line in lines if isinstance(line, GapLine)).estimated is ("segment" in more)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("seconds", [40, 3600, 40 * 86_400])
def test_a_gap_longer_than_the_ring_loses_and_costs_nothing_else(live: bool, seconds: int) -> None:
    at = 1500 + seconds * RATE
    began = time.monotonic()
    lines, summary, _ = watch([*blocks(0, 1500), *blocks(1500, 3000, at=at, segment=1, gap_estimated=True)], live=live)
    assert time.monotonic() - began < 5
    assert (summary.samples.received, summary.samples.overwritten) == (3000, 0)
    assert summary.samples.missing == seconds * RATE
    alone, _, _ = watch([*blocks(1500, 3000, at=0)])
    after = [(round(t - at / RATE, 3), *rest) for t, *rest in tokens(lines) if t >= at / RATE]
    assert after == tokens(alone)


def test_what_is_missing_at_the_end_counts() -> None:
    end = SampleBlock(2500, np.empty(0, np.int32), 0, gap_reason="not recorded")
    lines, summary, _ = watch([*blocks(0, 2000), end])
    assert (summary.expected, summary.samples.missing, summary.seconds) == (2500, 500, 25.0)
    assert events(lines, "gap")[-1].offset == 25.0


@pytest.mark.parametrize("live", [False, True])
def test_streams_with_little_or_nothing_in_them(live: bool) -> None:
    nothing = SampleBlock(800, np.empty(0, np.int32), 0)
    for steps, received in (([], 0), ([nothing], 0), (blocks(0, 30), 30), (blocks(0, 1, size=1), 1)):
        lines, summary, _ = watch(list(steps), live=live)
        assert summary.samples.received == received == summary.discarded
        assert summary.hops == 0 and not tokens(lines) and summary.median_hr is None and summary.hop_ms is None


def test_an_alarm_still_active_at_the_end_is_closed() -> None:
    lines, summary, _ = watch(open_source("sim:brady?duration=40"))
    begun, ended = events(lines, "brady")
    assert begun.offset is None and ended.offset == pytest.approx(40, abs=0.5)
    assert ended.evidence["ended_by"] == "end of stream"
    assert [(e.name, e.offset) for e in summary.detected if e.name == "brady"] == [("brady", ended.offset)]


def test_an_alarm_ends_with_its_segment() -> None:
    slow = [b for b in open_source("sim:brady?duration=40") if isinstance(b, SampleBlock)]
    again = SampleBlock(slow[-1].end + 500, slow[0].values, 0, gap_reason="cable pulled")
    more = SampleBlock(again.end, np.concatenate([b.values for b in slow[1:80]]), 0)
    lines, _, _ = watch([*slow, again, more])
    ended = events(lines, "brady")[1]
    assert ended.offset == pytest.approx(40, abs=0.5) and ended.evidence["ended_by"] == "cable pulled"


@pytest.mark.parametrize("live", [False, True])
def test_a_duration_is_kept(live: bool) -> None:
    _, summary, _ = watch([*blocks(0, 9000)], duration=12.0)
    assert summary.ended == "duration reached" and 12.0 <= summary.t <= 12.3
    # Live, what had arrived meanwhile is not thrown away, and what is told adds up.
    pause = threading.Event()
    steps: list[Step] = [*blocks(0, 1000), lambda: pause.wait(0.5) and None, *blocks(1200, 2000)]
    _, summary, _ = watch(steps, live=live, duration=11.0)
    assert summary.ended == "duration reached" and summary.samples.missing == 200


def test_a_silent_live_source_ends_by_the_hosts_clock() -> None:
    source = Scripted([*blocks(0, 100)], live=True)
    source._steps.append(lambda: source.closed.wait(20) and None)
    began = time.monotonic()
    _, summary, _ = watch(source, duration=1.2)
    assert summary.ended == "duration reached" and 1.0 < time.monotonic() - began < 4


@pytest.mark.parametrize("live", [False, True])
def test_a_stop_ends_soon_and_in_good_order(live: bool) -> None:
    source = Scripted([*blocks(0, 9000)], live=live)
    if live:
        # A source that complains because it is closed under its own feet is no failure.
        source._steps[60:] = [lambda: source.closed.wait(20) and None, *([SourceLost("closed")] * 2)]
    monitors: list[Monitor] = []

    def each(monitor: Monitor) -> None:
        monitors.append(monitor)
        if len(monitors) == 3:
            monitor.stop("enough")

    _, summary, failure = watch(source, each=each)
    assert failure is None and summary.ended == "enough" and summary.hops == 3 and source.closed.is_set()


def test_leaving_the_iteration_releases_the_source() -> None:
    source = Scripted([*blocks(0, 9000)], live=True)
    with contextlib.closing(iter(Monitor(source, bundle(), engine()))) as items:  # type: ignore[type-var]
        next(items)
    assert source.closed.is_set()
    assert not [t for t in threading.enumerate() if t.name == "pulsecode-source"]


@pytest.mark.parametrize("rate", [0.5, 10, 20_000, 1e9])
def test_a_rate_no_grid_can_be_made_from_is_refused(rate: float) -> None:
    with pytest.raises(BadInput, match=r"scripted.*samples a second"):
        Monitor(Scripted([], live=True, rate=rate), bundle(), engine())


def test_limits_that_leave_no_room_are_refused() -> None:
    with pytest.raises(BadInput, match="no room"):
        AlarmLimits(low_rate=140, high_rate=100)


def test_numpy_integers_in_a_block_stay_out_of_the_lines() -> None:
    steps: list[Step] = [
        SampleBlock(np.int64(b.index + 250 * (b.index >= 900)), b.values, 0, segment=np.int64(0), gap_reason="x")
        for b in blocks(0, 1500)
    ]
    lines, summary, _ = watch(steps)
    assert any(isinstance(line, GapLine) for line in lines) and any(isinstance(line, BeatLine) for line in lines)
    assert type(summary.t) is float and type(summary.expected) is int


def test_a_flapping_link_does_not_grow_the_summary() -> None:
    monitor = Monitor(Scripted([], live=True), bundle(), engine())
    narrator = Narrator(monitor, "test")
    count = MAX_DETECTED + 50
    for i in range(count):
        assert len(list(narrator.lines(Gap(i * 1000, 200, "frames lost", False)))) == 2
    summary = narrator.summary()
    assert summary.alarms == {"gap": count} and len(summary.detected) == MAX_DETECTED
    assert summary.detected[-1].onset == (count - 1) * 10.0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 300),  # samples missing before it
            st.integers(0, 200),  # samples
            st.booleans(),  # the device restarted
            st.sampled_from([None, "lost", "silent", "restored", "warning"]),
        ),
        max_size=20,
    ),
    st.booleans(),
    st.sampled_from([None, BadInput("bad"), SourceLost("lost")]),
)
def test_the_books_balance_whatever_comes(
    story: list[tuple[int, int, bool, str | None]], live: bool, error: Exception | None
) -> None:
    steps: list[Step] = []
    index = segment = received = 0
    for hole, count, restart, kind in story:
        index += hole
        segment += restart
        if kind is not None:
            steps.append(notice(kind))
        steps.append(SampleBlock(index, body()[index : index + count], 0, index * 10_000, segment=segment))
        received += len(body()[index : index + count])
        index = steps[-1].end
    if error is not None:
        steps.append(error)
    _, summary, failure = watch(steps, live=live)
    assert (summary.samples.received, summary.expected) == (received, index)
    assert failure is error
