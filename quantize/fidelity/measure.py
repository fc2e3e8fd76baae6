"""The fidelity report: every artefact against fp32 PyTorch, then what ships through the device's whole pipeline."""

import platform
from collections.abc import Collection, Iterable, Mapping
from itertools import combinations

import msgspec
import numpy as np

from edge.bundle import Bundle
from edge.engines import Engine, load_engine
from edge.npy import read_array
from quantize.export import Artefact, EngineName, TorchStep, encoder_shape
from quantize.fidelity import af_probe, gate, judgements
from quantize.fidelity.agreement import compare, differ
from quantize.fidelity.figures import Head, Pair, Report, Row, Watched
from quantize.fidelity.layers import deployed_layers, inner_layers
from quantize.fidelity.roofline import measure_roofline, share, times_fp32
from quantize.fidelity.watch import HOUR, Stretch, Watch, stretches, truth, watch
from quantize.methods.table import METHODS
from quantize.progress import Steps
from quantize.replay import Replay, replay
from quantize.run import TrainedRun
from quantize.streams import Streams
from trainer.encoder import Encoder
from trainer.recordings import Recording
from trainer.windows import WindowConfig

Part = tuple[EngineName, str]
Artefacts = Mapping[Part, Artefact]

LAYER_STREAMS = 4  # noise by layer: some hundred hops tell it to a tenth of a dB


def load(encoder: Encoder, artefact: Artefact) -> Engine:
    """The engine of an artefact."""
    shape = encoder_shape(encoder.config)
    return load_engine(artefact.engine, artefact.model, shape, encoder.config.hop, label=artefact.file)


def replays(
    encoder: Encoder, artefacts: Artefacts, streams: Streams, label: str, steps: Steps
) -> tuple[Replay, dict[Part, Replay]]:
    """``streams`` through fp32 PyTorch and through every artefact."""
    advance = steps.track(f"{label}: fp32 torch", len(streams))
    reference = replay(TorchStep(encoder), streams, advance)
    found = {}
    for (engine, method), artefact in artefacts.items():
        advance = steps.track(f"{label}: {engine} {method}", len(streams))
        found[engine, method] = replay(load(encoder, artefact), streams, advance)
    return reference, found


def data_sets(streams: Streams) -> str:
    """Their names, as a report says them."""
    return ", ".join(sorted({str(patient).partition("/")[0] for patient in streams.patients}))


def measure(
    run: TrainedRun,
    artefacts: Artefacts,
    judging: Streams,
    held_out: Streams | None,
    ms: Mapping[str, float],
    steps: Steps,
    *,
    calibrated_on: str,
    ships: Collection[Part] = (),
    bases: Artefacts | None = None,
) -> Report:
    """The report on ``artefacts``, of which ``ships`` go into the bundle.

    ``bases``: the fp32 graph that each was quantized from, where that is not its engine's ``fp32`` row.

    ``judging``: streams of test people; ``held_out``: of people in AF or not that no encoder saw, for the AF probe;
    ``ms``: median milliseconds a hop by ``"engine method"``, and of ``"torch"``.
    """
    reference, found = replays(run.encoder, artefacts, judging, "agreement", steps)
    of_head = {} if held_out is None else af_heads(run.encoder, artefacts, held_out, steps)
    steps.track("roofline", 1)
    roofline = measure_roofline(tuple(dict.fromkeys(engine for engine, _ in artefacts)), run.encoder.config)
    advance = steps.track("noise by layer", len(artefacts))
    rows = []
    for (engine, method), artefact in artefacts.items():
        took = ms[f"{engine} {method}"]
        row = compare(reference, found[engine, method], judging.patients, engine, method, len(artefact.model), took)
        row = msgspec.structs.replace(
            row,
            times_fp32=times_fp32(ms, engine, method),
            roofline=None if roofline is None else share(roofline, took, integer=METHODS[method].integer),
            heads=of_head.get((engine, method), []),
            ships=(engine, method) in ships,
        )
        base = (bases or {}).get((engine, method), artefacts.get((engine, "fp32")))
        rows.append(_with_layers(row, run.encoder, artefact, base, judging))
        advance()
    return gate.judged(
        Report(
            run=run.name,
            signal=run.signal,
            judged_on=f"test patients of {data_sets(judging)}",
            streams=len(judging),
            hops=len(judging) * judging.judged,
            patients=len(np.unique(judging.patients)),
            calibrated_on=calibrated_on,
            machine=f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}",
            torch_ms_per_hop=ms["torch"],
            rows=rows,
            roofline=roofline,
            between=_between(found, ships, judging),
        )
    )


def _with_layers(row: Row, encoder: Encoder, artefact: Artefact, fp32: Artefact | None, judging: Streams) -> Row:
    chosen = np.unique(np.linspace(0, len(judging) - 1, LAYER_STREAMS).round().astype(int))
    patches, warm = judging.patches[chosen], judging.warm
    inner, note = inner_layers(encoder, artefact.engine, fp32.model if fp32 else None, artefact.model, patches, warm)
    layers = deployed_layers(encoder, load(encoder, artefact), patches, warm)
    return msgspec.structs.replace(row, layers=layers, inner=inner, inner_note=note)


def _between(found: Mapping[Part, Replay], ships: Collection[Part], judging: Streams) -> list[Pair]:
    """One method on two engines, and all that ships."""
    return [
        differ(found[a], found[b], judging.patients, (" ".join(a), " ".join(b)))
        for a, b in combinations(found, 2)
        if a[1] == b[1] or (a in ships and b in ships)
    ]


def af_heads(encoder: Encoder, artefacts: Artefacts, streams: Streams, steps: Steps) -> dict[Part, list[Head]]:
    """The AF probe's figures of every artefact."""
    reference, found = replays(encoder, artefacts, streams, "AF probe", steps)
    af = af_probe.is_af(streams.groups)
    steps.track("AF probe: fit", 1)
    keyed = {" ".join(part): outcome.embeddings for part, outcome in found.items()}
    figures = af_probe.judge(af_probe.probe(reference.embeddings, keyed, af, streams.patients), af, streams.patients)
    fp32 = figures["fp32"][0]
    return {
        part: [Head(af_probe.NAME, "AUROC", True, fp32, *figures[" ".join(part)], judgements.POINTS)] for part in found
    }


def through_pipeline(
    report: Report,
    run: TrainedRun,
    shipped: Iterable[Artefact],
    bundle: Bundle,
    recordings: Iterable[Recording],
    steps: Steps,
    *,
    hour: float = HOUR,
) -> Report:
    """The report completed with what the device says with each of ``shipped`` in the place of fp32.

    ``bundle`` brings everything but the encoder; ``recordings`` are those to choose judging people's from, ``hour`` s
    of each data set. Where none judges, the report stays as it is.
    """
    chosen = stretches(recordings, hour)
    if not chosen or run.signal != "ppg":
        return report
    table = read_array(bundle, bundle.manifest.readout.file) if bundle.manifest.readout else None
    config = WindowConfig(rate=run.frontend.rate, hop=run.frontend.hop)

    def watched(label: str, engine: Engine) -> list[Watch]:
        advance = steps.track(f"pipeline: {label}", len(chosen))
        said = []
        for stretch in chosen:
            said.append(watch(stretch, bundle, engine, table))
            advance()
        return said

    fp32 = watched("fp32 torch", TorchStep(run.encoder))
    advance = steps.track("pipeline: the ECG's rate", len(chosen))
    rates = []
    for stretch, said in zip(chosen, fp32, strict=True):
        rates.append(truth(stretch, said.t, config))
        advance()
    rows = {(row.engine, row.method): row for row in report.rows}
    for artefact in shipped:
        part = artefact.engine, artefact.method
        int8 = watched(" ".join(part), load(run.encoder, artefact))
        steps.track("pipeline: heads and alarms", 1)
        both = [judgements.Both(*each) for each in zip(chosen, fp32, int8, rates, strict=True)]
        heads = [*rows[part].heads, *judgements.heads(both)]
        rows[part] = msgspec.structs.replace(rows[part], heads=heads, hour=judgements.hour(both))
    account = _account(chosen)
    return gate.judged(msgspec.structs.replace(report, rows=list(rows.values()), watched=account))


def _account(chosen: list[Stretch]) -> Watched:
    datasets: dict[str, tuple[int, float]] = {}
    for stretch in chosen:
        people, hours = datasets.get(stretch.recording.dataset, (0, 0.0))
        datasets[stretch.recording.dataset] = (people + 1, hours + stretch.seconds / 3600)
    rounded = {name: (people, round(hours, 2)) for name, (people, hours) in datasets.items()}
    return Watched(round(sum(stretch.seconds for stretch in chosen) / 3600, 2), rounded)
