"""`pulsecode train heads`."""

import argparse
from pathlib import Path

from firmware_bridge.errors import BadInput

HELP = "what the device judges with: quality, irregular rhythm, heart rate with its uncertainty, support of alarms"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--run", metavar="RUN", help="the finished PPG encoder run that the heads stand on")
    parser.add_argument("--out", required=True, metavar="RUN", help="run folder, e.g. runs/heads")
    parser.add_argument("--data", metavar="DIR", help="folder of data sets (PULSECODE_DATA, or ../shared/data)")


def run(args: argparse.Namespace) -> int:
    """Fit and judge."""
    from trainer.heads.fit import train_heads
    from trainer.progress import progress_console
    from trainer.ranks import rank
    from trainer.recordings import data_folder

    if args.run is None:
        raise BadInput("train heads: --run is missing; name the PPG encoder run whose embedding they read")
    if rank() == 0:
        train_heads(Path(args.run), Path(args.out), data_folder(args.data), progress_console())
    return 0
