"""Alarms: what a hop shows, held against time with hysteresis.

An alarm starts when its condition holds for ``on_seconds`` without a break and ends when its (laxer) off-condition
holds for ``off_seconds``. A condition may also be unknowable, because the signal cannot be read: then nothing starts,
and what runs ends as "unobservable" after ``stale_seconds``. Rate limits are those of the PhysioNet/CinC Challenge
2015's extreme brady- and tachycardia.

Where the bundle has a support model for an alarm (:mod:`edge.support`), its onset tells how likely an ECG would agree.
Below the model's threshold the onset is withheld: it is told as such, its condition is followed as if it were active,
and it is raised as soon as one of its hops is supported well enough.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from edge.support import Moment, Support
from firmware_bridge.errors import BadInput

Severity = Literal["low", "medium", "high"]
Evidence = dict[str, float | str]

# Without a pulse the last 3 s are at most so many times (log10) as energetic as usual: louder is motion, or a pulse
# that the detector misses after it. Where believed signal tells what is usual, it tells more sharply.
PAUSE_LOUDNESS, CALM_LOUDNESS = 0.7, 0.15
LOW_MARGIN, HIGH_MARGIN = 3.0, 5.0  # bpm of hysteresis


class AlarmLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a user may set: rates in bpm, pause in s, ``irregular`` the probability to start at.

    Raises :class:`BadInput` where the two rates leave no room for a normal one.
    """

    low_rate: float = 40.0
    high_rate: float = 140.0
    pause: float = 3.0
    irregular: float = 0.7

    def of(self, alarm: str) -> float:
        """The limit that an alarm with a support model is about: s or bpm; 0 for others."""
        return {"pulse_lost": self.pause, "brady": self.low_rate, "tachy": self.high_rate}.get(alarm, 0.0)

    def __post_init__(self) -> None:
        if not self.low_rate + LOW_MARGIN < self.high_rate - HIGH_MARGIN:
            raise BadInput(
                f"alarm limits: low rate {self.low_rate:g} and high rate {self.high_rate:g} bpm leave no room"
            )


@dataclass(frozen=True, slots=True)
class Observation:
    """What the rules see of one hop. Times in s since the stream's start."""

    now: float
    warm: bool  # the declared warm-up is over
    sensor: str  # quality state
    readable: bool  # contact, and nothing missing
    good: bool  # quality is believed
    last_hr: float | None  # bpm over the last beats: turns sooner than the rate that is shown
    p_irregular: float | None
    last_beat: float | None
    unreadable: float  # when a sample was last missing or the sensor off; -inf: never
    calm: bool  # loudness is against believed signal; else against the last seconds
    loudness: float  # log10 of the last 3 s' energy over the usual: large in motion, negative when the pulse is gone
    evidence: Evidence
    moment: Moment | None = None  # what tells how far to believe an alarm; None: nothing does


@dataclass(frozen=True, slots=True)
class Withheld:
    """An onset at ``t`` s that was not raised for want of support; ``evidence`` as an event's."""

    name: str
    t: float
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Event:
    """One alarm's onset (``offset`` None) or end; s since the stream's start."""

    name: str
    onset: float
    offset: float | None
    severity: Severity
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Rule:
    """``condition(observation, active)``: True holds, False does not, None cannot be known."""

    name: str
    severity: Severity
    on_seconds: float
    off_seconds: float
    condition: Callable[[Observation, bool], bool | None]
    stale_seconds: float = 12.0
    needs_warm: bool = True


@dataclass(slots=True)
class AlarmState:
    """One rule's state: ``since`` when the pending change began; ``known`` when the condition was last knowable;
    ``withheld``: the onset was never told."""

    onset: float | None = None
    since: float | None = None
    known: float = 0.0
    withheld: bool = False

    def copy(self) -> "AlarmState":
        return AlarmState(self.onset, self.since, self.known, self.withheld)


def _sensor_off(o: Observation, _: bool) -> bool | None:
    return o.sensor == "off"


def _beyond(limit: float, margin: float) -> Callable[[Observation, bool], bool | None]:
    """Rate below ``limit`` (``margin`` > 0) or above it (``margin`` < 0); ``margin`` is the hysteresis."""

    def condition(o: Observation, active: bool) -> bool | None:
        if not o.good or o.last_hr is None:
            return None
        edge = limit + (margin if active else 0.0)
        return o.last_hr < edge if margin > 0 else o.last_hr > edge

    return condition


def rules(limits: AlarmLimits) -> tuple[Rule, ...]:
    """The rule set."""

    def pulse_lost(o: Observation, _: bool) -> bool | None:
        if not o.readable or o.last_beat is None:
            return None
        if o.now - o.last_beat < limits.pause:
            return False
        # While nothing could be read, beats may have come unseen.
        seen = o.now - max(o.last_beat, o.unreadable) >= limits.pause
        return True if seen and o.loudness <= (CALM_LOUDNESS if o.calm else PAUSE_LOUDNESS) else None

    def irregular(o: Observation, active: bool) -> bool | None:
        if not o.good or o.p_irregular is None:
            return None
        return o.p_irregular >= (0.6 * limits.irregular if active else limits.irregular)

    return (
        Rule("sensor_off", "low", 1.0, 1.0, _sensor_off, needs_warm=False),
        # One beat in a pause is not the pulse back. Nor is a wave so flat that it says nothing: this one latches.
        Rule("pulse_lost", "high", 0.0, limits.pause + 1.0, pulse_lost, stale_seconds=math.inf),
        Rule("brady", "high", 2.0, 4.0, _beyond(limits.low_rate, LOW_MARGIN)),
        Rule("tachy", "high", 4.0, 4.0, _beyond(limits.high_rate, -HIGH_MARGIN)),
        # Atrial fibrillation lasts; premature beats make a window irregular for a while.
        Rule("irregular", "medium", 20.0, 30.0, irregular, stale_seconds=30.0),
    )


class Alarms:
    """Runs every rule on each hop; the states are kept by the caller, by rule name."""

    def __init__(self, limits: AlarmLimits, support: Support | None = None) -> None:
        self.limits, self.rules, self._support = limits, rules(limits), support

    def start(self) -> dict[str, AlarmState]:
        """No alarm is active."""
        return {rule.name: AlarmState() for rule in self.rules}

    def step(self, states: dict[str, AlarmState], o: Observation) -> list[Event | Withheld]:
        """Onsets and ends that this hop brings, and onsets withheld; updates ``states``."""
        found = [self._step(rule, states[rule.name], o) for rule in self.rules]
        return [event for event in found if event is not None]

    def end(self, states: dict[str, AlarmState], now: float, reason: str) -> list[Event]:
        """End what is active, because the segment or the stream ended; updates ``states``."""
        ended = []
        for rule in self.rules:
            event = self._finish(rule, states[rule.name], now, {"ended_by": reason})
            ended += [event] if event is not None else []
            states[rule.name] = AlarmState(known=now)
        return ended

    def _step(self, rule: Rule, state: AlarmState, o: Observation) -> Event | Withheld | None:
        active = state.onset is not None
        holds = rule.condition(o, active) if o.warm or not rule.needs_warm else None
        if holds is None:
            state.since = None
            if active and o.now - state.known >= rule.stale_seconds:
                return self._finish(rule, state, o.now, {"ended_by": "unobservable"})
            return None
        state.known = o.now
        if holds == active:
            state.since = None
            return self._raise(rule, state, o) if state.withheld else None
        if state.since is None:
            state.since = o.now
        if not active and o.now - state.since >= rule.on_seconds:
            state.onset, state.since = o.now, None
            return self._raise(rule, state, o)
        if active and o.now - state.since >= rule.off_seconds:
            return self._finish(rule, state, o.now, dict(o.evidence))
        return None

    def _raise(self, rule: Rule, state: AlarmState, o: Observation) -> Event | Withheld | None:
        """The onset, now that its condition has held for long enough, as far as it is supported."""
        assert state.onset is not None
        evidence = dict(o.evidence)
        enough = True
        if self._support is not None and o.moment is not None:
            support, enough = self._support.judge(rule.name, self.limits.of(rule.name), o.moment)
            if support is not None:
                evidence["support"] = round(support, 3)
        if not enough:
            first, state.withheld = not state.withheld, True
            return Withheld(rule.name, o.now, evidence) if first else None
        if state.withheld:
            evidence["withheld_since"] = round(state.onset, 3)
        state.onset, state.withheld = o.now, False
        return Event(rule.name, o.now, None, rule.severity, evidence)

    @staticmethod
    def _finish(rule: Rule, state: AlarmState, now: float, evidence: Evidence) -> Event | None:
        """The end of what is active; None where nothing was, or nobody was told."""
        onset = None if state.withheld else state.onset
        state.onset = state.since = None
        state.withheld = False
        return None if onset is None else Event(rule.name, onset, now, rule.severity, evidence)
