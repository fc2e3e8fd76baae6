"""Runs the real monitor over a recording, as fast as it goes, and keeps what it said."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.alarms import Event
from edge.bundle import Bundle
from edge.engines import Engine
from edge.monitor import Ended, Monitor
from edge.pipeline import Outcome
from firmware_bridge.source import open_source

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alarm of the monitor, from when it was raised to when it ended; s since the stream's start."""

    name: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Watched:
    """What the monitor said of one recording, by hop (n,).

    ``t``: the hop's end, s; ``hr`` bpm as the monitor tells it, NaN where none, and ``beats_hr`` by the beat intervals
    alone; ``half`` bpm: how far the rate's interval reaches on either side, NaN where the bundle does not say;
    ``valid``: the rate may be believed; ``good``: the quality index believes the pulse; ``sqi`` that index, ``judged``
    where it had beats to judge by; ``beats`` (m,) s; ``seconds`` the recording spans, gaps included; ``hop`` s.
    """

    t: F64
    hr: F64
    beats_hr: F64
    half: F64
    valid: Bools
    good: Bools
    sqi: F64
    judged: Bools
    beats: F64
    alerts: list[Alert]
    seconds: float
    hop: float

    def active(self, names: tuple[str, ...], begin: float, end: float) -> float | None:
        """The first moment in ``[begin, end]`` at which one of the alarms ``names`` is active; None if never."""
        found = [max(a.start, begin) for a in self.alerts if a.name in names and a.start <= end and a.end > begin]
        return min(found, default=None)

    def during(self, name: str) -> Bools:
        """Hops (n,) at whose end the alarm ``name`` is active."""
        inside = np.zeros(len(self.t), bool)
        for alert in self.alerts:
            if alert.name == name:
                inside |= (self.t >= alert.start) & (self.t < alert.end)
        return inside


class _Alerts:
    """Pairs onsets with ends. An alert begins when it is *told*, whatever onset it then names."""

    def __init__(self) -> None:
        self.found: list[Alert] = []
        self._active: dict[str, float] = {}

    def take(self, event: Event, now: float) -> None:
        if event.offset is None:
            self._active.setdefault(event.name, now)
        elif event.name in self._active:
            start = self._active.pop(event.name)
            self.found.append(Alert(event.name, start, max(start, min(event.offset, now))))

    def close(self, now: float) -> list[Alert]:
        self.found += [Alert(name, start, max(start, now)) for name, start in self._active.items()]
        return sorted(self.found, key=lambda alert: (alert.start, alert.name))


def watch(path: Path, bundle: Bundle, engine: Engine) -> Watched:
    """The monitor over the PPG of the WFDB record ``path``; raises :class:`BadInput` as the source does."""
    monitor = Monitor(open_source(f"wfdb:{path}", "ppg"), bundle, engine, fast=True)
    alerts = _Alerts()
    rows: list[tuple[float, float, float, float, bool, bool, float, bool]] = []
    beats: list[float] = []
    for item in monitor:
        if isinstance(item, Outcome):
            rhythm, quality, told = item.rhythm, item.quality, item.rate
            beats_rate = np.nan if rhythm.hr is None else rhythm.hr
            rate, half = (beats_rate, np.nan) if told is None else (told.bpm, told.high - told.bpm)
            valid = rhythm.valid if told is None else told.valid
            good = quality.state == "good"
            judged = bool(quality.features) and quality.state in ("good", "poor")
            rows.append((item.t, rate, beats_rate, half, valid, good, quality.sqi, judged))
            beats += [beat.t for beat in item.beats]
        if isinstance(item, Outcome | Ended):
            for event in item.events:
                alerts.take(event, item.t)
    columns = np.array(rows, np.float64).reshape(-1, 8).T
    return Watched(
        t=columns[0],
        hr=columns[1],
        beats_hr=columns[2],
        half=columns[3],
        valid=columns[4] > 0,
        good=columns[5] > 0,
        sqi=columns[6],
        judged=columns[7] > 0,
        beats=np.array(beats),
        alerts=alerts.close(monitor.t),
        seconds=monitor.t,
        hop=bundle.manifest.frontend.hop_seconds,
    )
