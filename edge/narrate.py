"""From the monitor's items to the lines people and programs read, and the summary at the end."""

import time
from collections import Counter
from collections.abc import Iterator

import numpy as np

from edge.alarms import Event, Evidence, Severity
from edge.messages import (
    SCHEMA,
    ErrorLine,
    EventLine,
    GapLine,
    Message,
    RhythmLine,
    Summary,
    TokenLine,
    event_line,
    gap_line,
    outcome_lines,
)
from edge.monitor import BRIDGE_SECONDS, Ended, Item, Monitor
from edge.pipeline import Outcome
from edge.ring import Gap
from firmware_bridge.block import Notice

GAP_SEVERITY: Severity = "low"
HR_BINS = np.arange(0.0, 301.0, 0.5)


class Narrator:
    """Turns each item into lines, in order, and counts what the summary tells. Memory does not grow with time,
    but for one line per alarm."""

    def __init__(self, monitor: Monitor, source: str) -> None:
        self._monitor, self._source = monitor, source
        self._tokens: Counter[int] = Counter()
        self._rates = np.zeros(len(HR_BINS), np.int64)
        self._beats = self._good = self._gaps = 0
        self._detected: dict[tuple[str, float], EventLine] = {}
        self._gap_onset: float | None = None
        self._began, self._cpu = time.monotonic(), time.process_time()

    def lines(self, item: Item) -> Iterator[Message]:
        """The lines of one item."""
        for line in self._lines(item):
            self._count(line)
            yield line

    def error(self, message: str, *, fatal: bool) -> ErrorLine:
        """A line for what went wrong now."""
        return ErrorLine(self._monitor.t, message, fatal)

    def _lines(self, item: Item) -> Iterator[Message]:
        t = self._monitor.t
        if isinstance(item, Outcome):
            self._good += item.quality.state == "good"
            yield from outcome_lines(item)
        elif isinstance(item, Gap):
            line = gap_line(item, self._monitor.period)
            yield line
            onset, self._gap_onset = self._gap_onset, None
            if onset is not None or line.seconds > BRIDGE_SECONDS:
                evidence: Evidence = {"missing": float(line.missing), "reason": line.reason}
                begin = line.t if onset is None else onset
                yield event_line(Event("gap", begin, line.t + line.seconds, GAP_SEVERITY, evidence), t)
        elif isinstance(item, Notice):
            yield ErrorLine(t, item.text, fatal=False)
            if item.kind in ("lost", "silent") and self._gap_onset is None:
                # How much is missing is known when samples come again; that none come is known now.
                self._gap_onset = t
                yield event_line(Event("gap", t, None, GAP_SEVERITY, {"reason": item.text}), t)
        elif isinstance(item, Ended):
            for event in item.events:
                yield event_line(event, item.t)

    def _count(self, line: Message) -> None:
        if isinstance(line, TokenLine):
            self._tokens[line.id] += 1
        elif isinstance(line, RhythmLine) and line.valid and line.hr is not None:
            self._rates[np.searchsorted(HR_BINS, line.hr)] += 1
        elif isinstance(line, GapLine):
            self._gaps += 1
        elif isinstance(line, EventLine):
            self._detected[line.name, line.onset] = line
        elif line.__struct_config__.tag == "beat":
            self._beats += 1

    def summary(self) -> Summary:
        """The last line."""
        monitor = self._monitor
        elapsed = time.monotonic() - self._began
        books = monitor.books
        rated = int(self._rates.sum())
        median = float(HR_BINS[np.searchsorted(np.cumsum(self._rates), rated / 2)]) if rated else None
        return Summary(
            t=monitor.t,
            schema=SCHEMA,
            source=self._source,
            bundle=f"{monitor.bundle.manifest.name} {monitor.bundle.manifest.version}",
            bundle_sha256=monitor.bundle.digest,
            engine=monitor.engine.name,
            seconds=monitor.t,
            samples=books,
            expected=monitor.expected,
            balanced=books.expected == monitor.expected,
            discarded=monitor.discarded,
            gaps=self._gaps,
            hops=monitor.hops,
            tokens=self._tokens.total(),
            distinct_tokens=len(self._tokens),
            beats=self._beats,
            good_share=self._good / monitor.hops if monitor.hops else 0.0,
            median_hr=median,
            hop_ms=monitor.hop_latency.report(),
            arrival_ms=monitor.arrival_latency.report(),
            cpu_share=(time.process_time() - self._cpu) / elapsed if elapsed > 0 else None,
            clock=monitor.clock.report(),
            detected=sorted(self._detected.values(), key=lambda line: line.onset),
            wire=dict(monitor.source.counters),
            ended=monitor.ended,
        )
