"""One run of the monitor from the command line: open, narrate to a display and a file, end in good order."""

import contextlib
import math
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Literal

from edge.alarms import AlarmLimits
from edge.bundle import load_bundle
from edge.bundle.minisign import PublicKey
from edge.display import Display, JsonDisplay, PlainDisplay
from edge.engines import open_engine
from edge.messages import Message
from edge.monitor import Ended, Item, Monitor
from edge.narrate import Narrator
from edge.record import Recorder
from firmware_bridge.errors import BadInput, PulsecodeError
from firmware_bridge.source import open_source

if TYPE_CHECKING:
    from edge.picture import Picture

Style = Literal["json", "screen", "plain"]


class Session:
    """A monitor, its narrator, and where the lines go."""

    def __init__(
        self, monitor: Monitor, narrator: Narrator, recorder: Recorder | None, picture: "Picture | None"
    ) -> None:
        self.monitor, self.narrator = monitor, narrator
        self._recorder = recorder
        self._picture = picture
        self._failure: Exception | None = None

    @classmethod
    def open(
        cls,
        source: str,
        *,
        bundle: str | None = None,
        trust: PublicKey | None = None,
        engine: str | None = None,
        limits: AlarmLimits | None = None,
        fast: bool = False,
        duration: float = math.inf,
        record: str | None = None,
        picture: str | None = None,
    ) -> "Session":
        """Open everything, cheapest check first; raises :class:`BadInput` before anything is printed."""
        loaded = load_bundle(bundle, trust=trust)
        runner = open_engine(loaded, engine)
        with contextlib.ExitStack() as undo:
            recorder = undo.enter_context(contextlib.closing(Recorder(record))) if record else None
            opened = undo.enter_context(contextlib.closing(open_source(source, loaded.manifest.signal)))
            monitor = Monitor(opened, loaded, runner, limits=limits, fast=fast, duration=duration)
            drawn = _picture(monitor, picture) if picture else None
            undo.pop_all()
        return cls(monitor, Narrator(monitor, source), recorder, drawn)

    def run(self, style: Style) -> int:
        """Until the source ends, the duration is reached, or a signal comes; returns the exit status.

        Where the lines can no longer be written to one of their two places, the other one still gets a good end.
        """
        display = _display(style, self.monitor)
        with contextlib.ExitStack() as stack:
            if self._recorder is not None:
                stack.enter_context(contextlib.closing(self._recorder))
            stack.enter_context(_signals(self.monitor))
            stack.enter_context(display)
            try:
                for item in self.monitor:
                    self._tell(display, list(self.narrator.lines(item)), item)
            except PulsecodeError as error:
                self._failure = error
            last = list(self.narrator.finish())
            if self._failure is not None:
                last.append(self.narrator.error(str(self._failure), fatal=True))
            summary = self.narrator.summary()
            self._tell(display, [*last, summary])
        if self._failure is None or not isinstance(self._failure, OSError):
            display.summary(summary)
        if self._picture is not None:
            self._picture.save()
        if self._failure is not None:
            raise self._failure
        return 0

    def _tell(self, display: Display, lines: list[Message], item: Item | None = None) -> None:
        if self._picture is not None and item is not None and not isinstance(item, Ended):
            # What ends with the stream is not in the picture: it shows the last moment alive.
            self._picture.see(lines, item)
        if not isinstance(self._failure, OSError):
            try:
                display.lines(lines)
                if item is not None:
                    display.item(item)
            except OSError as error:  # nobody reads on, or standard output is a full disk
                self._fail(error)
        if self._recorder is not None:
            try:
                self._recorder.write(lines)
            except BadInput as error:
                self._recorder.close()
                self._recorder = None
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self.monitor.stop("error")


def _display(style: Style, monitor: Monitor) -> Display:
    if style == "json":
        return JsonDisplay(sys.stdout.buffer)
    if style == "plain":
        return PlainDisplay(sys.stdout)
    from edge.screen import ScreenDisplay

    return ScreenDisplay(monitor)


def _picture(monitor: Monitor, path: str) -> "Picture":
    from edge.picture import Picture  # draws with rich, which JSON lines can do without

    return Picture(monitor, path)


@contextlib.contextmanager
def _signals(monitor: Monitor) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the session in good order; a second one at once, yet with the terminal restored."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        monitor.stop(f"stopped by {signal.Signals(number).name}")

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
