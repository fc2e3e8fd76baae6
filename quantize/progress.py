"""Progress of a long quantization, on a terminal stream that the converters' silencing does not touch."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from quantize.quiet import own_terminal


class Steps:
    """One line with a bar for the step under way; what :meth:`say` prints stays above it."""

    def __init__(self) -> None:
        self._terminal = own_terminal()
        self._console = Console(file=self._terminal)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn())
        self._progress = Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True)

    def __enter__(self) -> "Steps":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._terminal.close()

    def track(self, description: str, total: int) -> Callable[[], None]:
        """A new step of ``total`` parts; call what is returned after each part."""
        for old in self._progress.task_ids:
            self._progress.remove_task(old)
        current = self._progress.add_task(description, total=total)
        return lambda: self._progress.advance(current)

    @contextlib.contextmanager
    def paused(self) -> Iterator[Console]:
        """No bar inside, for what shows its own progress on the console that is given."""
        self._progress.stop()
        try:
            yield self._console
        finally:
            self._progress.start()

    def say(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, highlight=False)
