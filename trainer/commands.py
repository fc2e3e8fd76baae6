"""`pulsecode train` and `pulsecode evaluate`. What is heavy is imported when a command runs."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from firmware_bridge.cli import Command
from firmware_bridge.errors import BadInput

if TYPE_CHECKING:
    from trainer.fitting import FitConfig
    from trainer.stages import DataChoice


def _positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return value


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a learning rate in (0, 1]")
    return value


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", help="folder of WFDB data sets (PULSECODE_DATA, or ../shared/data)")
    parser.add_argument("--cache", metavar="DIR", help="where prepared windows are kept (default: cache)")
    parser.add_argument("--limit", type=_positive, metavar="N", help="use at most N windows of each part")


def _fit_arguments(parser: argparse.ArgumentParser) -> None:
    _data_arguments(parser)
    parser.add_argument("--epochs", type=_positive, metavar="N")
    parser.add_argument("--batch", type=_positive, metavar="N", help="windows a step")
    parser.add_argument("--lr", type=_rate, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on after the last whole epoch")


def _configure_train(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="tokenizer|encoder|heads|default")
    tokenizer = actions.add_parser("tokenizer", help="stage 1: the shared codebook of ECG and PPG")
    tokenizer.add_argument("--out", required=True, metavar="RUN", help="run folder, e.g. runs/tokenizer")
    _fit_arguments(tokenizer)
    encoder = actions.add_parser("encoder", help="stage 2: a causal student of one signal")
    encoder.add_argument("--tokenizer", required=True, metavar="RUN", help="a finished tokenizer run")
    encoder.add_argument("--signal", required=True, choices=("ppg", "ecg"))
    encoder.add_argument("--out", required=True, metavar="RUN", help="run folder, e.g. runs/ppg")
    _fit_arguments(encoder)
    heads = actions.add_parser("heads", help="the device's judgement of quality and irregular rhythm")
    heads.add_argument("--out", required=True, metavar="RUN", help="run folder, e.g. runs/heads")
    heads.add_argument("--data", metavar="DIR", help="folder of WFDB data sets (PULSECODE_DATA, or ../shared/data)")
    default = actions.add_parser("default", help="all that ships: tokenizer, both students, device heads; resumes")
    default.add_argument("--out", default="runs/default", metavar="DIR", help="holds the four runs")
    _data_arguments(default)


def _choice(args: argparse.Namespace) -> "DataChoice":
    from trainer.stages import DataChoice

    return DataChoice.of(args.data, args.cache, args.limit)


def _fit(args: argparse.Namespace, default: "FitConfig") -> "FitConfig":
    given = {name: getattr(args, name) for name in ("epochs", "batch", "lr") if getattr(args, name) is not None}
    return replace(default, seed=args.seed, **given)


def _train(args: argparse.Namespace) -> int:
    from trainer.device_heads import HEADS, train_heads
    from trainer.fitting import progress_console
    from trainer.recordings import data_folder
    from trainer.stages import STUDENT_FIT, TOKENIZER_FIT, prepare, train_student, train_tokenizer

    console = progress_console()
    out = Path(args.out)
    if args.action == "heads":
        train_heads(out, data_folder(args.data), console)
        return 0
    prepared = prepare(_choice(args), console)
    if args.action == "tokenizer":
        train_tokenizer(out, prepared, _fit(args, TOKENIZER_FIT), console, resume=args.resume)
    elif args.action == "encoder":
        fit = _fit(args, STUDENT_FIT)
        train_student(out, Path(args.tokenizer), args.signal, prepared, fit, console, resume=args.resume)
    else:
        train_tokenizer(out / "tokenizer", prepared, TOKENIZER_FIT, console, resume=True)
        train_student(out / "ppg", out / "tokenizer", "ppg", prepared, STUDENT_FIT, console, resume=True)
        train_student(out / "ecg", out / "tokenizer", "ecg", prepared, STUDENT_FIT, console, resume=True)
        if not (out / "heads" / HEADS).exists():
            train_heads(out / "heads", data_folder(args.data), console)
    return 0


def _configure_evaluate(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="student")
    student = actions.add_parser("student", help="token accuracy, codebook use and an AF probe on unseen people")
    student.add_argument("--run", required=True, metavar="RUN", help="a finished encoder run")
    student.add_argument("--tokenizer", metavar="RUN", help="the tokenizer run it was taught by (default: beside it)")
    student.add_argument("--part", choices=("validation", "test"), default="test")
    _data_arguments(student)


def _evaluate(args: argparse.Namespace) -> int:
    from trainer.evaluation import evaluate_student
    from trainer.fitting import progress_console

    run = Path(args.run)
    tokenizer = Path(args.tokenizer) if args.tokenizer else run.parent / "tokenizer"
    if not tokenizer.is_dir():
        raise BadInput(f"run folder {tokenizer}: no such folder; name the tokenizer run with --tokenizer")
    evaluate_student(run, tokenizer, args.part, _choice(args), progress_console())
    return 0


TRAIN = Command("learn the codebook and the encoders from paired recordings", _configure_train, _train, "train")
EVALUATE = Command("judge a trained encoder on people it never saw", _configure_evaluate, _evaluate, "train")
