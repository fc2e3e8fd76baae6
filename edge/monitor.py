"""The monitor: a source's blocks in, outcomes, gaps and notices out, with the books kept.

A live source is read by its own thread into the ring, so a slow consumer shows as counted overwrites, never as a
stalled sensor. A recording is read in step with the pipeline, so nothing is ever lost, at its own pace or as fast as
it goes.
"""

import contextlib
import enum
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from edge.alarms import AlarmLimits, Event
from edge.bundle import Bundle
from edge.clock import ClockReport, DeviceClock
from edge.engines import Engine
from edge.grid import Grid, Hop
from edge.latency import LatencyHistogram
from edge.pipeline import Outcome, Pipeline, PipelineState
from edge.ring import Books, Gap, SampleRing
from firmware_bridge.block import Notice, SampleBlock
from firmware_bridge.errors import BadInput
from firmware_bridge.source import Source

RING_SECONDS = 30.0
BRIDGE_SECONDS = 1.0  # gaps up to this are bridged (and marked) inside a segment; longer ones end it
LOWEST_SHARE, HIGHEST_RATE = 1 / 8, 10_000.0  # of the model's rate; Hz
POLL_SECONDS = 0.2
JOIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Ended:
    """Alarms that were still active when the stream ended, at ``t`` s."""

    t: float
    events: list[Event]


@dataclass(frozen=True, slots=True)
class News:
    """What the source says of its link, when the stream had come to ``t`` s of sample time."""

    t: float
    notice: Notice


Item = Outcome | Gap | News | Ended


class _Word(enum.Enum):
    NEWS = enum.auto()
    FINISHED = enum.auto()


_Inbox = queue.SimpleQueue[_Word]


class Monitor:
    """Iterate it once. ``ended`` says why it stopped; an error of the source is raised after the last outcome.

    ``duration`` is seconds of sample time; of a live source that sends nothing, seconds of host time. Raises
    :class:`BadInput` for a sample rate that the bundle's grid cannot be made from.
    """

    def __init__(
        self,
        source: Source,
        bundle: Bundle,
        engine: Engine,
        *,
        limits: AlarmLimits | None = None,
        fast: bool = False,
        duration: float = math.inf,
    ) -> None:
        self.source, self.bundle, self.engine = source, bundle, engine
        self.info = source.info
        self.period = self.info.period_ns / 1e9
        frontend = bundle.manifest.frontend
        lowest = frontend.rate * LOWEST_SHARE
        if not lowest <= self.info.rate <= HIGHEST_RATE:
            raise BadInput(
                f"{self.info.device or 'source'}: {self.info.rate:g} samples a second; "
                f"bundle {bundle.manifest.name} takes {lowest:g} to {HIGHEST_RATE:g}"
            )
        self._bridge = max(1, round(BRIDGE_SECONDS / self.period))
        self._ring = SampleRing(max(4 * self._bridge, round(RING_SECONDS / self.period)), self._bridge)
        self._grid = Grid(self._ring, self.info.period_ns, frontend.rate, frontend.hop)
        self._pipeline = Pipeline(bundle, engine, self.info, limits)
        self._state: PipelineState | None = None
        self._fast, self._duration = fast, duration
        self._clock = DeviceClock(self.info.rate, self.info.rate_decision)
        self.hop_latency, self.arrival_latency = LatencyHistogram(), LatencyHistogram()
        self.hops = 0
        self.ended = "end of source"
        self._arrived = 0
        # What is to be told beside the hops, each at its sample index.
        self._words: deque[tuple[int, Gap | News]] = deque()
        self._began = 0.0
        # Plain flags: a signal handler may set them whatever its thread was doing.
        self._stopped = self._closing = False
        self._lock = threading.Lock()
        self._error: Exception | None = None

    @property
    def books(self) -> Books:
        """A consistent copy of the sample books."""
        with self._lock:
            return msgspec.structs.replace(self._ring.books)

    @property
    def clock(self) -> ClockReport:
        """What is known of the device's clock now."""
        with self._lock:
            return self._clock.report()

    @property
    def expected(self) -> int:
        """How many samples the stream has spanned, by its indices alone: what the books must add up to."""
        return self._ring.head

    @property
    def discarded(self) -> int:
        """Received samples that no whole hop was left for."""
        return self._grid.discarded

    @property
    def t(self) -> float:
        """Sample time reached, s."""
        return self._ring.head * self.period

    def stop(self, reason: str = "stopped") -> None:
        """End soon, from any thread or a signal handler."""
        if not self._stopped:
            self.ended, self._stopped = reason, True

    def __iter__(self) -> Iterator[Item]:
        self._began = time.monotonic()
        try:
            yield from self._live() if self.source.live else self._recorded()
            yield from self._drain(ended=True)
        finally:
            self.source.close()
        if self._state is not None:
            events = self._pipeline.finish(self._state)
            if events:
                yield Ended(self._state.t, events)
        if self._error is not None:
            raise self._error

    def _recorded(self) -> Iterator[Item]:
        items = iter(self.source)
        while not self._stopped:
            try:
                item = next(items, None)
            except Exception as error:  # whatever it is, what was read before it is still told first
                self._fail(error)
                return
            if item is None:
                return
            if isinstance(item, Notice):
                self._note(item)
                yield from self._drain()
                continue
            for block in _slices(item, self._bridge):
                if not (self._fast or self._waited(self._began + block.end * self.period)):
                    return
                self._accept(block)
                yield from self._drain()
                if self._reached_duration():
                    return

    def _waited(self, due: float) -> bool:
        """Whether ``due`` came before the end was asked for."""
        while not self._stopped:
            left = due - time.monotonic()
            if left <= 0:
                return True
            time.sleep(min(left, POLL_SECONDS))
        return False

    def _live(self) -> Iterator[Item]:
        inbox: _Inbox = queue.SimpleQueue()
        reader = threading.Thread(target=self._read, args=(inbox,), name="pulsecode-source", daemon=True)
        reader.start()
        word = None
        try:
            while word is not _Word.FINISHED and not self._stopped and not self._reached_duration():
                word = None
                with contextlib.suppress(queue.Empty):
                    word = inbox.get(timeout=POLL_SECONDS)
                yield from self._drain()
        finally:
            self._closing = True
            self.source.close()
            reader.join(JOIN_SECONDS)

    def _read(self, inbox: _Inbox) -> None:
        """The source's thread."""
        try:
            for item in self.source:
                if isinstance(item, Notice):
                    self._note(item)
                else:
                    self._accept(item)
                # One word is enough to wake the consumer, who may be far behind.
                if inbox.empty():
                    inbox.put(_Word.NEWS)
        except Exception as error:  # carried to the consumer, who raises it after the last outcome
            self._fail(error)
        inbox.put(_Word.FINISHED)

    def _fail(self, error: Exception) -> None:
        # A source may well complain when it is closed under its own feet.
        if not self._stopped and not self._closing:
            self._error, self.ended = error, "error"

    def _accept(self, block: SampleBlock) -> None:
        with self._lock:
            gap = self._ring.write(block)
            if gap is not None:
                self._words.append((gap.index, gap))
            self._arrived = block.arrival_ns
            # A recording's arrival times are ours, not a clock's.
            if self.source.live and block.device_us is not None and len(block.values):
                last = len(block.values) - 1
                stamp = block.device_us + round(last * self.period * 1e6)
                self._clock.observe(block.index + last, stamp, block.arrival_ns, block.segment)

    def _note(self, notice: Notice) -> None:
        with self._lock:
            self._words.append((self._ring.head, News(self.t, notice)))

    def _drain(self, *, ended: bool = False) -> Iterator[Item]:
        """Run every whole hop that the ring holds, and tell the rest at its place between them."""
        while not self._stopped:
            began = time.perf_counter()
            with self._lock:
                hop = self._grid.next_hop(ended=ended)
                words = self._take_words(self._ring.head if hop is None else hop.start)
                arrived = self._arrived
            spent = time.perf_counter() - began
            yield from words
            if hop is None:
                return
            began = time.perf_counter() - spent
            outcome = self._run(hop)
            self.hop_latency.add((time.perf_counter() - began) * 1e3)
            if self.source.live:
                self.arrival_latency.add((time.monotonic_ns() - arrived) / 1e6)
            yield outcome
        with self._lock:
            words = self._take_words(self._ring.head)
        yield from words

    def _take_words(self, upto: int) -> list[Gap | News]:
        taken = []
        while self._words and self._words[0][0] <= upto:
            taken.append(self._words.popleft()[1])
        return taken

    def _run(self, hop: Hop) -> Outcome:
        self._state, outcome = self._pipeline.step(self._state, hop)
        self.hops += 1
        return outcome

    def _reached_duration(self) -> bool:
        waited = time.monotonic() - self._began if self.source.live else 0.0
        if max(self.t, waited) < self._duration:
            return False
        self.ended = "duration reached"
        return True


def _slices(block: SampleBlock, size: int) -> Iterator[SampleBlock]:
    """Pieces of at most ``size`` samples, so that any block fits the ring beside what is not read yet."""
    if len(block.values) <= size:
        yield block
        return
    for start in range(0, len(block.values), size):
        first = start == 0
        yield replace(
            block,
            index=block.index + start,
            values=block.values[start : start + size],
            device_us=block.device_us if first else None,
            gap_reason=block.gap_reason if first else "",
            gap_estimated=block.gap_estimated and first,
        )
