"""``pulsecode bench latency|alarms|aarch64|forms|ablation|published``."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.aarch64 import commands as aarch64
from benchmarks.ablation import commands as ablation
from benchmarks.forms import commands as forms
from firmware_bridge.cli import Command
from firmware_bridge.errors import BadInput

if TYPE_CHECKING:
    from benchmarks.alarms.cases import Case


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (value == 0 or 2 <= value <= 3600):
        raise argparse.ArgumentTypeError(f"{text!r} is not 0 or 2 to 3600 seconds")
    return value


def _records(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of recordings, 1 or more")
    return int(text)


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="latency|alarms|aarch64|forms|ablation|published"
    )
    latency = actions.add_parser("latency", help="hop latency, cold start, memory and CPU share, beside the peers")
    latency.add_argument("--bundle", metavar="DIR|ZIP", help="bundle to time (default: the one that ships)")
    latency.add_argument(
        "--run", metavar="RUN", help="the encoder run it was made from (else PyTorch gets random weights)"
    )
    latency.add_argument(
        "--seconds", type=_seconds, default=20.0, metavar="S", help="live stream; 0 for none (default 20)"
    )
    latency.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    latency.add_argument("--out", metavar="DIR", type=Path, help="also write latency.json and latency.md there")
    latency.set_defaults(measure=_latency)
    alarms = actions.add_parser(
        "alarms", help="what the monitor finds in real recordings, what it misses, and its false alerts per hour"
    )
    alarms.add_argument("--bundle", metavar="DIR|ZIP", help="bundle to judge (default: the one that ships)")
    alarms.add_argument(
        "--data", type=Path, metavar="DIR", help="holds bidmc/, challenge2015/, mimic_perform_af/ (default: as train)"
    )
    alarms.add_argument("--limit", type=_records, metavar="N", help="a quick look: N recordings of each group")
    alarms.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    alarms.add_argument("--out", metavar="DIR", type=Path, help="also write alarms.json, alarms.md, alarms.png there")
    alarms.set_defaults(measure=_alarms)
    emulated = actions.add_parser("aarch64", help="the bundle in an arm64 Debian under qemu, beside this machine")
    aarch64.configure(emulated)
    emulated.set_defaults(measure=aarch64.aarch64)
    shapes = actions.add_parser("forms", help="norms and activations: what the int8 delegates take, time, accuracy")
    forms.configure(shapes)
    shapes.set_defaults(measure=forms.forms)
    rows = actions.add_parser("ablation", help="what each choice in the encoder is worth; hours, stops and resumes")
    ablation.configure(rows)
    rows.set_defaults(measure=ablation.ablation)
    faults = actions.add_parser("published", help="the published CM-SSL code's faults and what each costs; resumes")
    ablation.configure(faults)
    faults.set_defaults(measure=ablation.published)


def _run(args: argparse.Namespace) -> int:
    done: int = args.measure(args)
    return done


def _latency(args: argparse.Namespace) -> int:
    from rich.console import Console

    from benchmarks import present
    from benchmarks.latency import measure
    from edge.bundle import load_bundle

    run = None
    if args.run is not None:
        from quantize.run import find_run

        run = find_run(args.run)
    bundle = load_bundle(args.bundle)
    with Console(stderr=True).status("starting") as status:
        result = measure(bundle, run=run, seconds=args.seconds, stage=status.update)
    if args.json:
        sys.stdout.write(present.as_json(result).decode() + "\n")
    else:
        present.show(result, Console())
    if args.out is not None:
        _write(
            args.out,
            {"latency.json": present.as_json(result) + b"\n", "latency.md": present.as_markdown(result).encode()},
        )
    return 0


def _alarms(args: argparse.Namespace) -> int:
    from rich.console import Console

    from benchmarks.alarms import present
    from benchmarks.alarms.measure import measure
    from benchmarks.alarms.plot import draw
    from edge.bundle import load_bundle

    result, cases = measure(load_bundle(args.bundle), args.data, args.limit, _tracked)
    if args.json:
        sys.stdout.write(present.as_json(result).decode() + "\n")
    else:
        present.show(result, Console())
    if args.out is not None:
        files = {"alarms.json": present.as_json(result) + b"\n", "alarms.md": present.as_markdown(result).encode()}
        _write(args.out, {**files, "alarms.png": draw(result, cases)})
    return 0


def _tracked(cases: "Iterable[Case]", count: int) -> "Iterator[Case]":
    """Progress on stderr while recordings are watched."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("watching", total=count)
        for case in cases:
            progress.update(task, advance=1, description=f"watched {case.recording.dataset}/{case.recording.name}")
            yield case


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise BadInput(f"folder {folder}: cannot be written ({error.strerror}); give another --out") from None


BENCH = Command(help="measure: latency, alarms, design choices", configure=_configure, run=_run, extra="train")
