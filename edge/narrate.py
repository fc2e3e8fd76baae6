"""From the monitor's items to the lines people and programs read, and the summary at the end."""

import time
from collections import Counter
from collections.abc import Iterator

import numpy as np

from edge.alarms import Event, Evidence, Severity
from edge.messages import (
    SCHEMA,
    BeatLine,
    ErrorLine,
    EventLine,
    GapLine,
    Message,
    RhythmLine,
    Summary,
    TokenLine,
    WithheldLine,
    event_line,
    gap_line,
    outcome_lines,
)
from edge.monitor import BRIDGE_SECONDS, Ended, Item, Monitor, News
from edge.pipeline import Outcome
from edge.ring import Gap

GAP_SEVERITY: Severity = "low"
MAX_DETECTED = 1000  # alarms that the summary tells one by one
HR_BINS = np.arange(0.0, 301.0, 0.5)


class Narrator:
    """Turns each item into lines, in order, and counts what the summary tells. Memory does not grow with time."""

    def __init__(self, monitor: Monitor, source: str) -> None:
        self._monitor, self._source = monitor, source
        self._tokens: Counter[int] = Counter()
        self._rates = np.zeros(len(HR_BINS), np.int64)
        self._beats = self._good = self._gaps = 0
        self._detected: dict[tuple[str, float], EventLine] = {}
        self._alarms: Counter[str] = Counter()
        self._withheld: Counter[str] = Counter()
        self._gap_onset: float | None = None
        self._began, self._cpu = time.monotonic(), time.process_time()

    def lines(self, item: Item) -> Iterator[Message]:
        """The lines of one item."""
        yield from self._counted(self._lines(item))

    def finish(self) -> Iterator[Message]:
        """The lines of a stream that is over: an outage that still lasts ends with it."""
        if self._gap_onset is not None:
            yield from self._counted(iter([self._gap_end(self._monitor.t, {"ended_by": "end of stream"})]))

    def error(self, message: str, *, fatal: bool) -> ErrorLine:
        """A line for what went wrong now."""
        return ErrorLine(round(self._monitor.t, 6), message, fatal)

    def _counted(self, lines: Iterator[Message]) -> Iterator[Message]:
        for line in lines:
            self._count(line)
            yield line

    def _lines(self, item: Item) -> Iterator[Message]:
        if isinstance(item, Outcome):
            half_hop = 0.5 * self._monitor.bundle.manifest.frontend.hop_seconds
            if self._gap_onset is not None and item.t > self._gap_onset + half_hop:
                # Samples came late, but none is missing.
                yield self._gap_end(item.t, {"missing": 0.0})
            self._good += item.quality.state == "good"
            yield from outcome_lines(item)
        elif isinstance(item, Gap):
            line = gap_line(item, self._monitor.period)
            yield line
            if self._gap_onset is not None or line.seconds > BRIDGE_SECONDS:
                self._gap_onset = line.t if self._gap_onset is None else self._gap_onset
                evidence: Evidence = {"missing": float(line.missing), "reason": line.reason}
                yield self._gap_end(line.t + line.seconds, evidence)
        elif isinstance(item, News):
            notice = item.notice
            yield ErrorLine(round(item.t, 6), notice.text, fatal=False)
            if notice.kind in ("lost", "silent") and self._gap_onset is None:
                # How much is missing is known when samples come again; that none come is known now.
                self._gap_onset = item.t
                yield event_line(Event("gap", item.t, None, GAP_SEVERITY, {"reason": notice.text}), item.t)
        elif isinstance(item, Ended):
            for event in item.events:
                yield event_line(event, item.t)

    def _gap_end(self, t: float, evidence: Evidence) -> EventLine:
        assert self._gap_onset is not None
        onset, self._gap_onset = self._gap_onset, None
        return event_line(Event("gap", onset, t, GAP_SEVERITY, evidence), t)

    def _count(self, line: Message) -> None:
        if isinstance(line, TokenLine):
            self._tokens[line.id] += 1
        elif isinstance(line, RhythmLine) and line.valid and line.hr is not None:
            self._rates[np.searchsorted(HR_BINS, line.hr)] += 1
        elif isinstance(line, GapLine):
            self._gaps += 1
        elif isinstance(line, EventLine):
            self._alarms[line.name] += (line.name, line.onset) not in self._detected
            self._detected[line.name, line.onset] = line
            # Raised after all: it was only late.
            self._withheld[line.name] -= line.offset is None and "withheld_since" in line.evidence
            if len(self._detected) > MAX_DETECTED:
                del self._detected[next(iter(self._detected))]
        elif isinstance(line, WithheldLine):
            self._withheld[line.name] += 1
        elif isinstance(line, BeatLine):
            self._beats += 1

    def summary(self) -> Summary:
        """The last line."""
        monitor = self._monitor
        elapsed = time.monotonic() - self._began
        books = monitor.books
        rated = int(self._rates.sum())
        median = float(HR_BINS[np.searchsorted(np.cumsum(self._rates), rated / 2)]) if rated else None
        return Summary(
            t=round(monitor.t, 6),
            schema=SCHEMA,
            source=self._source,
            bundle=f"{monitor.bundle.manifest.name} {monitor.bundle.manifest.version}",
            bundle_sha256=monitor.bundle.digest,
            engine=monitor.engine.name,
            seconds=round(monitor.t, 6),
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
            clock=monitor.clock,
            alarms=dict(self._alarms),
            detected=sorted(self._detected.values(), key=lambda line: line.onset),
            withheld=dict(+self._withheld),
            wire=dict(monitor.source.counters),
            ended=monitor.ended,
        )
