"""Alarms as the device would raise them, and whether the ECG agrees: what support is learned from.

At the limits that the device alarms at by default there are few onsets: a heart that really stops for 3 s is rare. So
every rule also runs at laxer limits, each judged by the ECG at that same limit, and the limit is a feature.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.alarms import AlarmLimits, Alarms, Observation, Withheld
from edge.bundle import LogisticModel
from edge.observer import Observer
from edge.support import FEATURES, Moment, Support, support_features
from trainer.heads.observe import Observed, hops_of
from trainer.heads.witness import AFTER, BEFORE, agrees, read_reference
from trainer.recordings import Recording
from trainer.windows import WindowConfig

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

DEFAULTS = AlarmLimits()
GRID: dict[str, tuple[AlarmLimits, ...]] = {
    "pulse_lost": tuple(AlarmLimits(pause=seconds) for seconds in (2.0, 2.5, 3.0, 4.0)),
    "brady": tuple(AlarmLimits(low_rate=bpm) for bpm in (40.0, 45.0, 50.0, 55.0, 60.0)),
    "tachy": tuple(AlarmLimits(high_rate=bpm) for bpm in (100.0, 110.0, 120.0, 130.0, 140.0)),
}


@dataclass(frozen=True)
class Onset:
    """One alarm that the device could raise at ``t`` s. ``features`` (hops, d): :data:`edge.support.FEATURES` at the
    onset and, at the default limits, at every later hop of the spell in which its condition held; ``agrees``: whether
    the ECG does; ``pooled`` (2 dim,): what the embedding had last been like, NaN before it was there."""

    alarm: str
    limit: float
    t: float
    features: F64
    agrees: bool
    pooled: F32

    @property
    def default(self) -> bool:
        """Whether the limit is the device's own."""
        return self.limit == DEFAULTS.of(self.alarm)


@dataclass(frozen=True)
class Onsets:
    """Those of one recording."""

    recording: Recording
    found: list[Onset]


class _Listener(Support):
    """In the place of the device's models: withholds one alarm for ever, and so is asked at every hop of its spells."""

    def __init__(self, alarm: str) -> None:
        super().__init__({})
        self.alarm, self.asked = alarm, False

    def judge(self, alarm: str, limit: float, moment: Moment) -> tuple[float | None, bool]:
        """Never enough for that alarm."""
        self.asked = self.asked or alarm == self.alarm
        return None, alarm != self.alarm


class _Rule:
    """One alarm at one limit, over one recording."""

    def __init__(self, alarm: str, limits: AlarmLimits) -> None:
        self.alarm, self.limits = alarm, limits
        self.limit = limits.of(alarm)
        self._listener = _Listener(alarm)
        self._alarms = Alarms(limits, self._listener)
        self.restart()
        self.spells: list[tuple[float, list[list[float]]]] = []  # onset s, and the features hop by hop

    def restart(self) -> None:
        """A segment begins."""
        self._states = self._alarms.start()

    def step(self, o: Observation) -> None:
        """One hop."""
        self._listener.asked = False
        said = self._alarms.step(self._states, o)
        if not self._listener.asked or o.moment is None:
            return
        begins = any(isinstance(event, Withheld) and event.name == self.alarm for event in said)
        if begins:
            self.spells.append((o.now, []))
        if begins or self.limit == DEFAULTS.of(self.alarm):
            row = support_features(self.alarm, self.limit, o.moment)
            self.spells[-1][1].append([row[name] for name in FEATURES])


def onsets(
    observed: Observed,
    config: WindowConfig,
    *,
    warmup_hops: int,
    quality: LogisticModel,
    rhythm: LogisticModel,
) -> Onsets:
    """Run the device's rules, with its models, over a recording's PPG at every limit of :data:`GRID`; ask its ECG.

    An onset is left out where the ECG around it is missing or flat, for it could not have agreed.
    """
    recording = observed.recording
    every = [_Rule(alarm, limits) for alarm, some in GRID.items() for limits in some]
    observer = Observer(config.frontend("ppg"), warmup_hops)
    for state, signs, begins in hops_of(recording, config, warmup_hops=warmup_hops, quality=quality, rhythm=rhythm):
        o = observer(state, signs)
        for rule in every:
            if begins:
                rule.restart()
            rule.step(o)
    if not any(rule.spells for rule in every):
        return Onsets(recording, [])
    times = np.array([sign.t for sign in observed.signs])

    def pooled(t: float) -> F32:
        last = int(np.searchsorted(times, t + 1e-6)) - 1
        return observed.pooled[last] if last >= 0 else np.full(observed.pooled.shape[1], np.nan, np.float32)

    ecg = read_reference(recording, config)
    found = [
        Onset(rule.alarm, rule.limit, t, np.array(rows), agrees(ecg, rule.alarm, t, rule.limits), pooled(t))
        for rule in every
        for t, rows in rule.spells
        if ecg.whole(max(0.0, t - BEFORE), t + AFTER)
    ]
    return Onsets(recording, found)
