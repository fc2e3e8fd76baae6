"""One run of the monitor from the command line: open, narrate to a display and a file, end in good order."""

import contextlib
import math
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Literal

from edge.alarms import AlarmLimits
from edge.bundle import load_bundle
from edge.display import Display, JsonDisplay, PlainDisplay
from edge.engines import open_engine
from edge.messages import Message, encode
from edge.monitor import Monitor
from edge.narrate import Narrator
from firmware_bridge.errors import BadInput, PulsecodeError
from firmware_bridge.source import open_source

Style = Literal["json", "screen", "plain"]


@dataclass
class Session:
    """A monitor, its narrator, and where the lines go."""

    monitor: Monitor
    narrator: Narrator
    record: IO[bytes] | None

    @classmethod
    def open(
        cls,
        source: str,
        *,
        bundle: str | None = None,
        engine: str | None = None,
        limits: AlarmLimits | None = None,
        fast: bool = False,
        duration: float = math.inf,
        record: str | None = None,
    ) -> "Session":
        """Open everything, cheapest check first; raises :class:`BadInput` before anything is printed."""
        loaded = load_bundle(bundle)
        runner = open_engine(loaded, engine)
        file = _open_record(record) if record else None
        opened = open_source(source, loaded.manifest.signal)
        monitor = Monitor(opened, loaded, runner, limits=limits, fast=fast, duration=duration)
        return cls(monitor, Narrator(monitor, source), file)

    def run(self, style: Style) -> int:
        """Until the source ends, the duration is reached, or a signal comes; returns the exit status."""
        display = _display(style, self.monitor)
        failure: PulsecodeError | None = None
        with _signals(self.monitor), display:
            try:
                for item in self.monitor:
                    self._tell(display, list(self.narrator.lines(item)))
                    display.item(item)
            except PulsecodeError as error:
                failure = error
                self._tell(display, [self.narrator.error(str(error), fatal=True)])
            summary = self.narrator.summary()
            self._tell(display, [summary])
        display.summary(summary)
        if self.record is not None:
            self.record.close()
        if failure is not None:
            raise failure
        return 0

    def _tell(self, display: Display, lines: list[Message]) -> None:
        if self.record is not None:
            # Line-buffered by hand: whatever happens next, what is in the file is whole lines.
            self.record.write(b"".join(map(encode, lines)))
            self.record.flush()
        display.lines(lines)


def _open_record(name: str) -> IO[bytes]:
    try:
        return Path(name).open("ab")
    except OSError as error:
        raise BadInput(f"--record {name}: cannot be written ({error.strerror}); choose another file") from None


def _display(style: Style, monitor: Monitor) -> Display:
    if style == "json":
        return JsonDisplay(sys.stdout.buffer)
    if style == "plain":
        return PlainDisplay(sys.stdout)
    from edge.screen import ScreenDisplay

    return ScreenDisplay(monitor)


@contextlib.contextmanager
def _signals(monitor: Monitor) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the session in good order; a second one at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        monitor.stop(f"stopped by {signal.Signals(number).name}")

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
