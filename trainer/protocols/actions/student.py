"""`pulsecode evaluate student`."""

import argparse
from pathlib import Path

from firmware_bridge.errors import BadInput
from trainer.protocols.options import data_arguments, positive

HELP = "token accuracy, codebook use and an AF probe on unseen people"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--run", required=True, metavar="RUN", help="a finished encoder run")
    parser.add_argument("--tokenizer", metavar="RUN", help="the tokenizer run it was taught by (default: beside it)")
    parser.add_argument("--part", choices=("validation", "test"), default="test")
    data_arguments(parser)
    parser.add_argument("--limit", type=positive, metavar="N", help="use at most N windows of each part")


def run(args: argparse.Namespace) -> int:
    """Print the table and write ``evaluation.json`` into the run folder."""
    from trainer.evaluation import evaluate_student
    from trainer.fitting import progress_console
    from trainer.stages import DataChoice

    tokenizer = Path(args.tokenizer) if args.tokenizer else Path(args.run).parent / "tokenizer"
    if not tokenizer.is_dir():
        raise BadInput(f"run folder {tokenizer}: no such folder; name the tokenizer run with --tokenizer")
    choice = DataChoice.of(args.data, args.cache, args.limit)
    evaluate_student(Path(args.run), tokenizer, args.part, choice, progress_console())
    return 0
