"""Options that the training actions share, and what they stand for."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.fitting import FitConfig
    from trainer.stages import DataChoice


def positive(text: str) -> int:
    """A positive whole number."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return value


def rate(text: str) -> float:
    """A learning rate."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a learning rate in (0, 1]")
    return value


def data_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the recordings are and which of them to learn from."""
    parser.add_argument("--data", metavar="DIR", help="folder of data sets (PULSECODE_DATA, or ../shared/data)")
    parser.add_argument("--cache", metavar="DIR", help="where prepared windows are kept (default: cache)")
    parser.add_argument("--limit", type=positive, metavar="N", help="use at most N windows of each part")
    parser.add_argument(
        "--exclude", metavar="SET", action="append", default=[],
        help="a data set to learn nothing from, so that all its people can judge; may be given again",
    )  # fmt: skip


def fit_arguments(parser: argparse.ArgumentParser) -> None:
    """How long and how fast."""
    data_arguments(parser)
    parser.add_argument("--epochs", type=positive, metavar="N")
    parser.add_argument("--batch", type=positive, metavar="N", help="windows a step, over all processes")
    parser.add_argument("--lr", type=rate, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on after the last whole epoch")


def shards_argument(parser: argparse.ArgumentParser) -> None:
    """Where training windows are streamed from, in the place of recordings."""
    parser.add_argument(
        "--shards", metavar="DIR", help="learn from windows that `pulsecode data shard` wrote, in the place of --data"
    )


def chosen_data(args: argparse.Namespace) -> "DataChoice":
    """From :func:`data_arguments`."""
    from trainer.stages import DataChoice

    return DataChoice.of(args.data, args.cache, args.limit, args.exclude)


def chosen_fit(args: argparse.Namespace, default: "FitConfig") -> "FitConfig":
    """From :func:`fit_arguments`."""
    given = {name: getattr(args, name) for name in ("epochs", "batch", "lr") if getattr(args, name) is not None}
    return replace(default, seed=args.seed, **given)
