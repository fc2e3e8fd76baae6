"""``pulsecode quantize RUN --out BUNDLE``."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from firmware_bridge.cli import Command
from firmware_bridge.errors import BadInput

if TYPE_CHECKING:
    from edge.bundle import Bundle
    from quantize.fidelity.figures import Report

HOUR_HELP = "seconds of each data set to compare the device's alarms and heads on (default: 3600)"
ENGINE_CHOICES = ("litert", "executorch", "onnx")
METHODS_HELP = (
    "what is made and compared: quick (default: a static one, dynamic, mixed precision), all (the full table, some "
    "minutes more; fine-tunes), or a comma-separated list of slugs"
)


def _engines(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in ENGINE_CHOICES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown; known: {', '.join(ENGINE_CHOICES)}")
    return names


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="an encoder run: its folder, or its name under runs/")
    parser.add_argument("--out", metavar="BUNDLE", type=Path, required=True, help="folder (or .zip) to write")
    parser.add_argument("--methods", metavar="LIST", default="quick", help=METHODS_HELP)
    parser.add_argument("--method", metavar="SLUG", default="auto", help="what ships (default: the best, by engine)")
    parser.add_argument(
        "--tables", metavar="DIR", type=Path, help="also write the sensitivity sweep and the ranges there"
    )
    parser.add_argument("--window", metavar="DIR", type=Path, help="also write the window form of what ships there")
    parser.add_argument("--data", metavar="DIR", help="recordings (default: $PULSECODE_DATA, else ../shared/data)")
    parser.add_argument("--cache", metavar="DIR", type=Path, help="where prepared windows are kept (default: cache)")
    parser.add_argument("--windows", metavar="N", type=_positive, default=300, help="held-out windows to judge on")
    parser.add_argument(
        "--engines", type=_engines, help="comma-separated: litert,executorch,onnx (default: installed ones)"
    )
    parser.add_argument("--no-heads", action="store_true", help="a bundle that judges neither quality nor rhythm")
    parser.add_argument("--name", help="the bundle's name (default: from --out)")
    parser.add_argument("--hour", type=_seconds, default=3600.0, metavar="S", help=HOUR_HELP)
    parser.add_argument("--anyway", action="store_true", help="write a bundle that fails the fidelity gate, marked so")
    parser.add_argument("--max-mb", type=float, default=8.0, help="refuse a larger bundle (default: 8)")


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from quantize.export import TorchStep, one_thread
    from quantize.fidelity.measure import through_pipeline
    from quantize.methods.table import methods_of
    from quantize.methods.tables import write_tables
    from quantize.novelty_fit import fit_novelty
    from quantize.pack import check_target, pack
    from quantize.progress import Steps
    from quantize.readout_fidelity import readout_fidelity
    from quantize.run import find_run, load_run
    from quantize.window_form import write_windows
    from quantize.workflow import AUTO, first_engine, quantize_run
    from trainer.preparation import CACHE, prepare_windows
    from trainer.recordings import data_folder, find_recordings

    console = Console(stderr=True, highlight=False)
    run = load_run(find_run(args.run))
    if run.signal == "ppg" and run.heads is None and not args.no_heads:
        command = f"pulsecode train heads --run {args.run} --out {Path(args.run).parent / 'heads'}"
        raise BadInput(
            f"run {args.run}: no heads.json there or beside it, so nothing could ever alarm; "
            f"make it with `{command}` or give --no-heads"
        )
    check_target(args.out)
    methods = methods_of(args.methods)
    if args.method != AUTO:
        methods_of(args.method)
    cache = args.cache or CACHE
    windows = prepare_windows(data_folder(args.data), run.windows, cache, console)
    outcome = quantize_run(
        run,
        windows,
        method=args.method,
        methods=methods,
        engines=args.engines,
        limit=args.windows,
        tuning=cache / "fine-tuned",
    )
    material = outcome.material
    with Steps() as steps:
        novelty = fit_novelty(first_engine(outcome), material.learning, material.choosing, material.judging, steps)
        heads = None if args.no_heads else run.heads
        breath = None if args.no_heads else run.respiration
        rate, moved = None, {}
        if heads and heads.readout and heads.rate and run.readouts is not None:
            rate = (heads.readout, run.readouts, heads.rate)
            with one_thread():
                reference, hops = TorchStep(run.encoder), heads.readout.hops
                moved = readout_fidelity(reference, first_engine(outcome), run.readouts, hops, material.judging, steps)

    def judge(bundle: "Bundle") -> "Report":
        recordings = find_recordings(data_folder(args.data)).recordings
        with one_thread(), Steps() as steps:
            shipped = outcome.artefacts.values()
            return through_pipeline(outcome.report, run, shipped, bundle, recordings, steps, hour=args.hour)

    if args.tables:
        write_tables(args.tables, outcome.bench)
    if args.window:
        for line in write_windows(args.window, outcome):
            console.print(line)
    bundle = pack(
        outcome,
        args.out,
        novelty=(novelty.model, novelty.transitions),
        quality=heads.quality if heads else None,
        rhythm=heads.rhythm if heads else None,
        support=heads.support if heads else None,
        rate=rate,
        respiration=breath.model if breath else None,
        metrics={
            **novelty.metrics,
            **(heads.metrics if heads else {}),
            **moved,
            **(breath.metrics if breath else {}),
        },
        name=args.name,
        max_bytes=round(args.max_mb * 1e6),
        judge=judge,
        anyway=args.anyway,
    )
    size = sum(len(bundle.read(name)) for name in bundle.manifest.files)
    console.print(f"bundle {bundle.path}: {size / 1e6:.2f} MB, {len(bundle.manifest.files)} files")
    return 0


QUANTIZE = Command(
    help="an encoder run to an int8 bundle, with its fidelity report", configure=_configure, run=_run, extra="quantize"
)
