"""`pulsecode train encoder`: stage 2."""

import argparse
from dataclasses import replace
from pathlib import Path

from trainer.actions.options import chosen_data, chosen_fit, fit_arguments, positive, shards_argument

HELP = "stage 2: a causal student of one signal"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--tokenizer", required=True, metavar="RUN", help="a finished tokenizer run: the teacher")
    parser.add_argument("--signal", required=True, choices=("ppg", "ecg"), help="what the student sees")
    parser.add_argument("--out", required=True, metavar="RUN", help="run folder, e.g. runs/ppg")
    parser.add_argument("--dim", type=positive, help="width of the student")
    parser.add_argument("--layers", type=positive, help="depth of the student")
    parser.add_argument("--context", type=positive, metavar="HOPS", help="hops it looks back, its own included")
    parser.add_argument(
        "--interval-weight", type=float, metavar="W",
        help="weight of telling the ECG's R-R interval too (default: 1; 0: the token alone)",
    )  # fmt: skip
    parser.add_argument("--phases", type=positive, metavar="N", help="cuts of each window it sees (default: 10)")
    parser.add_argument("--no-noise", action="store_true", help="no measured noise in training (it is for PPG only)")
    fit_arguments(parser)
    shards_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Train."""
    from trainer.beat_preparation import prepare_as
    from trainer.consistency import load_tokenizer
    from trainer.data.sharded import prepare_shards
    from trainer.encoder import EncoderConfig
    from trainer.fitting import progress_console
    from trainer.recipe import OBJECTIVE, STUDENT_FIT, measured_noise
    from trainer.run_folder import RunFolder
    from trainer.stages import Prepared, train_student
    from trainer.windows import WindowConfig

    console = progress_console()
    teacher = RunFolder(Path(args.tokenizer))
    codes = load_tokenizer(teacher).config.quantizer.size
    noise = None
    if args.shards:
        prepared: Prepared = prepare_shards(Path(args.shards))
    else:
        choice = chosen_data(args)
        prepared = prepare_as(teacher.config("tokenizer").get("windows"), choice, console)
        if not args.no_noise and isinstance(prepared.config, WindowConfig):
            noise = measured_noise(args.signal, prepared.config, choice, console)
    given = {name: getattr(args, name) for name in ("dim", "layers", "context") if getattr(args, name) is not None}
    asked = {"interval_weight": args.interval_weight, "phases": args.phases}
    train_student(
        Path(args.out), teacher.path, args.signal, prepared, chosen_fit(args, STUDENT_FIT), console,
        resume=args.resume, model=EncoderConfig(hop=prepared.config.hop, codebook_size=codes, **given), noise=noise,
        objective=replace(OBJECTIVE, **{name: value for name, value in asked.items() if value is not None}),
    )  # fmt: skip
    return 0
