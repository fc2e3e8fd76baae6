"""``pulsecode bench latency``: everything in one run, side by side, on one thread."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.contenders import all_contenders
from benchmarks.machine import Machine, describe
from benchmarks.processes import ColdStart, LiveStream, cold_start, live_stream
from benchmarks.timing import ROUNDS, Latency, take_turns
from edge.bundle import Bundle

STARTED = ("litert", "onnx", "torch step")  # contenders that a process could be made of


class Row(msgspec.Struct, frozen=True):
    """One contender. ``ratio``: its median against that of the first row that ran. ``missing`` says why figures are
    absent."""

    name: str
    what: str
    latency: Latency | None
    ratio: float | None
    cold_start: ColdStart | None
    missing: str


class Result(msgspec.Struct, frozen=True, tag_field="type", tag="bench_latency"):
    """A whole run of the benchmark. ``live_missing`` says why there is no ``live`` figure."""

    bundle: str
    bundle_sha256: str
    signal: str
    hop_seconds: float
    machine: Machine
    rows: list[Row]
    live: LiveStream | None
    live_missing: str


def measure(
    bundle: Bundle,
    *,
    run: Path | None = None,
    seconds: float = 20.0,
    rounds: int | None = None,
    starts: int = 5,
    stage: Callable[[str], None] = lambda text: None,
) -> Result:
    """Time every contender on ``bundle``, and ``seconds`` of live stream (0: none); ``stage`` is told what happens.

    Raises :class:`BadInput` if ``run`` cannot be read or is of another shape than the bundle.
    """
    machine = describe()
    stage("hop latency, in turns")
    contenders = all_contenders(bundle, run)
    latencies = take_turns(contenders, ROUNDS if rounds is None else rounds)
    base = next((latencies[c.name].p50 for c in contenders if c.name in latencies), None)
    rows = []
    for contender in contenders:
        latency = latencies.get(contender.name)
        started: ColdStart | str | None = None
        if latency is not None and contender.name in STARTED and starts:
            stage(f"cold start: {contender.name}")
            started = cold_start(contender.name.partition(" ")[0], bundle.path, starts)
        rows.append(
            Row(
                contender.name,
                contender.what,
                latency,
                round(latency.p50 / base, 2) if latency and base else None,
                started if isinstance(started, ColdStart) else None,
                contender.missing or (f"cold start: {started}" if isinstance(started, str) else ""),
            )
        )
    live: LiveStream | str = "not asked for"
    if seconds > 0:
        stage(f"pulsecode monitor, live for {seconds:g} s")
        live = live_stream(bundle.path, seconds)
    manifest = bundle.manifest
    return Result(
        bundle=f"{manifest.name} {manifest.version}",
        bundle_sha256=bundle.digest,
        signal=manifest.signal,
        hop_seconds=manifest.frontend.hop_seconds,
        machine=machine,
        rows=rows,
        live=None if isinstance(live, str) else live,
        live_missing=live if isinstance(live, str) else "",
    )
