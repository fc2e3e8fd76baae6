"""A run to its int8 engines: convert, calibrate, quantize, measure, choose."""

import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from msgspec.structs import replace as with_fields

from edge.engines import Engine, load_engine
from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from quantize import task
from quantize.export import (
    ENGINE_NAMES,
    Artefact,
    EngineName,
    Method,
    TorchStep,
    calibration_feeds,
    convert,
    encoder_shape,
    one_thread,
    quantized,
)
from quantize.fidelity import Report, compare
from quantize.progress import Steps
from quantize.replay import Replay, hop_times, replay
from quantize.run import TrainedRun
from quantize.streams import Streams, take_streams
from trainer.encoder import Encoder
from trainer.windows import Windows

Choice = Literal["static", "dynamic", "auto"]
Part = tuple[EngineName, Method]

CALIBRATION_STREAMS = 120
CHOOSING_STREAMS = 100
CALIBRATION_EVERY = 6  # hops; neighbours tell the same
SLOWER_AT_MOST = 1.3  # the choice between static and dynamic: agreement first, within this factor of the faster


@dataclass(frozen=True)
class Material:
    """Streams to calibrate on (training people), to choose the method on (validation people), to judge on (test
    people), and for the task (people held out of everything, in AF or not; None where the data folder has none)."""

    calibration: Streams
    choosing: Streams
    judging: Streams
    task: Streams | None
    people: dict[str, dict[str, int]]  # part → data set → patients


@dataclass(frozen=True)
class Outcome:
    """The int8 model of each engine, why it is this one, the report on all that were tried, and what it rests on."""

    run: TrainedRun
    artefacts: dict[EngineName, Artefact]
    reasons: dict[EngineName, str]
    report: Report
    material: Material


def _people(windows: Windows) -> dict[str, dict[str, int]]:
    from trainer.splits import PARTS

    count: dict[str, dict[str, int]] = {}
    for part in PARTS:
        names = np.unique(windows.part(part).patients)
        count[part] = dict(Counter(str(name).partition("/")[0] for name in names))
    return count


def warm_up(run: TrainedRun) -> int:
    """Hops after a (re)start before a token is believed: the front end settles, then the context fills."""
    return run.encoder.config.context + run.windows.settle_hops


def gather(windows: Windows, signal: Signal, warm: int, limit: int) -> Material:
    """Streams for every purpose, ``limit`` windows to judge on, ``warm`` hops before each. Raises :class:`BadInput`
    if there are none."""
    calibration = take_streams(windows, signal, "train", warm=warm, limit=CALIBRATION_STREAMS)
    choosing = take_streams(windows, signal, "validation", warm=warm, limit=min(limit, CHOOSING_STREAMS))
    judging = take_streams(windows, signal, "test", warm=warm, limit=limit)
    held_out: Streams | None
    try:
        held_out = take_streams(windows, signal, "held_out", warm=warm, limit=limit)
    except BadInput:
        held_out = None
    if held_out is not None and len(np.unique(task.is_af(held_out.groups))) < 2:
        held_out = None
    return Material(calibration, choosing, judging, held_out, _people(windows))


@dataclass(frozen=True)
class Candidate:
    """What the choice between the methods of one engine rests on: ``agreement`` with fp32 (share of hops with the
    same token, validation people) and median ``ms`` a hop."""

    method: Method
    agreement: float
    ms: float


def choose(candidates: list[Candidate], method: Choice) -> tuple[Method, str]:
    """Static or dynamic for one engine, and the reason in words.

    ``auto``: the higher agreement among those whose hop takes at most :data:`SLOWER_AT_MOST` times the fastest's.
    """
    if method != "auto":
        return method, f"{method}, as asked for"
    fastest = min(candidates, key=lambda c: c.ms)
    quick = [c for c in candidates if c.ms <= SLOWER_AT_MOST * fastest.ms]
    best = max(quick, key=lambda c: (c.agreement, -c.ms))
    figures = "; ".join(f"{c.method} {100 * c.agreement:.2f} % at {c.ms:.3f} ms a hop" for c in candidates)
    if len(quick) < len(candidates):
        why = f"the other takes more than {SLOWER_AT_MOST} times as long"
    else:
        why = f"higher agreement with fp32, within {SLOWER_AT_MOST} times the fastest"
    return best.method, f"{best.method}: {why} ({figures}; validation patients)"


def make_artefacts(
    encoder: Encoder, calibration: Streams, methods: list[Method], engines: tuple[EngineName, ...], steps: Steps
) -> dict[Part, Artefact]:
    """fp32 and ``methods`` for each engine."""
    advance = steps.track("calibration streams", len(calibration))
    feeds = []
    for i, patches in enumerate(calibration.patches):
        # Staggered, so that every age of the context (also the first hops', with their mask) is seen.
        feeds += list(calibration_feeds(encoder, [patches]))[i % CALIBRATION_EVERY :: CALIBRATION_EVERY]
        advance()
    made: dict[Part, Artefact] = {}
    advance = steps.track("converting", len(engines) * (1 + len(methods)))
    for engine in engines:
        fp32 = made[engine, "fp32"] = convert(encoder, engine)
        advance()
        for method in methods:
            made[engine, method] = quantized(fp32, method, feeds)
            advance()
    return made


def _replays(
    encoder: Encoder, artefacts: Mapping[Part, Artefact], streams: Streams, label: str, steps: Steps
) -> tuple[Replay, dict[Part, Replay]]:
    advance = steps.track(f"{label}: fp32 torch", len(streams))
    reference = replay(TorchStep(encoder), streams, advance)
    found = {}
    for (engine, method), artefact in artefacts.items():
        loaded = load_engine(engine, artefact.model, encoder_shape(encoder.config), encoder.config.hop)
        advance = steps.track(f"{label}: {engine} {method}", len(streams))
        found[engine, method] = replay(loaded, streams, advance)
    return reference, found


def time_hops(run: TrainedRun, artefacts: Mapping[Part, Artefact], streams: Streams, steps: Steps) -> dict[str, float]:
    """Median ms a hop by ``"engine method"``, and of ``"torch"``; engines take turns, one thread."""
    config = run.encoder.config
    shape = encoder_shape(config)
    engines = {f"{e} {m}": load_engine(e, a.model, shape, config.hop) for (e, m), a in artefacts.items()}
    steps.track("timing", 1)
    times = hop_times({"torch": TorchStep(run.encoder), **engines}, streams.patches[0])
    return {name: round(1e3 * float(np.median(spent)), 4) for name, spent in times.items()}


def measure(
    run: TrainedRun, artefacts: Mapping[Part, Artefact], material: Material, ms: Mapping[str, float], steps: Steps
) -> Report:
    """The fidelity report of ``artefacts``; ``ms`` from :func:`time_hops`."""
    judging = material.judging
    reference, found = _replays(run.encoder, artefacts, judging, "agreement", steps)
    rows = [
        compare(reference, found[e, m], judging.patients, e, m, len(artefact.model), ms[f"{e} {m}"])
        for (e, m), artefact in artefacts.items()
    ]
    calibrators = len(np.unique(material.calibration.patients))
    report = Report(
        run=run.name,
        signal=run.signal,
        judged_on=f"test patients of {_sets(judging)}",
        streams=len(judging),
        hops=len(judging) * judging.judged,
        patients=len(np.unique(judging.patients)),
        calibrated_on=f"{calibrators} training patients of {_sets(material.calibration)}",
        machine=f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}",
        torch_ms_per_hop=ms["torch"],
        task_name=task.NAME,
        task_fp32=None,
        rows=rows,
    )
    return report if material.task is None else _with_task(report, run.encoder, artefacts, material.task, steps)


def candidates(
    run: TrainedRun, artefacts: Mapping[Part, Artefact], choosing: Streams, ms: Mapping[str, float], steps: Steps
) -> dict[EngineName, list[Candidate]]:
    """What there is to choose from for each engine, judged on people that the report does not use."""
    int8 = {part: artefact for part, artefact in artefacts.items() if artefact.method != "fp32"}
    reference, found = _replays(run.encoder, int8, choosing, "choosing", steps)
    tokens = reference.scores.argmax(-1)
    out: dict[EngineName, list[Candidate]] = {}
    for (engine, method), outcome in found.items():
        agreement = float((outcome.scores.argmax(-1) == tokens).mean())
        out.setdefault(engine, []).append(Candidate(method, agreement, ms[f"{engine} {method}"]))
    return out


def _sets(streams: Streams) -> str:
    return ", ".join(sorted({str(patient).partition("/")[0] for patient in streams.patients}))


def _with_task(
    report: Report, encoder: Encoder, artefacts: Mapping[Part, Artefact], streams: Streams, steps: Steps
) -> Report:
    reference, found = _replays(encoder, artefacts, streams, "AF task", steps)
    af = task.is_af(streams.groups)
    keyed = {f"{e} {m}": outcome.embeddings for (e, m), outcome in found.items()}
    steps.track("AF task: probe", 1)
    decisions = task.probe(reference.embeddings, keyed, af, streams.patients)
    figures = task.judge(decisions, af, streams.patients)
    rows = []
    for row in report.rows:
        value, change = figures[f"{row.engine} {row.method}"]
        rows.append(with_fields(row, task=value, task_change=change))
    return with_fields(report, rows=rows, task_fp32=figures["fp32"][0])


def quantize_run(
    run: TrainedRun,
    windows: Windows,
    *,
    method: Choice = "auto",
    engines: tuple[EngineName, ...] = ENGINE_NAMES,
    limit: int = 300,
) -> Outcome:
    """Convert, quantize both ways, measure on ``limit`` held-out windows and choose."""
    material = gather(windows, run.signal, warm_up(run), limit)
    with one_thread(), Steps() as steps:
        # Both ways are always made and reported, whichever is asked for: the other row is the proof of the choice.
        artefacts = make_artefacts(run.encoder, material.calibration, ["static", "dynamic"], engines, steps)
        ms = time_hops(run, artefacts, material.choosing, steps)
        options = candidates(run, artefacts, material.choosing, ms, steps)
        chosen, reasons = {}, {}
        for engine in engines:
            best, reasons[engine] = choose(options[engine], method)
            chosen[engine] = artefacts[engine, best]
            steps.say(f"{engine}: {reasons[engine]}")
        report = measure(run, artefacts, material, ms, steps)
    return Outcome(run, chosen, reasons, report, material)


def first_engine(outcome: Outcome) -> Engine:
    """The engine that a device prefers, loaded with its chosen model."""
    config = outcome.run.encoder.config
    name = next(name for name in ENGINE_NAMES if name in outcome.artefacts)
    artefact = outcome.artefacts[name]
    return load_engine(name, artefact.model, encoder_shape(config), config.hop, label=artefact.file)
