"""What every protocol's command takes. Light: nothing heavy is imported until a command runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.protocols.setting import Setting

RESULTS = Path("benchmarks") / "results" / "encoder"


def positive(text: str) -> int:
    """A positive whole number, for argparse."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return value


def data_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the recordings are and where what was made of them is kept."""
    parser.add_argument("--data", metavar="DIR", help="folder of WFDB data sets (PULSECODE_DATA, or ../shared/data)")
    parser.add_argument("--cache", metavar="DIR", help="where prepared windows are kept (default: cache)")


def taught_arguments(parser: argparse.ArgumentParser) -> None:
    """Students and the tokenizers that taught them, one or more: :func:`trainer.protocols.taught.read_taught`."""
    parser.add_argument(
        "--run", action="append", required=True, metavar="[LABEL=]RUN", help="a finished encoder run; may be repeated"
    )
    parser.add_argument("--tokenizer", action="append", default=[], metavar="RUN",
                        help="who taught it, once for each --run (default: beside it)")  # fmt: skip


def protocol_arguments(parser: argparse.ArgumentParser) -> None:
    """``--run`` and all that may stand beside it. Every action that `evaluate all` runs takes these and no other
    required argument; :func:`setting` reads them."""
    parser.add_argument("--run", "--ppg", required=True, metavar="RUN", help="a finished run of the PPG student")
    parser.add_argument(
        "--ecg", metavar="RUN", help="the ECG student's run (default: ecg beside it, where there is one)"
    )
    parser.add_argument("--tokenizer", metavar="RUN", help="the run they were taught by (default: beside it)")
    data_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the table, the figures and a picture there")
    parser.add_argument("--seeds", type=positive, default=2, metavar="N", help="repeat the folds N times (default 2)")
    parser.add_argument("--folds", type=positive, default=5, metavar="K", help="folds of people (default 5)")
    parser.add_argument("--people", type=positive, metavar="N", help="a quick look: N people of each data set and kind")
    parser.add_argument("--slow", action="store_true", help="also the networks that are trained anew in every fold")


def setting(args: argparse.Namespace) -> "Setting":
    """The setting that ``args`` of :func:`protocol_arguments` describe; raises :class:`BadInput`."""
    from trainer.protocols.setting import read_setting

    return read_setting(args)
