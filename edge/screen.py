"""The live terminal view: the wave, its tokens under it, rate, quality, alarms and the sample books."""

import time
from collections import deque
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.style import Style
from rich.text import Text

from edge.describe import TITLES, describe_event, describe_summary, describe_withheld
from edge.messages import ErrorLine, EventLine, Message, Summary, WithheldLine
from edge.monitor import Item, Monitor, News
from edge.pipeline import Outcome
from edge.respiration import Respiration
from edge.wave import braille

HOPS = 20  # shown at once, where the terminal is wide enough
CELL = (4, 8)  # characters a hop: least and most
WAVE_ROWS = (2, 9)
NEWS = 6
FRAME_SECONDS = 1 / 15  # a recording may run far faster than anyone can look
LOW, HIGH = -2.6, 3.6  # of the running RMS
SEVERITY_STYLE = {"high": "bold white on red", "medium": "bold black on yellow", "low": "bold white on blue"}


def _token_style(token: int) -> Style:
    """A steady colour for each token: neighbours in number lie far apart in hue (golden angle)."""
    hue = (token * 0.61803398875) % 1.0
    rgb = [round(255 * (0.45 + 0.3 * np.cos(2 * np.pi * (hue + shift)))) for shift in (0, 1 / 3, 2 / 3)]
    return Style(color="white", bgcolor=Color.from_rgb(*rgb), bold=True)


class ScreenDisplay:
    """Draws on each hop, on the terminal's other screen, so that what was there before comes back; keeps only what it
    shows. Fits any terminal: a small one gets fewer hops, then fewer rows of wave and news."""

    def __init__(self, monitor: Monitor, console: Console | None = None) -> None:
        self._monitor = monitor
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False, screen=True)
        self._outcomes: deque[Outcome] = deque(maxlen=HOPS)
        self._news: deque[Text] = deque(maxlen=NEWS)
        self._active: dict[str, EventLine] = {}
        self._breath: Respiration | None = None
        self._link = ""
        self._drawn = -FRAME_SECONDS

    def __enter__(self) -> Self:
        self._live.start()
        self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._console.print(self.render())

    def _draw(self) -> None:
        now = time.monotonic()
        if now - self._drawn >= FRAME_SECONDS:
            self._drawn = now
            self._live.update(self.render(), refresh=True)

    def lines(self, lines: list[Message]) -> None:
        """Alarms and link news."""
        for line in lines:
            if isinstance(line, EventLine):
                style = "bold" if line.offset is None else "dim"
                self._news.append(
                    Text(f"{line.t:7.1f} s  {describe_event(line)}", style, no_wrap=True, overflow="ellipsis")
                )
                if line.offset is None:
                    self._active[line.name] = line
                else:
                    self._active.pop(line.name, None)
            elif isinstance(line, WithheldLine):
                self._tell(line.t, describe_withheld(line), "dim")
            elif isinstance(line, ErrorLine):
                self._tell(line.t, line.message, "yellow")

    def _tell(self, t: float, text: str, style: str) -> None:
        self._news.append(Text(f"{t:7.1f} s  {text}", style, no_wrap=True, overflow="ellipsis"))

    def item(self, item: Item) -> None:
        """Draw what came."""
        if isinstance(item, Outcome):
            self._outcomes.append(item)
            self._breath = item.respiration or self._breath
            self._link = ""
        elif isinstance(item, News):
            self._link = item.notice.text if item.notice.kind in ("lost", "silent") else ""
        self._draw()

    def summary(self, summary: Summary) -> None:
        """The closing account."""
        self._console.print(Text("\n" + describe_summary(summary)))

    def render(self) -> Panel:
        """The whole view."""
        width, height = self._console.size
        hops = max(1, min(HOPS, (width - 4) // CELL[0]))
        cell = max(1, min(CELL[1], (width - 4) // hops))
        # Everything but the wave and the news takes 6 rows: the frame, beats, tokens, numbers and alarms.
        room = height - 7
        rows = max(WAVE_ROWS[0], min(WAVE_ROWS[1], room - NEWS // 2))
        news = list(self._news)[-NEWS:] + [Text()] * (NEWS - len(self._news))
        shown = news[max(0, len(self._news) - max(0, room - rows)) :][: max(0, room - rows)]
        outcomes = list(self._outcomes)[-hops:]
        manifest = self._monitor.bundle.manifest
        t = self._monitor.t
        return Panel(
            Group(
                *self._wave(outcomes, hops, cell, rows),
                self._tokens(outcomes, hops, cell),
                self._numbers(),
                self._alarms(),
                *shown,
            ),
            title=f"pulsecode · {manifest.name} {manifest.version} on {self._monitor.engine.name}",
            subtitle=f"{int(t) // 60:02d}:{t % 60:04.1f} · {self._books(width - 14)}",
            width=min(width, hops * cell + 4),
        )

    def _wave(self, outcomes: list[Outcome], hops: int, cell: int, rows: int) -> list[Text]:
        hop = self._monitor.bundle.manifest.frontend.hop
        wave: NDArray[np.float64] = np.full(hops * hop, np.nan)
        beats = [" "] * (hops * cell)
        first = len(wave) - hop * len(outcomes)
        for i, outcome in enumerate(outcomes):
            if not outcome.missing:
                wave[first + i * hop : first + (i + 1) * hop] = outcome.patch
        seconds = hops * self._monitor.bundle.manifest.frontend.hop_seconds
        for outcome in outcomes:
            for beat in outcome.beats:
                at = int((1 - (outcomes[-1].t - beat.t) / seconds) * len(beats))
                if 0 <= at < len(beats):
                    beats[at] = "▾"
        style = "bright_red" if self._link else "bright_green"
        drawn = braille(wave, hops * cell, rows, LOW, HIGH)
        return [
            Text("".join(beats), "bright_magenta", no_wrap=True),
            *(Text(row, style, no_wrap=True) for row in drawn),
        ]

    def _tokens(self, outcomes: list[Outcome], hops: int, cell: int) -> Text:
        """Each token stands under the patch it labels, which came ``lookahead`` hops before it."""
        lookahead = self._monitor.bundle.manifest.encoder.lookahead
        line = Text(" " * cell * (hops - len(outcomes)), no_wrap=True)
        for outcome in outcomes[lookahead:]:
            if outcome.token is None:
                line.append("·".center(cell), "dim")
            else:
                line.append(str(outcome.token.id).center(cell)[:cell], _token_style(outcome.token.id))
        return line

    def _numbers(self) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        if not self._outcomes:
            return line.append("waiting for the sensor …", "dim")
        last = self._outcomes[-1]
        rhythm, quality = last.rhythm, last.quality
        rate, style = " --", "bold"
        if last.rate is not None and (last.rate.valid or quality.state == "good"):
            rate = f"{last.rate.bpm:3.0f}±{max(1.0, last.rate.high - last.rate.bpm):.0f}"
            # In an irregular rhythm the range is wide for as long as it lasts: still better than no number at all.
            style = "bold" if last.rate.valid else "dim italic"
        elif last.rate is None and rhythm.valid and rhythm.hr is not None:
            rate = f"{rhythm.hr:3.0f}"
        bar = "█" * round(10 * quality.sqi)
        irregular = "--" if rhythm.p_irregular is None or not rhythm.valid else f"{rhythm.p_irregular:.2f}"
        novelty = "--" if last.novelty is None else f"{last.novelty:.2f}"
        breath = self._breath
        breaths = f"{breath.rate:2.0f}" if breath is not None and breath.valid and breath.rate is not None else "--"
        line.append("♥ ", "bright_red").append(f"{rate:6}", style).append(" bpm  breath ").append(breaths, "bold")
        line.append("/min  quality ")
        line.append(bar, "green").append("░" * (10 - len(bar)), "dim").append(f" {quality.state:9}")
        line.append("  irregular ").append(f"{irregular:4}", "bold").append("  novelty p ").append(novelty, "bold")
        return line

    def _alarms(self) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        for name, event in self._active.items():
            line.append(f" {TITLES.get(name, name)} ", SEVERITY_STYLE[event.severity])
            line.append(" ")
        if self._link and "gap" not in self._active:
            line.append(f" {self._link} ", SEVERITY_STYLE["low"])
        if not line.plain:
            line.append("no alarm", "dim")
        return line

    def _books(self, width: int) -> str:
        b = self._monitor.books
        spelled = f"received {b.received} + missing {b.missing} + overwritten {b.overwritten} = {b.expected}"
        return spelled if len(spelled) <= width else f"{b.received} + {b.missing} + {b.overwritten} = {b.expected}"
