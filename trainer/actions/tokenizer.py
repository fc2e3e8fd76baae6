"""`pulsecode train tokenizer`: stage 1."""

import argparse
from dataclasses import replace
from pathlib import Path

from firmware_bridge.errors import BadInput
from trainer.actions.options import chosen_data, chosen_fit, fit_arguments, positive, shards_argument

HELP = "stage 1: the shared codebook of ECG and PPG"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--out", required=True, metavar="RUN", help="run folder, e.g. runs/tokenizer")
    parser.add_argument(
        "--signals", choices=("joint", "ppg", "ecg"), default="joint",
        help="what a token says: both signals (default), or one of them alone",
    )  # fmt: skip
    parser.add_argument(
        "--patches", choices=("fixed", "beats"), default="fixed",
        help="what a token stands for: 0.4 s (default), or one heartbeat of whatever length",
    )  # fmt: skip
    parser.add_argument("--quantizer", choices=("ema", "fsq", "residual"), default="ema")
    parser.add_argument("--codes", type=positive, metavar="K", help="codebook size (default: 512)")
    parser.add_argument(
        "--no-align", action="store_true",
        help="pair ECG and PPG as they were recorded, not with each heartbeat beside its own pulse",
    )  # fmt: skip
    fit_arguments(parser)
    shards_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Train."""
    from trainer.beat_preparation import prepare_beats
    from trainer.data.sharded import prepare_shards
    from trainer.fitting import progress_console
    from trainer.quantizers import QuantizerConfig
    from trainer.recipe import TOKENIZER_FIT, WINDOWS
    from trainer.stages import Prepared, prepare, train_tokenizer
    from trainer.tokenizer import TokenizerConfig

    console = progress_console()
    prepared: Prepared
    if args.shards:
        if args.patches == "beats":
            raise BadInput("--shards and --patches beats: shards hold fixed patches; give one of the two")
        prepared = prepare_shards(Path(args.shards))
    elif args.patches == "beats":
        prepared = prepare_beats(chosen_data(args), console)
    else:
        prepared = prepare(chosen_data(args), console, replace(WINDOWS, align=not args.no_align))
    quantizer = QuantizerConfig(kind=args.quantizer)
    if args.codes is not None:
        quantizer = replace(quantizer, size=args.codes)
    model = TokenizerConfig(hop=prepared.config.hop, signals=args.signals, quantizer=quantizer)
    fit = chosen_fit(args, TOKENIZER_FIT)
    train_tokenizer(Path(args.out), prepared, fit, console, resume=args.resume, model=model)
    return 0
