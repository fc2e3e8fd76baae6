"""A run to C sources, weighed, compared and reported."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from edge.bundle import load_bundle
from edge.engines import Engine, open_engine
from quantize.mcu.boards import Board, emulate, weigh
from quantize.mcu.folder import write_sources
from quantize.mcu.judge import judge, native_replay
from quantize.mcu.plan import Plan, make_plan
from quantize.mcu.report import McuReport, Shape, as_json, as_markdown
from quantize.mcu.toolchain import call, host_program, tool
from quantize.mcu.vectors import as_patches
from quantize.progress import Steps
from quantize.rounding import Rounding, gptq, input_moments, nearest
from quantize.run import TrainedRun
from quantize.streams import Streams, take_streams
from trainer.encoder import Encoder, EncoderConfig
from trainer.windows import Windows

I16 = NDArray[np.int16]

CALIBRATION_STREAMS = 120
VECTOR_HOPS = 40  # in the folder, and on emulated boards: the context fills and turns over
# Sizes do not depend on the weights' values, and instructions hardly, so random ones do.
OTHER_SHAPES = ((64, 2), (64, 4))  # dim, layers


@dataclass(frozen=True)
class Options:
    """What the command was asked for."""

    out: Path
    rounding: Rounding
    windows: int
    self_test: bool
    report: Path | None
    bundle: str | None


def rounded(encoder: Encoder, calibration: Streams | None) -> Plan:
    """The integers of ``encoder``; weights by GPTQ on ``calibration``, or to the nearest step without it."""
    if calibration is None:
        return make_plan(encoder, lambda _, weight, scale: nearest(weight, scale))
    moments = input_moments(encoder, calibration.patches)
    return make_plan(encoder, lambda name, weight, scale: gptq(weight, scale, moments[name]))


def make(run: TrainedRun, windows: Windows, options: Options, steps: Steps) -> list[str]:
    """Write ``options.out`` (and the report); what of the proof failed, in words. Raises :class:`BadInput`."""
    options = replace(options, out=options.out.absolute())  # compilers run in that folder
    engines = _engines(options)  # first, since a bundle that cannot be opened ends it
    warm = run.encoder.config.context + run.windows.settle_hops  # the context fills, the front end settles
    judging = take_streams(windows, run.signal, "test", warm=warm, limit=options.windows)
    vectors = [as_patches(judging.patches[0][:VECTOR_HOPS])]
    calibration = _calibration(windows, run, warm) if options.rounding == "gptq" else None
    steps.track("weights to int8", 1)
    plan = rounded(run.encoder, calibration)
    write_sources(options.out, plan, run.frontend, run=run.name, warmup_hops=warm, vectors=vectors)
    boards: list[Board] = []
    if options.self_test or options.report is not None:
        boards = _on_boards(options.out, vectors, steps)
        _write_sizes(options.out, boards)
    if options.report is not None:
        report = _report(run, plan, calibration, judging, boards, engines, options.out, steps)
        _write_report(options.report, report)
        steps.say(f"report: {options.report}")
    steps.say(f"C sources: {options.out}")
    return [f"{b.core} {b.build}: other bits than on this computer" for b in boards if b.same is False]


def _calibration(windows: Windows, run: TrainedRun, warm: int) -> Streams:
    return take_streams(windows, run.signal, "train", warm=warm, limit=CALIBRATION_STREAMS)


def _on_boards(folder: Path, vectors: list[I16], steps: Steps) -> list[Board]:
    with tempfile.TemporaryDirectory() as name:
        program = host_program(folder, Path(name) / "run_vectors")
        return emulate(folder, weigh(folder, steps), program, vectors, steps)


def _write_sizes(folder: Path, boards: list[Board]) -> None:
    (folder / "size.json").write_bytes(msgspec.json.format(msgspec.json.encode(boards), indent=2) + b"\n")


def macs(config: EncoderConfig) -> int:
    """Products with weights and in the attention, a hop."""
    layer = (4 + 2 * config.mlp) * config.dim**2 + 2 * config.context * config.dim
    return config.hop * config.dim + config.layers * layer + config.dim * config.codebook_size


@contextmanager
def _random_folder(run: TrainedRun, config: EncoderConfig) -> Iterator[Path]:
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as name:
        torch.manual_seed(0)
        encoder = Encoder(config).eval()
        write_sources(Path(name), rounded(encoder, None), run.frontend, run="random", warmup_hops=0)
        yield Path(name)


def _shapes(run: TrainedRun, boards: list[Board], vectors: list[I16], steps: Steps) -> list[Shape]:
    config = run.encoder.config
    shapes = [Shape(f"this: d{config.dim}, {config.layers} layers", macs(config), boards)]
    for dim, layers in OTHER_SHAPES:
        if (dim, layers) != (config.dim, config.layers):
            other = replace(config, dim=dim, layers=layers)
            with _random_folder(run, other) as folder:
                name = f"d{dim}, {layers} layers (random)"
                shapes.append(Shape(name, macs(other), _on_boards(folder, vectors, steps)))
    return shapes


def _engines(options: Options) -> dict[str, Engine]:
    if options.bundle is None:
        return {}
    bundle = load_bundle(options.bundle)
    return {f"{name} of {bundle.manifest.name}": open_engine(bundle, name) for name in bundle.manifest.engines}


def _report(
    run: TrainedRun,
    plan: Plan,
    calibration: Streams | None,
    judging: Streams,
    boards: list[Board],
    engines: dict[str, Engine],
    folder: Path,
    steps: Steps,
) -> McuReport:
    twins = {"its weights in fp32": plan.float_twin}
    if calibration is not None:
        twins["weights to nearest in fp32"] = rounded(run.encoder, None).float_twin
    native = native_replay(folder, plan, judging, steps)
    agreements = judge(run.encoder, native, twins, engines, judging, steps)
    sets = ", ".join(sorted({str(patient).partition("/")[0] for patient in judging.patients}))
    return McuReport(
        run=run.name,
        rounding="GPTQ" if calibration is not None else "to nearest",
        calibrated_on=f"{len(calibration)} windows of training people" if calibration is not None else "no data",
        judged_on=f"{len(judging) * judging.judged:,} hops of {len(np.unique(judging.patients))} test people of {sets}",
        agreements=agreements,
        shapes=_shapes(run, boards, [as_patches(judging.patches[0][:VECTOR_HOPS])], steps),
        compiler=_first_line("arm-none-eabi-gcc"),
        emulator=_first_line("qemu-system-arm"),
    )


def _first_line(name: str) -> str:
    return call([tool(name), "--version"], Path()).partition("\n")[0]


def _write_report(path: Path, report: McuReport) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_markdown(report), encoding="utf-8")
    path.with_suffix(".json").write_bytes(as_json(report))
