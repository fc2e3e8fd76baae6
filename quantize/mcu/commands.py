"""``pulsecode mcu RUN --out DIR``."""

import argparse
from pathlib import Path

from firmware_bridge.cli import Command
from firmware_bridge.errors import BadInput, CheckFailed


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="an encoder run: its folder, or its name under runs/")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of C sources to write")
    parser.add_argument(
        "--rounding",
        choices=("gptq", "nearest"),
        default="gptq",
        help="of the weights: so that outputs change least (default), or each to the nearest step",
    )
    parser.add_argument("--data", metavar="DIR", help="recordings (default: $PULSECODE_DATA, else ../shared/data)")
    parser.add_argument("--cache", metavar="DIR", type=Path, help="where prepared windows are kept (default: cache)")
    parser.add_argument("--windows", metavar="N", type=_positive, default=300, help="held-out windows to judge on")
    parser.add_argument(
        "--self-test", action="store_true", help="also run it on emulated Cortex-M boards (QEMU); --report does too"
    )
    parser.add_argument("--bundle", metavar="DIR|ZIP", help="with --report: a bundle of the same run to compare with")
    parser.add_argument(
        "--report",
        metavar="FILE.md",
        type=Path,
        help="tokens beside the Python engines, sizes, instructions; and .json",
    )


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from quantize.export import one_thread
    from quantize.mcu.folder import check_folder
    from quantize.mcu.toolchain import tool
    from quantize.mcu.workflow import Options, make
    from quantize.progress import Steps
    from quantize.run import find_run, load_run
    from trainer.preparation import CACHE, prepare_windows
    from trainer.recordings import data_folder

    if args.bundle is not None and args.report is None:
        raise BadInput("mcu: --bundle says what to compare with in a report; give --report FILE.md too")
    if args.report is not None and args.report.suffix != ".md":
        raise BadInput(f"mcu: --report {args.report} must end in .md; the .json goes beside it")
    check_folder(args.out)
    on_boards = ("arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm")
    for name in ("gcc", *(on_boards if args.self_test or args.report is not None else ())):
        tool(name)  # now, and not after minutes of work
    run = load_run(find_run(args.run))
    console = Console(stderr=True, highlight=False)
    windows = prepare_windows(data_folder(args.data), run.windows, args.cache or CACHE, console)
    options = Options(args.out, args.rounding, args.windows, args.self_test, args.report, args.bundle)
    with one_thread(), Steps() as steps:
        faults = make(run, windows, options, steps)
    if faults:
        raise CheckFailed(f"mcu: {'; '.join(faults)}")
    return 0


MCU = Command(
    help="an encoder run to C11 for a microcontroller, with its proof", configure=_configure, run=_run, extra="quantize"
)
