"""`pulsecode train single-stage`: tokenizer and student in one optimisation."""

import argparse
from pathlib import Path

from trainer.actions.options import chosen_data, chosen_fit, fit_arguments

HELP = "tokenizer and student at once, instead of one after the other"


def _weight(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def _epochs(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--signal", required=True, choices=("ppg", "ecg"), help="what the student sees")
    parser.add_argument("--out", required=True, metavar="RUN", help="run folder; holds RUN/tokenizer and RUN/SIGNAL")
    parser.add_argument("--patches", choices=("fixed", "beats"), default="fixed", help="0.4 s each, or one heartbeat")
    parser.add_argument("--alone", type=_epochs, default=1, metavar="N", help="epochs before the student joins (1)")
    parser.add_argument(
        "--predictability", type=_weight, default=0.0, metavar="WEIGHT",
        help="how much the student draws the tokenizer towards codes it can predict (0: not at all)",
    )  # fmt: skip
    fit_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train."""
    from trainer.beat_preparation import prepare_beats
    from trainer.fitting import progress_console
    from trainer.single_stage import SINGLE_FIT, JointConfig, train_single_stage
    from trainer.stages import prepare

    console, choice = progress_console(), chosen_data(args)
    prepared = prepare_beats(choice, console) if args.patches == "beats" else prepare(choice, console)
    joint = JointConfig(alone=args.alone, predictability=args.predictability)
    train_single_stage(
        Path(args.out), args.signal, prepared, chosen_fit(args, SINGLE_FIT), console, resume=args.resume, joint=joint
    )
    return 0
