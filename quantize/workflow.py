"""A run to its int8 engines: convert, calibrate, quantize, measure, choose."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.engines import ENGINES, Engine, load_engine
from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from quantize.export import ENGINE_NAMES, Artefact, EngineName, TorchStep, convert, encoder_shape, one_thread, quantized
from quantize.fidelity import af_probe
from quantize.fidelity.figures import Report
from quantize.fidelity.measure import data_sets, measure, replays
from quantize.methods.calibration import calibration_streams
from quantize.methods.table import METHODS, QUICK, offered
from quantize.methods.workbench import FineTuning, Recipe, Workbench
from quantize.progress import Steps
from quantize.replay import hop_times
from quantize.run import TrainedRun
from quantize.streams import Streams, take_streams
from trainer.encoder import Encoder
from trainer.windows import Windows

Part = tuple[EngineName, str]

CALIBRATION_STREAMS = 120
CHOOSING_STREAMS = 100
SLOWER_AT_MOST = 1.3  # the choice between methods: agreement first, within this factor of the fastest
AUTO = "auto"


@dataclass(frozen=True)
class Material:
    """Streams to calibrate on (training people, every rhythm and quality), to learn from what is usual (training
    people, readable), to choose the method on (validation people), to judge on (test
    people), and for the task (people held out of everything, in AF or not; None where the data folder has none)."""

    calibration: Streams
    learning: Streams
    choosing: Streams
    judging: Streams
    task: Streams | None
    people: dict[str, dict[str, int]]  # part → data set → patients


@dataclass(frozen=True)
class Outcome:
    """The model of each engine that ships, why it is this one, the report on all that were tried, and what it rests
    on. ``recipes``: the encoder and plan behind each artefact that ships."""

    run: TrainedRun
    artefacts: dict[EngineName, Artefact]
    reasons: dict[EngineName, str]
    report: Report
    material: Material
    recipes: dict[EngineName, Recipe]
    bench: Workbench


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


def gather(windows: Windows, signal: Signal, warm: int, limit: int, rate: float) -> Material:
    """Streams for every purpose, ``limit`` windows to judge on, ``warm`` hops before each, ``rate`` in Hz. Raises
    :class:`BadInput` if there are none."""
    calibration = calibration_streams(windows, signal, warm=warm, limit=CALIBRATION_STREAMS, rate=rate)
    learning = take_streams(windows, signal, "train", warm=warm, limit=CALIBRATION_STREAMS)
    choosing = take_streams(windows, signal, "validation", warm=warm, limit=min(limit, CHOOSING_STREAMS))
    judging = take_streams(windows, signal, "test", warm=warm, limit=limit)
    held_out: Streams | None
    try:
        held_out = take_streams(windows, signal, "held_out", warm=warm, limit=limit)
    except BadInput:
        held_out = None
    if held_out is not None and len(np.unique(af_probe.is_af(held_out.groups))) < 2:
        held_out = None
    return Material(calibration, learning, choosing, judging, held_out, _people(windows))


@dataclass(frozen=True)
class Candidate:
    """What the choice between the methods of one engine rests on: ``agreement`` with fp32 (share of hops with the
    same token, validation people) and median ``ms`` a hop."""

    method: str
    agreement: float
    ms: float


def choose(candidates: Sequence[Candidate], method: str = AUTO) -> tuple[str, str]:
    """The method that ships for one engine, and the reason in words.

    ``auto``: the highest agreement among those whose hop takes at most :data:`SLOWER_AT_MOST` times the fastest's.
    """
    if method != AUTO:
        return method, f"{method}, as asked for"
    fastest = min(candidates, key=lambda c: c.ms)
    quick = [c for c in candidates if c.ms <= SLOWER_AT_MOST * fastest.ms]
    best = max(quick, key=lambda c: (c.agreement, -c.ms))
    figures = "; ".join(f"{c.method} {100 * c.agreement:.2f} % at {c.ms:.3f} ms a hop" for c in candidates)
    why = f"highest agreement with fp32 within {SLOWER_AT_MOST} times the fastest"
    return best.method, f"{best.method}: {why} ({figures}; validation patients)"


def make_artefacts(
    bench: Workbench, slugs: Sequence[str], engines: Sequence[EngineName], steps: Steps
) -> tuple[dict[Part, Artefact], dict[Part, Recipe], dict[Part, Artefact]]:
    """fp32 and the methods of ``slugs`` for each engine that has them; and what each was made from: its recipe, and
    the fp32 graph of that recipe's encoder."""
    wanted = [(engine, method) for engine in engines for method in offered(engine, ["fp32", *slugs])]
    recipes = {(engine, method.slug): method.make(bench, engine) for engine, method in wanted}
    advance = steps.track("converting", len(wanted))
    made: dict[Part, Artefact] = {}
    bases: dict[Part, Artefact] = {}
    converted: dict[tuple[EngineName, Encoder], Artefact] = {}
    for engine, method in wanted:
        part, recipe = (engine, method.slug), recipes[engine, method.slug]
        if (engine, recipe.encoder) not in converted:
            converted[engine, recipe.encoder] = convert(recipe.encoder, engine)
        base = bases[part] = converted[engine, recipe.encoder]
        fp32 = method.slug == "fp32"
        made[part] = base if fp32 else quantized(base, recipe.encoder, recipe.plan, method.slug)
        advance()
    return made, recipes, bases


def time_hops(run: TrainedRun, artefacts: Mapping[Part, Artefact], streams: Streams, steps: Steps) -> dict[str, float]:
    """Median ms a hop by ``"engine method"``, and of ``"torch"``; engines take turns, one thread."""
    config = run.encoder.config
    shape = encoder_shape(config)
    engines = {f"{e} {m}": load_engine(e, a.model, shape, config.hop) for (e, m), a in artefacts.items()}
    steps.track("timing", 1)
    times = hop_times({"torch": TorchStep(run.encoder), **engines}, streams.patches[0])
    return {name: round(1e3 * float(np.median(spent)), 4) for name, spent in times.items()}


def candidates(
    run: TrainedRun, artefacts: Mapping[Part, Artefact], choosing: Streams, ms: Mapping[str, float], steps: Steps
) -> dict[EngineName, list[Candidate]]:
    """What there is to choose from for each engine, judged on people that the report does not use: the methods that
    compute with integers."""
    integer = {part: artefact for part, artefact in artefacts.items() if METHODS[artefact.method].integer}
    reference, found = replays(run.encoder, integer, choosing, "choosing", steps)
    tokens = reference.scores.argmax(-1)
    out: dict[EngineName, list[Candidate]] = {}
    for (engine, method), outcome in found.items():
        agreement = float((outcome.scores.argmax(-1) == tokens).mean())
        out.setdefault(engine, []).append(Candidate(method, agreement, ms[f"{engine} {method}"]))
    return out


def runnable_engines() -> tuple[EngineName, ...]:
    """The engines whose models can be judged here, since they are installed; the preferred first."""
    return tuple(name for name in ENGINE_NAMES if ENGINES[name].installed())


def quantize_run(
    run: TrainedRun,
    windows: Windows,
    *,
    method: str = AUTO,
    methods: Sequence[str] = QUICK,
    engines: tuple[EngineName, ...] | None = None,
    limit: int = 300,
    tuning: Path | None = None,
) -> Outcome:
    """Convert, quantize by every one of ``methods``, measure on ``limit`` held-out windows and choose.

    ``method``: what ships, or :data:`AUTO`. ``tuning``: the folder that keeps what fine-tuning learns; without it the
    methods that fine-tune are left out. Raises :class:`BadInput` where an engine has none of the methods.
    """
    engines = engines or runnable_engines()
    material = gather(windows, run.signal, warm_up(run), limit, run.windows.rate)
    slugs = list(dict.fromkeys([*methods, *([] if method == AUTO else [method])]))
    if tuning is None:
        slugs = [slug for slug in slugs if not METHODS[slug].tunes]
    for engine in engines:
        if not any(m.integer and (method in (AUTO, m.slug)) for m in offered(engine, slugs)):
            raise BadInput(f"--methods {','.join(slugs)}: none of them can ship for {engine}; add dynamic")
    with one_thread(), Steps() as steps:
        finetuning = None if tuning is None else FineTuning(windows, run.signal, tuning)
        bench = Workbench(run.encoder, material.calibration, material.learning, material.choosing, steps, finetuning)
        artefacts, recipes, bases = make_artefacts(bench, slugs, engines, steps)
        ms = time_hops(run, artefacts, material.choosing, steps)
        options = candidates(run, artefacts, material.choosing, ms, steps)
        chosen, reasons = {}, {}
        for engine in engines:
            best, reasons[engine] = choose(options[engine], method)
            chosen[engine] = artefacts[engine, best]
            steps.say(f"{engine}: {reasons[engine]}")
        ships = {(engine, artefact.method) for engine, artefact in chosen.items()}
        calibrators = len(np.unique(material.calibration.patients))
        report = measure(
            run,
            artefacts,
            material.judging,
            material.task,
            ms,
            steps,
            calibrated_on=f"{calibrators} training patients of {data_sets(material.calibration)}",
            ships=ships,
            bases=bases,
        )
    shipped = {engine: recipes[engine, artefact.method] for engine, artefact in chosen.items()}
    return Outcome(run, chosen, reasons, report, material, shipped, bench)


def first_engine(outcome: Outcome) -> Engine:
    """The engine that a device prefers, loaded with its chosen model."""
    config = outcome.run.encoder.config
    name = next(name for name in ENGINE_NAMES if name in outcome.artefacts)
    artefact = outcome.artefacts[name]
    return load_engine(name, artefact.model, encoder_shape(config), config.hop, label=artefact.file)
