"""`pulsecode evaluate noise`."""

import argparse
from pathlib import Path

from trainer.protocols.options import data_arguments, positive, taught_arguments

HELP = "how far a PPG student's tokens stand firm under noise, 20 to -5 dB"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    taught_arguments(parser)
    data_arguments(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="a quick look: N windows of the test people")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write noise.json and noise.png there")


def run(args: argparse.Namespace) -> int:
    """Print the table and, with ``--out``, write the figures and the picture."""
    from rich.console import Console

    from trainer.progress import progress_console
    from trainer.protocols.noise_stability import measure_stability, show_stability, write_stability
    from trainer.protocols.taught import read_taught
    from trainer.stages import DataChoice

    console = progress_console()
    choice = DataChoice.of(args.data, args.cache, args.limit)
    stability = measure_stability(read_taught(args.run, args.tokenizer), choice, console)
    show_stability(stability, Console())
    if args.out is not None:
        write_stability(stability, args.out)
        console.print(f"noise: written into {args.out}", soft_wrap=True)
    return 0
