"""The JSON lines: one object a line, each with ``type`` and ``t``, seconds of sample time since the stream's start.

The schema is ARCHITECTURE's; :data:`SCHEMA` rises when a field changes its meaning.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from edge.alarms import Event, Evidence, Severity, Withheld
from edge.clock import ClockReport
from edge.pipeline import Outcome
from edge.ring import Books, Gap

SCHEMA: Literal[1] = 1


class Message(msgspec.Struct, tag_field="type", omit_defaults=False):
    """Common field of every line."""

    t: float


class TokenLine(Message, tag="token"):
    """A patch's token; ``t`` is the patch's start, ``p`` the token's probability."""

    id: int
    p: float


class BeatLine(Message, tag="beat"):
    """A pulse beat's steepest upstroke; ``ibi`` s, None where the interval cannot be counted."""

    ibi: float | None


class QualityLine(Message, tag="quality"):
    """``sqi`` 0–1 and what state the signal is in."""

    sqi: float
    state: str


class RhythmLine(Message, tag="rhythm"):
    """``hr`` bpm, and the interval ``hr_low`` to ``hr_high`` that holds it nine times in ten (as the bundle says), None
    where it cannot be told; ``p_irregular`` 0–1 or None; and whether the rate is to be believed."""

    hr: float | None
    hr_low: float | None
    hr_high: float | None
    p_irregular: float | None
    valid: bool


class RespirationLine(Message, tag="respiration"):
    """``rate`` breaths a minute and its ``error`` (one standard error), None where nothing can be told, and whether to
    believe it; a line every few seconds."""

    rate: float | None
    error: float | None
    valid: bool


class NoveltyLine(Message, tag="novelty"):
    """p-value of the recent tokens' surprise: small is unusual."""

    p: float


class GapLine(Message, tag="gap"):
    """Samples that never came, from ``t`` on; ``seconds`` of sample time; ``estimated`` from the host's clock."""

    missing: int
    seconds: float
    reason: str
    estimated: bool


class EventLine(Message, tag="event"):
    """An alarm's onset (``offset`` null) or end; ``t`` is when it was known."""

    name: str
    onset: float
    offset: float | None
    severity: Severity
    evidence: Evidence


class WithheldLine(Message, tag="withheld"):
    """An alarm that was not raised at ``t``: the ``support`` in its ``evidence`` was too low. Raised later in
    the same spell, its event's evidence has ``withheld_since``."""

    name: str
    evidence: Evidence


class ErrorLine(Message, tag="error"):
    """What went wrong, and whether the session goes on."""

    message: str
    fatal: bool


class LatencyReport(msgspec.Struct):
    """Milliseconds."""

    p50: float
    p99: float
    max: float


class Summary(Message, tag="summary"):
    """The last line. ``hop_ms``: computing one hop; ``arrival_ms``: from the arrival of a hop's last sample to its
    outcome (live only); ``cpu_share`` of one core; ``discarded``: received samples of incomplete hops; ``alarms``:
    how often each was raised; ``detected``: the last of them; ``withheld``: how often each was not raised for want of
    support, nor later in the same spell."""

    schema: Literal[1]
    source: str
    bundle: str
    bundle_sha256: str
    engine: str
    seconds: float
    samples: Books
    expected: int
    balanced: bool
    discarded: int
    gaps: int
    hops: int
    tokens: int
    distinct_tokens: int
    beats: int
    good_share: float
    median_hr: float | None
    hop_ms: LatencyReport | None
    arrival_ms: LatencyReport | None
    cpu_share: float | None
    clock: ClockReport
    alarms: dict[str, int]
    detected: list[EventLine]
    withheld: dict[str, int]
    wire: dict[str, int]
    ended: str


AnyLine = (
    TokenLine
    | BeatLine
    | QualityLine
    | RhythmLine
    | RespirationLine
    | NoveltyLine
    | GapLine
    | EventLine
    | WithheldLine
    | ErrorLine
    | Summary
)

_encoder = msgspec.json.Encoder()


def encode(line: Message) -> bytes:
    """One JSON line, with its newline."""
    return _encoder.encode(line) + b"\n"


def _round(value: float | None, digits: int = 6) -> float | None:
    """Microseconds and millionths are far below what any of these numbers means; more digits are noise."""
    return None if value is None else round(value, digits)


def event_line(event: Event, t: float) -> EventLine:
    """An event as it is printed at ``t``."""
    return EventLine(
        round(t, 6), event.name, round(event.onset, 6), _round(event.offset), event.severity, event.evidence
    )


def withheld_line(withheld: Withheld) -> WithheldLine:
    """An onset that was not raised."""
    return WithheldLine(round(withheld.t, 6), withheld.name, withheld.evidence)


def gap_line(gap: Gap, period: float) -> GapLine:
    """``period`` s a sample."""
    return GapLine(round(gap.index * period, 6), gap.missing, round(gap.missing * period, 6), gap.reason, gap.estimated)


def _rhythm_line(outcome: Outcome, t: float) -> RhythmLine:
    rhythm, rate = outcome.rhythm, outcome.rate
    p = _round(rhythm.p_irregular, 4)
    if rate is None:
        return RhythmLine(t, _round(rhythm.hr, 3), None, None, p, rhythm.valid)
    return RhythmLine(t, round(rate.bpm, 3), round(rate.low, 3), round(rate.high, 3), p, rate.valid)


def outcome_lines(outcome: Outcome) -> Iterator[Message]:
    """One hop's lines, in a fixed order."""
    t = round(outcome.t, 6)
    for beat in outcome.beats:
        yield BeatLine(round(beat.t, 6), _round(beat.ibi))
    if outcome.token is not None:
        yield TokenLine(round(outcome.token.t, 6), outcome.token.id, outcome.token.p)
    yield QualityLine(t, round(outcome.quality.sqi, 4), outcome.quality.state)
    yield _rhythm_line(outcome, t)
    breath = outcome.respiration
    if breath is not None:
        yield RespirationLine(t, _round(breath.rate, 2), _round(breath.error, 2), breath.valid)
    if outcome.novelty is not None:
        yield NoveltyLine(t, round(outcome.novelty, 4))
    for event in outcome.events:
        yield event_line(event, outcome.t)
    for withheld in outcome.withheld:
        yield withheld_line(withheld)
