"""The live terminal view: the wave, its tokens under it, rate, quality, alarms and the sample books."""

from collections import deque
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from edge.describe import TITLES, describe_event, describe_summary
from edge.messages import ErrorLine, EventLine, Message, Summary
from edge.monitor import Item, Monitor
from edge.pipeline import Outcome
from edge.wave import braille
from firmware_bridge.block import Notice

HOPS = 20  # shown at once
WAVE_ROWS = 9
NEWS = 6
LOW, HIGH = -2.6, 3.6  # of the running RMS
SEVERITY_STYLE = {"high": "bold white on red", "medium": "bold black on yellow", "low": "bold white on blue"}


def _token_style(token: int) -> Style:
    """A steady colour for each token: neighbours in number lie far apart in hue (golden angle)."""
    hue = (token * 0.61803398875) % 1.0
    rgb = [round(255 * (0.45 + 0.3 * np.cos(2 * np.pi * (hue + shift)))) for shift in (0, 1 / 3, 2 / 3)]
    return Style(color="white", bgcolor=Color.from_rgb(*rgb), bold=True)


class ScreenDisplay:
    """Draws on each hop; keeps only what it shows."""

    def __init__(self, monitor: Monitor, console: Console | None = None) -> None:
        self._monitor = monitor
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._outcomes: deque[Outcome] = deque(maxlen=HOPS)
        self._news: deque[Text] = deque(maxlen=NEWS)
        self._active: dict[str, EventLine] = {}
        self._link = ""

    def __enter__(self) -> Self:
        self._live.start()
        self._live.update(self.render(), refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.update(self.render(), refresh=True)
        self._live.stop()

    def lines(self, lines: list[Message]) -> None:
        """Alarms and link news."""
        for line in lines:
            if isinstance(line, EventLine):
                style = "bold" if line.offset is None else "dim"
                self._news.append(Text(f"{line.t:7.1f} s  {describe_event(line)}", style, no_wrap=True))
                if line.offset is None:
                    self._active[line.name] = line
                else:
                    self._active.pop(line.name, None)
            elif isinstance(line, ErrorLine):
                self._news.append(Text(f"{line.t:7.1f} s  {line.message}", "yellow", no_wrap=True))

    def item(self, item: Item) -> None:
        """Draw what came."""
        if isinstance(item, Outcome):
            self._outcomes.append(item)
            self._link = ""
        elif isinstance(item, Notice):
            self._link = item.text if item.kind in ("lost", "silent") else ""
        self._live.update(self.render(), refresh=True)

    def summary(self, summary: Summary) -> None:
        """The closing account."""
        self._console.print(Text("\n" + describe_summary(summary)))

    def render(self) -> Panel:
        """The whole view."""
        cell = max(3, min(8, (self._console.width - 4) // HOPS))
        manifest = self._monitor.bundle.manifest
        title = f"pulsecode · {manifest.name} {manifest.version} on {self._monitor.engine.name}"
        parts: list[RenderableType] = [
            *self._wave(cell),
            self._tokens(cell),
            Text(),
            self._numbers(),
            self._alarms(),
            Text(),
        ]
        parts += [*self._news, *(Text() for _ in range(NEWS - len(self._news)))]
        clock = f"{int(self._monitor.t) // 60:02d}:{self._monitor.t % 60:04.1f}"
        return Panel(
            Group(*parts),
            title=title,
            subtitle=f"{clock} · {self._books()}",
            width=min(self._console.width, HOPS * cell + 4),
        )

    def _wave(self, cell: int) -> list[Text]:
        hop = self._monitor.bundle.manifest.frontend.hop
        wave: NDArray[np.float64] = np.full(HOPS * hop, np.nan)
        beats = [" "] * (HOPS * cell)
        first = len(wave) - hop * len(self._outcomes)
        for i, outcome in enumerate(self._outcomes):
            if not outcome.missing:
                wave[first + i * hop : first + (i + 1) * hop] = outcome.patch
        if self._outcomes:
            seconds = HOPS * self._monitor.bundle.manifest.frontend.hop_seconds
            end = self._outcomes[-1].t
            for outcome in self._outcomes:
                for beat in outcome.beats:
                    at = int((1 - (end - beat.t) / seconds) * len(beats))
                    if 0 <= at < len(beats):
                        beats[at] = "▾"
        style = "bright_red" if self._link else "bright_green"
        rows = braille(wave, HOPS * cell, WAVE_ROWS, LOW, HIGH)
        return [Text("".join(beats), "bright_magenta"), *(Text(row, style, no_wrap=True) for row in rows)]

    def _tokens(self, cell: int) -> Text:
        """Each token stands under the patch it labels."""
        lookahead = self._monitor.bundle.manifest.encoder.lookahead
        line = Text(" " * cell * (HOPS - len(self._outcomes)), no_wrap=True)
        shown = list(self._outcomes)[lookahead:]
        for outcome in shown:
            if outcome.token is None:
                line.append("·".center(cell), "dim")
            else:
                line.append(str(outcome.token.id).center(cell)[:cell], _token_style(outcome.token.id))
        return line

    def _numbers(self) -> Table:
        table = Table.grid(expand=True)
        for _ in range(4):
            table.add_column(justify="left")
        if not self._outcomes:
            table.add_row(Text("waiting for the sensor …", "dim"))
            return table
        last = self._outcomes[-1]
        rhythm, quality = last.rhythm, last.quality
        rate = f"{rhythm.hr:3.0f}" if rhythm.valid and rhythm.hr is not None else " --"
        bar = "█" * round(10 * quality.sqi)
        irregular = "--" if rhythm.p_irregular is None or not rhythm.valid else f"{rhythm.p_irregular:.2f}"
        novelty = "--" if last.novelty is None else f"{last.novelty:.2f}"
        table.add_row(
            Text.assemble(("♥ ", "bright_red"), (rate, "bold"), " bpm"),
            Text.assemble("quality ", (bar, "green"), ("░" * (10 - len(bar)), "dim"), f" {quality.state}"),
            Text.assemble("irregular ", (irregular, "bold")),
            Text.assemble("novelty p ", (novelty, "bold")),
        )
        return table

    def _alarms(self) -> Text:
        line = Text(no_wrap=True)
        for name, event in self._active.items():
            line.append(f" {TITLES.get(name, name)} ", SEVERITY_STYLE[event.severity])
            line.append(" ")
        if self._link and "gap" not in self._active:
            line.append(f" {self._link} ", SEVERITY_STYLE["low"])
        if not line.plain:
            line.append("no alarm", "dim")
        return line

    def _books(self) -> str:
        books = self._monitor.books
        return (
            f"received {books.received} + missing {books.missing} + overwritten {books.overwritten} = {books.expected}"
        )
