"""``pulsecode bench latency``."""

import argparse
import sys
from pathlib import Path

from firmware_bridge.cli import Command
from firmware_bridge.errors import BadInput


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (value == 0 or 2 <= value <= 3600):
        raise argparse.ArgumentTypeError(f"{text!r} is not 0 or 2 to 3600 seconds")
    return value


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="latency")
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


def _run(args: argparse.Namespace) -> int:
    try:
        from rich.console import Console

        from benchmarks import present
        from benchmarks.latency import measure
    except ImportError as error:
        raise BadInput(f"{error.name} is not installed; run `pip install 'pulsecode[device]'`") from None
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


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise BadInput(f"folder {folder}: cannot be written ({error.strerror}); give another --out") from None


BENCH = Command(help="measure: latency", configure=_configure, run=_run)
