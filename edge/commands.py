"""`pulsecode monitor`, `tokens` and `demo`. Heavy imports wait until a command runs."""

import argparse
import math
import os
import sys

from edge.bundle_commands import add_trust, trusted_key
from firmware_bridge.cli import Command


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def _engine(text: str) -> str:
    from edge.engines import ENGINES

    if text not in ENGINES:
        raise argparse.ArgumentTypeError(f"{text!r} is unknown; known: {', '.join(ENGINES)}")
    return text


def _can_draw() -> bool:
    """Whether standard output is a terminal that knows cursor movements and braille."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and encoding == "utf8"


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="sim:sinus, file:rec.csv, wfdb:folder/record, serial:/dev/ttyUSB0 …")
    parser.add_argument("--bundle", metavar="DIR|ZIP", help="bundle to run (default: the one that ships)")
    add_trust(parser)
    parser.add_argument(
        "--engine", type=_engine, metavar="NAME", help="see `pulsecode engines` (default: the fastest that is there)"
    )
    parser.add_argument("--duration", type=_positive, default=math.inf, metavar="S", help="stop after S seconds")


def _configure_monitor(parser: argparse.ArgumentParser) -> None:
    _common(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the live view")
    parser.add_argument("--fast", action="store_true", help="run a recording as fast as it goes")
    parser.add_argument("--record", metavar="F.jsonl", help="also append the JSON lines to a file")
    parser.add_argument("--picture", metavar="F.svg", help="draw the view as it stands at the end")
    parser.add_argument("--low-rate", type=_positive, default=40.0, metavar="BPM", help="brady below (default 40)")
    parser.add_argument("--high-rate", type=_positive, default=140.0, metavar="BPM", help="tachy above (default 140)")


def _run_monitor(args: argparse.Namespace) -> int:
    from edge.alarms import AlarmLimits
    from edge.session import Session

    limits = AlarmLimits(low_rate=args.low_rate, high_rate=args.high_rate)
    return Session.open(
        args.source,
        bundle=args.bundle,
        trust=trusted_key(args),
        engine=args.engine,
        limits=limits,
        fast=args.fast,
        duration=args.duration,
        record=args.record,
        picture=args.picture,
    ).run("json" if args.json else "screen" if _can_draw() else "plain")


def _configure_tokens(parser: argparse.ArgumentParser) -> None:
    _common(parser)
    parser.add_argument("--out", metavar="F.csv", help="CSV file to write (default: stdout)")


def _run_tokens(args: argparse.Namespace) -> int:
    from edge.tokens import write_tokens

    return write_tokens(args.source, args.bundle, args.engine, args.duration, args.out, trust=trusted_key(args))


def _configure_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=1, help="another seed, another minute (default 1)")
    parser.add_argument("--plain", action="store_true", help="lines instead of the live view")


def _run_demo(args: argparse.Namespace) -> int:
    from edge.demo import demo

    return demo(args.seed, plain=args.plain or not _can_draw())


MONITOR = Command("watch a source live: wave, tokens, pulse rate, quality, alarms", _configure_monitor, _run_monitor)
TOKENS = Command("write a source's tokens to CSV, as fast as it goes", _configure_tokens, _run_tokens)
DEMO = Command("a minute with a virtual pulse sensor on a serial line", _configure_demo, _run_demo)
