"""The `pulsecode` console script.

Commands are found by the entry-point group ``pulsecode.commands``; each package registers its own, so nothing
here imports what lies above it, and a command's heavy imports happen inside its ``run``.
"""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, version
from typing import IO, NoReturn

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


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as everything here does."""

    def error(self, message: str) -> NoReturn:
        raise PulsecodeError(f"{self.prog.partition(' ')[2]}: {message} (see `{self.prog} --help`)")


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


def _dispatch(args: list[str]) -> int:
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
    parser = _Parser(prog=f"pulsecode {args[0]}", description=command.help)
    command.configure(parser)
    return _run(command, parser.parse_args(args[1:]))


def _prepare_streams() -> None:
    """Standard streams that neither a closed descriptor nor a plain locale can turn into a traceback."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Opened before anything else, so that no file of ours ever becomes descriptor 1 or 2.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _flush(stream: IO[str]) -> None:
    """Flush now, where an error can still be told; at exit Python would print a traceback of its own."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


def _say(text: str) -> None:
    print(f"pulsecode: {text}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; every :class:`PulsecodeError` becomes one line on stderr and its exit status."""
    _prepare_streams()
    try:
        try:
            return _dispatch(list(sys.argv[1:] if argv is None else argv))
        finally:
            _flush(sys.stdout)
    except PulsecodeError as error:
        _say(str(error))
        return error.exit_status
    except KeyboardInterrupt:
        _say("stopped")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) left; what was printed before stays valid.
        return 128 + signal.SIGPIPE
    except OSError as error:
        _say(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return PulsecodeError.exit_status
