"""`pulsecode train default`: everything that ships, in order; a run that is finished is left as it is."""

import argparse
from pathlib import Path

from firmware_bridge.block import Signal
from trainer.actions import respiration
from trainer.actions.options import chosen_data, data_arguments

SIGNALS: tuple[Signal, ...] = ("ppg", "ecg")
HELP = "all that ships: tokenizer, both students, device heads, respiration; resumes"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--out", default="runs/default", metavar="DIR", help="holds the runs")
    data_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train what is not finished."""
    from trainer.fitting import progress_console
    from trainer.heads.fit import train_heads
    from trainer.heads.run_file import HEADS
    from trainer.ranks import rank
    from trainer.recipe import OBJECTIVE, STUDENT_FIT, TOKENIZER_FIT, WINDOWS, measured_noise
    from trainer.respiration.run_file import RESPIRATION
    from trainer.stages import prepare, train_student, train_tokenizer

    console, out, choice = progress_console(), Path(args.out), chosen_data(args)
    prepared = prepare(choice, console, WINDOWS)
    teacher = out / "tokenizer"
    train_tokenizer(teacher, prepared, TOKENIZER_FIT, console, resume=True)
    for signal in SIGNALS:
        noise = measured_noise(signal, WINDOWS, choice, console)
        train_student(
            out / signal, teacher, signal, prepared, STUDENT_FIT, console,
            resume=True, noise=noise, objective=OBJECTIVE,
        )  # fmt: skip
    if rank() == 0 and not (out / "heads" / HEADS).exists():
        train_heads(out / "ppg", out / "heads", choice.data, console)
    if not (out / "respiration" / RESPIRATION).exists():
        respiration.fit(out / "respiration", out / "heads", choice.data, choice.cache)
    return 0
