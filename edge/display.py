"""Where the monitor's lines go: JSON on stdout, or plain text for logs and pipes."""

from types import TracebackType
from typing import IO, Protocol, Self

from edge.describe import describe_event, describe_summary, describe_withheld
from edge.messages import ErrorLine, EventLine, Message, QualityLine, RhythmLine, Summary, WithheldLine, encode
from edge.monitor import Item

STATUS_SECONDS = 5.0


class Display(Protocol):
    """Entered before the first item, left after the last; ``summary`` comes after it is left."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def lines(self, lines: list[Message]) -> None: ...
    def item(self, item: Item) -> None: ...
    def summary(self, summary: Summary) -> None: ...


class _Lines:
    """A display that is nothing but its lines: no frame to set up, nothing to draw beside them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def item(self, item: Item) -> None:
        """Nothing more than its lines."""


class JsonDisplay(_Lines):
    """JSON lines, flushed a hop at a time, so a reader is never behind and a kill leaves whole lines."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def lines(self, lines: list[Message]) -> None:
        """Print them all."""
        self._out.write(b"".join(map(encode, lines)))
        self._out.flush()

    def summary(self, summary: Summary) -> None:
        """Already printed, as a line."""


class PlainDisplay(_Lines):
    """Alarms and link news as they come, and one status line every few seconds of sample time."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._due = 0.0
        self._sqi, self._state = 0.0, "warmup"

    def lines(self, lines: list[Message]) -> None:
        """Print what a person would want to know now."""
        for line in lines:
            if isinstance(line, EventLine):
                print(f"{line.t:8.1f} s  {describe_event(line)}", file=self._out)
            elif isinstance(line, WithheldLine):
                print(f"{line.t:8.1f} s  {describe_withheld(line)}", file=self._out)
            elif isinstance(line, ErrorLine):
                print(f"{line.t:8.1f} s  {line.message}", file=self._out)
            elif isinstance(line, QualityLine):
                self._sqi, self._state = line.sqi, line.state
            elif isinstance(line, RhythmLine) and line.t >= self._due:
                self._due = line.t + STATUS_SECONDS
                rate = f"{line.hr:.0f} bpm" if line.valid and line.hr is not None else "-- bpm"
                if line.valid and line.hr_low is not None and line.hr_high is not None:
                    rate += f" ({line.hr_low:.0f}–{line.hr_high:.0f})"
                print(f"{line.t:8.1f} s  {rate}, quality {self._sqi:.2f} ({self._state})", file=self._out)
        self._out.flush()

    def summary(self, summary: Summary) -> None:
        """The closing account."""
        print("\n" + describe_summary(summary), file=self._out)
