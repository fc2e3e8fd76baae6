"""``pulsecode bench alarms``: the shipped bundle through the real monitor, over real recordings, and the verdict."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from benchmarks.alarms import af, alerts, beats, challenge, quality, rates
from benchmarks.alarms.af import AFResult
from benchmarks.alarms.alerts import AlertRow, GroupRow
from benchmarks.alarms.beats import BeatRow
from benchmarks.alarms.cases import Case, choose, examine
from benchmarks.alarms.challenge import ChallengeRow, Finding
from benchmarks.alarms.quality import QualityRow
from benchmarks.alarms.rates import RateRow
from benchmarks.machine import Machine, describe
from edge.alarms import AlarmLimits
from edge.bundle import Bundle
from edge.engines import open_engine
from firmware_bridge.errors import BadInput
from quantize.provenance import commit
from trainer.recordings import Recording, data_folder

Track = Callable[[Iterable[Case], int], Iterable[Case]]


class Result(msgspec.Struct, frozen=True, tag_field="type", tag="bench_alarms"):
    """A whole run. ``limit``: recordings of each data set where not all were asked for; ``calibrated_on``: what the
    bundle says its judging models were fitted on; ``hours`` of signal took ``seconds`` to watch and judge."""

    bundle: str
    bundle_sha256: str
    engine: str
    commit: str
    machine: Machine
    limits: AlarmLimits
    limit: int | None
    calibrated_on: dict[str, str]
    recordings: dict[str, int]
    hours: float
    seconds: float
    challenge: list[ChallengeRow]
    findings: list[Finding]
    groups: list[GroupRow]
    alerts: list[AlertRow]
    af: AFResult | None
    rates: list[RateRow]
    beats: list[BeatRow]
    quality: list[QualityRow]


def measure(
    bundle: Bundle,
    data: Path | None = None,
    limit: int | None = None,
    track: Track = lambda cases, count: cases,
) -> tuple[Result, list[Case]]:
    """Watch every recording under ``data`` (default: as the trainer finds it) and judge what was said.

    ``track`` wraps the recordings as they are watched, to show progress. Raises :class:`BadInput` if the bundle is
    not for PPG, or the data cannot be read.
    """
    manifest = bundle.manifest
    if manifest.signal != "ppg":
        raise BadInput(f"bundle {bundle.path}: is for {manifest.signal}; this benchmark judges a PPG bundle")
    begun = time.monotonic()
    engine = open_engine(bundle)
    chosen = choose(data_folder(data), limit)
    cases = list(track(examine(chosen, bundle, engine), len(chosen)))
    limits = AlarmLimits()
    findings, challenge_rows = challenge.score(cases, limits)
    group_rows, alert_rows = alerts.score(cases, limits, manifest.rhythm)
    models = {"quality": manifest.quality, "rhythm": manifest.rhythm}
    result = Result(
        bundle=f"{manifest.name} {manifest.version}",
        bundle_sha256=bundle.digest,
        engine=engine.name,
        commit=commit(),
        machine=describe(),
        limits=limits,
        limit=limit,
        calibrated_on={name: model.calibrated_on if model else "no such model" for name, model in models.items()},
        recordings=_count(chosen),
        hours=round(sum(case.watched.seconds for case in cases) / 3600, 2),
        seconds=0.0,
        challenge=challenge_rows,
        findings=findings,
        groups=group_rows,
        alerts=alert_rows,
        af=af.score(cases),
        rates=rates.score(cases),
        beats=beats.score(cases),
        quality=quality.score(cases),
    )
    return msgspec.structs.replace(result, seconds=round(time.monotonic() - begun, 1)), cases


def _count(recordings: list[Recording]) -> dict[str, int]:
    found: dict[str, int] = {}
    for recording in recordings:
        found[recording.dataset] = found.get(recording.dataset, 0) + 1
    return found
