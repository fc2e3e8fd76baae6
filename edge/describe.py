"""What a bundle, an event or a session says in words."""

from edge.bundle import Bundle
from edge.messages import EventLine, LatencyReport, Summary

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
    return "\n".join(lines)


def describe(bundle: Bundle) -> str:
    """What a bundle holds, some lines of text."""
    m = bundle.manifest
    f, e = m.frontend, m.encoder
    lines = [
        f"{m.name} {m.version} ({m.licence}), schema {m.schema}, sha256 {bundle.digest}",
        f"signal    {m.signal} at {f.rate:g} Hz, {f.hop} samples ({f.hop_seconds:g} s) a hop",
        f"encoder   {e.layers} layers, {e.heads * e.head_dim} wide, {e.context} patches of context,"
        f" look-ahead {e.lookahead}, {e.codebook_size} codes, warm-up {m.warmup_hops} hops",
        *(f"engine    {name}: {engine.file}, {engine.method}" for name, engine in m.engines.items()),
        f"heads     novelty {'yes' if m.novelty else 'no'}, quality {'yes' if m.quality else 'no'},"
        f" rhythm {'yes' if m.rhythm else 'no'}, rate {'yes' if m.rate else 'no'},"
        f" respiration {'yes' if m.respiration else 'no'}",
        *(f"metric    {name}: {value}" for name, value in m.metrics.items()),
        *(f"from      {name}: {value}" for name, value in m.provenance.items()),
        *(f"file      {len(bundle.read(name)):>9} bytes  {name}" for name in m.files),
    ]
    return "\n".join(lines)
