"""``pulsecode bench forms``."""

import argparse
import sys
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Options."""
    parser.add_argument(
        "--runs", metavar="DIR", type=Path, default=Path("runs/ablation"), help="the ablation's rows, for the accuracy"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="also write forms.md and forms.json there")


def forms(args: argparse.Namespace) -> int:
    """Measure, show, and write."""
    import msgspec
    from rich.console import Console

    from benchmarks.forms.measure import Forms, accuracies, measure_forms, usable_engines
    from benchmarks.forms.present import markdown
    from benchmarks.machine import describe
    from firmware_bridge.errors import BadInput
    from trainer.encoder import EncoderConfig

    with Console(stderr=True).status("starting") as status:
        rows = measure_forms(EncoderConfig(), usable_engines(), status.update)
    found = Forms(rows, accuracies(args.runs, [0, 1]))
    text = markdown(found, describe())
    sys.stdout.write(text)
    if args.out is not None:
        try:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / "forms.md").write_text(text)
            (args.out / "forms.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
        except OSError as error:
            raise BadInput(f"folder {args.out}: cannot be written ({error.strerror}); give another --out") from None
    return 0
