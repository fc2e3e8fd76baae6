"""What an event or a session says in words."""

from edge.messages import EventLine, LatencyReport, Summary, WithheldLine

TITLES = {
    "pulse_lost": "PULSE LOST",
    "brady": "SLOW PULSE",
    "tachy": "FAST PULSE",
    "irregular": "IRREGULAR RHYTHM",
    "sensor_off": "SENSOR OFF",
    "gap": "NO DATA",
}


def describe_event(line: EventLine) -> str:
    """One line of text."""
    title = TITLES.get(line.name, line.name)
    facts = ", ".join(f"{key} {value}" for key, value in line.evidence.items())
    if line.offset is None:
        return f"{title} ({line.severity})  {facts}"
    return f"{title} ended, {line.onset:.1f}–{line.offset:.1f} s  {facts}"


def describe_withheld(line: WithheldLine) -> str:
    """One line of text."""
    return f"{TITLES.get(line.name, line.name).lower()} not raised: support {line.evidence.get('support')}"


def _latency(report: LatencyReport | None) -> str:
    return "-" if report is None else f"p50 {report.p50:.2f}  p99 {report.p99:.2f}  max {report.max:.2f} ms"


def describe_summary(s: Summary) -> str:
    """The closing account of a session, some lines of text."""
    books = s.samples
    rate = s.clock
    lines = [
        f"{s.seconds:.1f} s of {s.source}, {s.bundle} on {s.engine}; {s.ended}",
        f"samples   received {books.received} + missing {books.missing} + overwritten {books.overwritten}"
        f" = {books.expected}, expected {s.expected}: {'balanced' if s.balanced else 'NOT BALANCED'}"
        f" ({s.gaps} gaps, {books.late} late, {s.discarded} in incomplete hops)",
        f"tokens    {s.tokens} ({s.distinct_tokens} distinct) in {s.hops} hops",
        f"pulse     {s.beats} beats, median {'-' if s.median_hr is None else f'{s.median_hr:.0f} bpm'},"
        f" readable {100 * s.good_share:.0f} % of the time",
        f"hop       {_latency(s.hop_ms)}",
    ]
    if s.arrival_ms is not None:
        lines.append(f"arrival   to outcome {_latency(s.arrival_ms)}")
    if s.cpu_share is not None:
        lines.append(f"cpu       {100 * s.cpu_share:.1f} % of one core")
    measured = "" if rate.rate_measured is None else f", its own stamps say {rate.rate_measured:.3f} Hz"
    skew = "" if rate.skew_ppm is None else f", clock {rate.skew_ppm:+.0f} ± {rate.skew_error_ppm:.0f} ppm"
    lines.append(f"rate      {rate.rate_used:g} Hz ({rate.decision}){measured}{skew}")
    if s.wire:
        lines.append("wire      " + ", ".join(f"{name} {count}" for name, count in s.wire.items() if count))
    if not s.detected:
        lines.append("detected  nothing")
    if (earlier := sum(s.alarms.values()) - len(s.detected)) > 0:
        lines.append(f"detected  {earlier} earlier ones, and")
    for event in s.detected:
        end = "still on" if event.offset is None else f"{event.offset:.1f} s"
        lines.append(f"detected  {event.name}, {event.onset:.1f} s – {end} ({event.severity})")
    if s.withheld:
        told = ", ".join(f"{name} {count}" for name, count in s.withheld.items())
        lines.append(f"withheld  {told} for want of support")
    return "\n".join(lines)
