"""The commands this package brings; what they need is imported when they run."""

import argparse
from pathlib import Path

from firmware_bridge.cli import Command
from firmware_bridge.errors import BadInput


def _configure_sim(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", nargs="?", help="sinus, af, story …; an unknown name lists them all")
    parser.add_argument("--play", metavar="URI", help="play a recording instead, for example wfdb:folder/record")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--pty", action="store_true", help="stream PBF v1 frames over a pseudo terminal, in real time")
    where.add_argument("--out", metavar="F.csv", type=Path, help="write samples and truth to a CSV file instead")
    parser.add_argument("--link", metavar="PATH", type=Path, help="symbolic link that follows the terminal")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same samples (default 0)")
    parser.add_argument("--rate", type=float, default=100.0, help="samples a second (default 100)")
    parser.add_argument("--hr", type=float, help="heart rate in every segment, bpm")
    parser.add_argument("--skew-ppm", type=float, default=0.0, help="how much the device's clock runs too fast")
    parser.add_argument("--drop", type=float, default=0.0, metavar="P", help="share of frames lost in the air")
    parser.add_argument("--duration", type=float, metavar="S", help="stop after so many seconds of sensor time")
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="times real time (default 1)")
    parser.add_argument("--once", action="store_true", help="stop at the scenario's end instead of repeating it")
    parser.add_argument(
        "--no-drop", action="store_true", help="start with the reader and wait for it (always with --play)"
    )


def _run_sim(args: argparse.Namespace) -> int:
    from firmware_bridge.virtual.sensor import Options, run_sensor, write_csv

    if (args.scenario is None) == (args.play is None):
        raise BadInput("sim: name a scenario (for example `pulsecode sim story --pty`) or a recording with --play")
    if args.play is not None and args.out is not None:
        raise BadInput("sim: --out writes scenarios; a recording is a file already")
    options = Options(
        scenario=args.scenario or "",
        play=args.play,
        link=args.link,
        seed=args.seed,
        rate=args.rate,
        hr=args.hr,
        skew_ppm=args.skew_ppm,
        drop=args.drop,
        duration=args.duration,
        speed=args.speed,
        once=args.once,
        lossless=args.no_drop or args.play is not None,
    )
    return write_csv(options, args.out) if args.out is not None else run_sensor(options)


DEVICE_TABLE = (
    ("scheme", "device", "signals", "rate", "tested"),
    (
        "serial:",
        "any sensor that speaks PBF v1",
        "PPG, ECG",
        "as declared",
        "virtual sensor over a pty; no hardware yet",
    ),
    ("wfdb:", "WFDB records (PhysioNet)", "PPG, ECG", "header", "BIDMC, Challenge 2015, PERform AF"),
    ("file:", "CSV with a header line", "any column", "?rate= or a time column", "files written by the tests"),
    ("sim:", "virtual patient, no wire", "PPG, ECG", "10 to 2000 Hz", "against its own truth"),
)


def _run_devices(args: argparse.Namespace) -> int:
    widths = [max(map(len, column)) for column in zip(*DEVICE_TABLE, strict=True)]
    for row in DEVICE_TABLE:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _configure_devices(parser: argparse.ArgumentParser) -> None:
    """No arguments."""


SIM = Command("a virtual sensor that speaks a real protocol", _configure_sim, _run_sim)
DEVICES = Command("what can be read, and how it was tested", _configure_devices, _run_devices)
