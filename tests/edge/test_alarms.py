"""Alarms: what holds long enough starts one, hysteresis keeps it, what cannot be known never starts one."""

import math
from dataclasses import replace

import pytest

from edge.alarms import AlarmLimits, Alarms, Event, Observation

HOP = 0.4
CALM = Observation(
    now=0.0,
    warm=True,
    sensor="good",
    readable=True,
    good=True,
    last_hr=70.0,
    p_irregular=0.1,
    last_beat=0.0,
    unreadable=-math.inf,
    calm=True,
    loudness=0.0,
    evidence={"sqi": 0.9},
)


def play(story: list[tuple[float, dict[str, object]]], limits: AlarmLimits | None = None) -> list[Event]:
    """``(seconds, what differs from calm)``…; beats go on unless ``last_beat`` is given."""
    alarms = Alarms(limits or AlarmLimits())
    states = alarms.start()
    events, now = [], 0.0
    for seconds, changes in story:
        for _ in range(round(seconds / HOP)):
            now += HOP
            events += alarms.step(states, replace(CALM, **{"now": now, "last_beat": now - 0.3} | changes))
    return events


def names(events: list[Event]) -> list[str]:
    return [f"{e.name}{'' if e.offset is None else ' ended'}" for e in events]


def test_calm_is_silent() -> None:
    assert play([(120, {})]) == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("brady", {"last_hr": 35.0}),
        ("tachy", {"last_hr": 150.0}),
        ("irregular", {"p_irregular": 0.9}),
        ("sensor_off", {"sensor": "off", "readable": False, "good": False}),
        ("pulse_lost", {"last_beat": 1.0}),
    ],
)
def test_each_alarm_starts_and_ends(name: str, changes: dict[str, object]) -> None:
    events = play([(10, {}), (30, changes), (40, {})])
    assert names(events) == [name, f"{name} ended"]
    assert 10 < events[0].onset <= 31
    assert events[1].onset == events[0].onset
    assert events[1].offset is not None and 40 < events[1].offset <= 71


def test_short_spells_and_the_band_between_on_and_off_do_not_flap() -> None:
    assert play([(10, {}), (1.6, {"last_hr": 35.0}), (10, {})]) == []
    wobble = [(1.2, {"last_hr": hr}) for hr in (39.0, 42.0) * 20]
    assert names(play([(6, {"last_hr": 35.0}), *wobble])) == ["brady"]


def test_what_cannot_be_known_starts_nothing_and_ends_stale() -> None:
    hidden = {"good": False, "last_hr": 30.0}
    assert play([(60, hidden)]) == []
    events = play([(10, {"last_hr": 30.0}), (14, hidden)])
    assert names(events) == ["brady", "brady ended"]
    assert events[1].evidence["ended_by"] == "unobservable"


def test_the_warm_up_is_silent_but_for_the_sensor() -> None:
    cold = {"warm": False, "last_hr": 30.0, "last_beat": 0.0, "p_irregular": 1.0}
    assert play([(30, cold)]) == []
    assert names(play([(30, {**cold, "sensor": "off"})])) == ["sensor_off"]


def test_motion_is_not_a_lost_pulse() -> None:
    assert play([(10, {}), (10, {"last_beat": 9.0, "loudness": 1.0})]) == []


def test_what_was_not_seen_is_not_lost() -> None:
    """After the sensor was off for a while, the pulse has the whole pause to show itself."""
    off = {"last_beat": 9.8, "readable": False, "good": False, "sensor": "off"}
    back = {"last_beat": 9.8, "unreadable": 20.0}
    assert "pulse_lost" not in names(play([(10, {}), (10, off), (2.6, back)]))
    assert names(play([(10, {}), (10, off), (3.6, back)]))[-1] == "pulse_lost"


def test_one_beat_in_a_pause_does_not_end_it() -> None:
    lost = play([(10, {}), (8, {"last_beat": 10.0}), (6, {"last_beat": 18.0}), (10, {})])
    assert names(lost) == ["pulse_lost", "pulse_lost ended"]
    assert lost[1].offset is not None and lost[1].offset > 27


def test_a_lost_pulse_stays_lost_while_the_wave_says_nothing() -> None:
    """A flat line is at last taken for a sensor that is off, but nothing has shown that the pulse is back."""
    gone = {"last_beat": 10.0}
    flat = {**gone, "sensor": "off", "readable": False, "good": False}
    events = play([(10, {}), (10, gone), (120, flat), (10, {})])
    assert names(events) == ["pulse_lost", "sensor_off", "sensor_off ended", "pulse_lost ended"]


def test_a_pulse_as_strong_as_ever_that_the_detector_misses_is_not_lost() -> None:
    missed = {"last_beat": 9.0, "loudness": 0.3}
    assert play([(10, {}), (10, missed)]) == []
    assert names(play([(10, {}), (10, {**missed, "calm": False})])) == ["pulse_lost"]


def test_limits_are_the_users() -> None:
    assert names(play([(20, {"last_hr": 52.0})], AlarmLimits(low_rate=55))) == ["brady"]


def test_an_end_of_stream_ends_what_is_active() -> None:
    alarms = Alarms(AlarmLimits())
    states = alarms.start()
    for i in range(30):
        alarms.step(states, replace(CALM, now=i * HOP, last_hr=30.0, last_beat=i * HOP))
    ended = alarms.end(states, 12.0, "end of stream")
    assert names(ended) == ["brady ended"] and ended[0].offset == 12.0
    assert alarms.end(states, 13.0, "again") == []
