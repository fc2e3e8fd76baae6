"""The `pulsecode` console script.

Commands are found by the entry-point group ``pulsecode.commands``; each package registers its own, so nothing
here imports what lies above it, and a command's heavy imports happen inside its ``run``.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, version

from firmware_bridge.errors import PulsecodeError, not_installed

GROUP = "pulsecode.commands"
OURS = ("firmware_bridge", "edge", "trainer", "quantize", "benchmarks")
INTERRUPTED = 130  # 128 + SIGINT, the shell's convention


@dataclass(frozen=True)
class Command:
    """One subcommand: ``configure`` adds its arguments, ``run`` does the work and returns the exit status.

    ``extra`` is the optional dependency group that brings what ``run`` imports.
    """

    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    extra: str = "device"


def _find_commands() -> dict[str, EntryPoint]:
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def _load(point: EntryPoint) -> Command:
    command = point.load()
    if not isinstance(command, Command):
        raise PulsecodeError(f"entry point {point.name!r} ({point.value}) is not a pulsecode command")
    return command


def _overview(points: dict[str, EntryPoint]) -> str:
    width = max(map(len, points), default=0)
    lines = [f"  {name:<{width}}  {_load(point).help}" for name, point in points.items()]
    return (
        "usage: pulsecode COMMAND [options]\n\ncommands:\n"
        + "\n".join(lines)
        + ("\n\n`pulsecode COMMAND --help` explains one of them.")
    )


def _run(command: Command, args: argparse.Namespace) -> int:
    try:
        return command.run(args)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OURS or not package:
            raise
        raise not_installed(package, command.extra) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; every :class:`PulsecodeError` becomes one line on stderr and its exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        points = _find_commands()
        if not args or args[0] in ("-h", "--help"):
            print(_overview(points))
            return 0
        if args[0] in ("-V", "--version"):
            print(f"pulsecode {version('pulsecode')}")
            return 0
        if args[0] not in points:
            raise PulsecodeError(f"unknown command {args[0]!r}; known: {', '.join(points)}")
        command = _load(points[args[0]])
        parser = argparse.ArgumentParser(prog=f"pulsecode {args[0]}", description=command.help)
        command.configure(parser)
        return _run(command, parser.parse_args(args[1:]))
    except PulsecodeError as error:
        print(f"pulsecode: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("pulsecode: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) left; what was printed before stays valid.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
