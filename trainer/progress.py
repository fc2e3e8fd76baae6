"""Where progress and notices go: stderr, so that results on stdout can be piped."""

import sys

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from firmware_bridge.errors import PulsecodeError


def progress_console(*, quiet: bool = False) -> Console:
    """A console on stderr, 100 columns wide where that is no terminal."""
    console = Console(file=sys.stderr, highlight=False, quiet=quiet)
    return console if console.is_terminal else Console(file=sys.stderr, highlight=False, width=100, quiet=quiet)


def progress_bar(console: Console, *, of_bytes: bool = False) -> Progress:
    """A bar that leaves nothing behind; silent where ``console`` is no terminal."""
    amount = DownloadColumn() if of_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class Stopped(PulsecodeError):
    """Ctrl-C, with what stands and how to go on."""

    exit_status = 130
