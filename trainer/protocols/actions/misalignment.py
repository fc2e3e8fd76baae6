"""`pulsecode evaluate misalignment`."""

import argparse
from pathlib import Path

from trainer.protocols.options import data_arguments, positive, taught_arguments

HELP = "student accuracy when ECG and PPG are shifted against each other, with and without estimated alignment"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    taught_arguments(parser)
    data_arguments(parser)
    parser.add_argument("--people", type=positive, metavar="N", help="a quick look: N of the test people")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write misalignment.json and misalignment.png there")


def run(args: argparse.Namespace) -> int:
    """Print the table and, with ``--out``, write the figures and the picture."""
    from rich.console import Console

    from trainer.progress import progress_console
    from trainer.protocols.misalignment import measure_misalignment, show_misalignment, write_misalignment
    from trainer.protocols.taught import read_taught
    from trainer.stages import DataChoice

    console = progress_console()
    choice = DataChoice.of(args.data, args.cache, None)
    found = measure_misalignment(read_taught(args.run, args.tokenizer), choice, args.people, console)
    show_misalignment(found, Console())
    if args.out is not None:
        write_misalignment(found, args.out)
        console.print(f"misalignment: written into {args.out}", soft_wrap=True)
    return 0
