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
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from edge.alarms import AlarmLimits, Event
from edge.bundle import Bundle
from edge.clock import DeviceClock
from edge.engines import Engine
from edge.grid import Grid, Hop
from edge.latency import LatencyHistogram
from edge.pipeline import Outcome, Pipeline, PipelineState
from edge.ring import Books, Gap, SampleRing
from firmware_bridge.block import Notice, SampleBlock
from firmware_bridge.source import Source

RING_SECONDS = 30.0
BRIDGE_SECONDS = 1.0  # gaps up to this are bridged (and marked) inside a segment; longer ones end it
POLL_SECONDS = 0.2
JOIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Ended:
    """Alarms that were still active when the stream ended, at ``t`` s."""

    t: float
    events: list[Event]


Item = Outcome | Gap | Notice | Ended


class _Word(enum.Enum):
    NEW_SAMPLES = enum.auto()
    FINISHED = enum.auto()


_Inbox = queue.SimpleQueue[Gap | Notice | _Word]


class Monitor:
    """Iterate it once. ``ended`` says why it stopped; an error of the source is raised after the last outcome."""

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
        self._bridge = max(1, round(BRIDGE_SECONDS / self.period))
        self._ring = SampleRing(max(4 * self._bridge, round(RING_SECONDS / self.period)), self._bridge)
        frontend = bundle.manifest.frontend
        self._grid = Grid(self._ring, self.info.period_ns, frontend.rate, frontend.hop)
        self._pipeline = Pipeline(bundle, engine, self.info, limits)
        self._state: PipelineState | None = None
        self._fast, self._duration = fast, duration
        self.clock = DeviceClock(self.info.rate, self.info.rate_decision)
        self.hop_latency, self.arrival_latency = LatencyHistogram(), LatencyHistogram()
        self.hops = 0
        self.ended = "end of source"
        self._arrived = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._error: Exception | None = None

    @property
    def books(self) -> Books:
        """A consistent copy of the sample books."""
        with self._lock:
            return msgspec.structs.replace(self._ring.books)

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
        self.ended = reason
        self._stop.set()

    def __iter__(self) -> Iterator[Item]:
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
        began = time.monotonic()
        items = iter(self.source)
        while not self._stop.is_set():
            try:
                item = next(items, None)
            except Exception as error:  # whatever it is, what was read before it is still told first
                self._error = error
                self.ended = "error"
                return
            if item is None:
                return
            if isinstance(item, Notice):
                yield item
                continue
            for block in _slices(item, self._bridge):
                if not self._fast:
                    due = began + block.end * self.period - time.monotonic()
                    if due > 0 and self._stop.wait(due):
                        return
                yield from self._accept(block)
                yield from self._drain()
                if self._reached_duration():
                    return

    def _live(self) -> Iterator[Item]:
        inbox: _Inbox = queue.SimpleQueue()
        reader = threading.Thread(target=self._read, args=(inbox,), name="pulsecode-source", daemon=True)
        reader.start()
        try:
            while not self._stop.is_set() and not self._reached_duration():
                word = None
                with contextlib.suppress(queue.Empty):
                    word = inbox.get(timeout=POLL_SECONDS)
                if isinstance(word, Gap | Notice):
                    yield word
                yield from self._drain()
                if word is _Word.FINISHED:
                    return
        finally:
            self.source.close()
            reader.join(JOIN_SECONDS)

    def _read(self, inbox: _Inbox) -> None:
        """The source's thread: samples go into the ring, words about them into the inbox."""
        try:
            for item in self.source:
                words = [item] if isinstance(item, Notice) else list(self._accept(item))
                for word in words or [_Word.NEW_SAMPLES]:
                    inbox.put(word)
        except Exception as error:  # carried to the consumer, who raises it after the last outcome
            self._error = error
            self.ended = "error"
        inbox.put(_Word.FINISHED)

    def _accept(self, block: SampleBlock) -> Iterator[Gap]:
        with self._lock:
            gap = self._ring.write(block)
            self._arrived = block.arrival_ns
        # A recording's arrival times are ours, not a clock's.
        if self.source.live and block.device_us is not None and len(block.values):
            last = len(block.values) - 1
            stamp = block.device_us + round(last * self.period * 1e6)
            self.clock.observe(block.index + last, stamp, block.arrival_ns, block.segment)
        if gap is not None:
            yield gap

    def _drain(self, *, ended: bool = False) -> Iterator[Outcome]:
        """Run every whole hop that the ring holds."""
        while not self._stop.is_set():
            began = time.perf_counter()
            with self._lock:
                hop = self._grid.next_hop(ended=ended)
                arrived = self._arrived if hop else 0
            if hop is None:
                return
            outcome = self._run(hop)
            self.hop_latency.add((time.perf_counter() - began) * 1e3)
            if self.source.live:
                self.arrival_latency.add((time.monotonic_ns() - arrived) / 1e6)
            yield outcome

    def _run(self, hop: Hop) -> Outcome:
        self._state, outcome = self._pipeline.step(self._state, hop)
        self.hops += 1
        return outcome

    def _reached_duration(self) -> bool:
        if self.t < self._duration:
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
