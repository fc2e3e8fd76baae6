"""Support: what the device knows of an alarm that it is about to raise, and what becomes of one it hardly believes."""

import functools
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.alarms import AlarmLimits, Alarms, Event, Observation, Withheld
from edge.bundle import Bundle, LogisticModel, SupportModel, load_bundle
from edge.bundle.report import describe
from edge.describe import describe_summary
from edge.engines import Engine, open_engine
from edge.messages import EventLine, Message, Summary, WithheldLine, encode
from edge.monitor import Monitor
from edge.narrate import Narrator
from edge.quality import Quality
from edge.support import ALARMS, FEATURES, Moment, Support, echo, support_features
from firmware_bridge.errors import BadInput
from firmware_bridge.source import open_source

RATE = 125.0
HOP = 0.4


def beats(period: float, *, seconds: float = 8.0, weak: float = 1.0, quiet_after: float = math.inf) -> np.ndarray:
    """A pulse wave of narrow beats every ``period`` s, every second one ``weak`` times as high, none after a time."""
    t = np.arange(round(seconds * RATE)) / RATE
    heights = [(0.3 + i * period, 1.0 if i % 2 == 0 else weak) for i in range(math.ceil(seconds / period))]
    wave = sum(height * np.exp(-(((t - at) / 0.08) ** 2)) for at, height in heights if at < quiet_after)
    noise = np.random.default_rng(0).normal(0, 0.01, len(t))
    return np.asarray(wave + noise) - np.mean(wave)


def moment(wave: np.ndarray, *, rate: float = 70.0, since: float | None = 0.3) -> Moment:
    quality = Quality(0.9, "good", {"template": 0.95, "size_variation": 0.1, "loudness": 0.2})
    return Moment(wave, RATE, [60 / rate] * 10, since, rate, quality, 0.0)


@given(st.integers(0, 2**32 - 1), st.floats(-9, 9), st.integers(2, 1200), st.integers(1, 500), st.integers(1, 500))
def test_an_echo_is_a_share_and_does_not_depend_on_loudness(
    seed: int, scale: float, count: int, low: int, width: int
) -> None:
    wave = np.random.default_rng(seed).normal(size=count)
    found = echo(wave, low, low + width)
    assert 0 <= found <= 1 + 1e-9
    assert echo(wave * 10**scale, low, low + width) == pytest.approx(found, abs=1e-6)


def test_an_echo_finds_the_period() -> None:
    wave = beats(0.8)
    assert echo(wave, 98, 102) > 0.9
    assert echo(wave, 45, 55) < 0.3
    assert echo(np.zeros(1000), 10, 20) == 0.0 and echo(wave[:5], 100, 200) == 0.0


@given(
    st.sampled_from(ALARMS),
    st.lists(st.floats(0.25, 3.0), max_size=40),
    st.integers(0, 1000),
    st.one_of(st.none(), st.floats(0, 1e5)),
    st.one_of(st.none(), st.floats(20, 240)),
    st.floats(-300, 300),
    st.booleans(),
)
def test_every_moment_has_every_feature_and_all_are_finite(
    alarm: str, intervals: list[float], count: int, since: float | None, hr: float | None, loudness: float, flat: bool
) -> None:
    wave = np.zeros(count) if flat else np.random.default_rng(count).normal(size=count)
    seen = Moment(wave, RATE, intervals, since, hr, Quality(0.0, "flat", {}), loudness)
    found = support_features(alarm, 3.0 if alarm == "pulse_lost" else 60.0, seen)
    assert set(found) == set(FEATURES)
    assert all(math.isfinite(value) for value in found.values())


def test_missed_beats_and_double_counts_show() -> None:
    slow = support_features("brady", 40.0, moment(beats(60 / 35), rate=35.0))
    missed = support_features("brady", 40.0, moment(beats(60 / 70), rate=35.0))
    assert missed["echo_half"] > 0.9 and slow["echo_half"] < 0.3
    fast = support_features("tachy", 140.0, moment(beats(0.4), rate=150.0))
    doubled = support_features("tachy", 140.0, moment(beats(0.4, weak=0.4), rate=150.0))
    assert fast["echo_double"] - fast["echo"] < 0.1
    assert doubled["echo_double"] - doubled["echo"] > 0.2


def test_a_pause_in_which_the_pulse_goes_on_shows() -> None:
    stopped = support_features("pulse_lost", 3.0, moment(beats(0.8, quiet_after=4.0), since=3.9))
    goes_on = support_features("pulse_lost", 3.0, moment(beats(0.8), since=3.9))
    assert goes_on["pause_echo"] > 0.9 and stopped["pause_echo"] < 0.5
    assert goes_on["pause_energy"] > -0.5 and stopped["pause_energy"] < -1
    assert stopped["missed"] == pytest.approx(math.log(3.9 / (60 / 70)))


def model(weight: float, bias: float, threshold: float) -> SupportModel:
    return SupportModel(LogisticModel({"doubt": weight}, bias, "made up"), threshold)


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
    moment=moment(beats(0.8)),
)


def play(support: Support, story: list[tuple[float, float, float]]) -> list[Event | Withheld]:
    """``(seconds, rate, sqi)``…, hop by hop, and then the stream's end."""
    alarms = Alarms(AlarmLimits(), support)
    states = alarms.start()
    said: list[Event | Withheld] = []
    now = 0.0
    for seconds, hr, sqi in story:
        for _ in range(round(seconds / HOP)):
            now += HOP
            seen = replace(moment(beats(60 / hr), rate=hr), quality=Quality(sqi, "good", {}))
            said += alarms.step(states, replace(CALM, now=now, last_hr=hr, last_beat=now, moment=seen))
    return said + list(alarms.end(states, now, "end of stream"))


def test_what_is_supported_is_raised_and_says_how_sure() -> None:
    said = play(Support({"brady": model(0, 1, 0.5)}), [(6, 70, 0.9), (10, 30, 0.9), (10, 70, 0.9)])
    assert [(type(e).__name__, e.name) for e in said] == [("Event", "brady")] * 2
    assert said[0].evidence["support"] == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-3)
    assert "withheld_since" not in said[0].evidence and "support" not in said[1].evidence


def test_what_is_not_supported_is_withheld_once_and_never_ends() -> None:
    unsure = Support({"brady": model(0, -3, 0.5)})
    spell = [(6.0, 70.0, 0.9), (20.0, 30.0, 0.9), (10.0, 70.0, 0.9)]
    said = play(unsure, spell)
    assert [(type(e).__name__, e.name) for e in said] == [("Withheld", "brady")]
    assert said[0].evidence["support"] == pytest.approx(1 / (1 + math.exp(3)), abs=1e-3)
    assert [type(e).__name__ for e in play(unsure, spell * 2)] == ["Withheld"] * 2
    assert [type(e).__name__ for e in play(unsure, spell[:2])] == ["Withheld"]  # the stream's end tells nothing new


def test_a_withheld_alarm_is_raised_as_soon_as_it_is_supported() -> None:
    """A poor pulse is not believed; the same rate on a good one is, in the same spell."""
    said = play(Support({"brady": model(-20, 10, 0.5)}), [(6, 70, 0.9), (8, 30, 0.2), (8, 30, 0.9), (10, 70, 0.9)])
    assert [type(e).__name__ for e in said] == ["Withheld", "Event", "Event"]
    held, raised, ended = said
    assert isinstance(held, Withheld) and isinstance(raised, Event) and isinstance(ended, Event)
    assert held.t < 14 < raised.onset < 15
    assert raised.evidence["withheld_since"] == pytest.approx(held.t)
    assert ended.onset == raised.onset and ended.offset is not None


def test_only_alarms_with_a_model_are_judged() -> None:
    said = play(Support({"tachy": model(0, -9, 0.5)}), [(6, 70, 0.9), (10, 30, 0.9)])
    assert [type(e).__name__ for e in said] == ["Event", "Event"] and "support" not in said[0].evidence
    raised = play(Support({"brady": model(0, -9, 0.0)}), [(6, 70, 0.9), (10, 30, 0.9)])
    assert isinstance(raised[0], Event) and raised[0].evidence["support"] == pytest.approx(0, abs=1e-3)


def test_models_that_this_version_cannot_use_are_refused() -> None:
    with pytest.raises(BadInput, match=r"support is for asystole; this version knows pulse_lost"):
        Support({"asystole": model(0, 0, 0.5)})
    with pytest.raises(BadInput, match=r"support\.brady has weights for magic"):
        Support({"brady": SupportModel(LogisticModel({"magic": 1.0}, 0.0, "made up"), 0.5)})


@functools.cache
def shipped() -> tuple[Bundle, Engine]:
    bundle = load_bundle()
    return bundle, open_engine(bundle)


def monitored(support: dict[str, SupportModel] | None) -> tuple[list[Message], Summary]:
    """The virtual body's pause, watched with the shipped bundle and these models of support."""
    bundle, engine = shipped()
    bundle = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, support=support), bundle._contents)
    monitor = Monitor(open_source("sim:pause?seed=1&duration=60"), bundle, engine, fast=True)
    narrator = Narrator(monitor, "test")
    lines = [line for item in monitor for line in narrator.lines(item)]
    return lines, narrator.summary()


def test_the_monitor_tells_what_it_withheld() -> None:
    lines, summary = monitored(None)
    lost = [line for line in lines if isinstance(line, EventLine) and line.name == "pulse_lost" and line.offset is None]
    assert lost and not summary.withheld and "support" not in lost[0].evidence
    sure, told = monitored({"pulse_lost": model(0, 9, 0.5)})
    again = [line for line in sure if isinstance(line, EventLine) and line.name == "pulse_lost" and line.offset is None]
    assert [line.t for line in again] == [line.t for line in lost] and told.alarms == summary.alarms
    assert all(line.evidence["support"] == pytest.approx(1, abs=1e-3) for line in again)
    unsure, quiet = monitored({"pulse_lost": model(0, -9, 0.5)})
    held = [line for line in unsure if isinstance(line, WithheldLine)]
    assert [line.t for line in held] == [line.t for line in lost]
    assert "pulse_lost" not in quiet.alarms and quiet.withheld == {"pulse_lost": len(held)}
    assert json.loads(encode(held[0]))["type"] == "withheld"
    assert f"withheld  pulse_lost {len(held)}" in describe_summary(quiet)


def test_a_bundle_says_which_alarms_it_can_support() -> None:
    bundle, _ = shipped()
    made = msgspec.structs.replace(bundle.manifest, support={"brady": model(0, 0, 0.1)})
    assert re.search(r"heads .*support", describe(Bundle(Path("x"), made, bundle._contents)))
    decoded = msgspec.json.decode(msgspec.json.encode(made), type=type(made))
    assert decoded == made
    with pytest.raises(msgspec.ValidationError, match="withhold_below"):
        msgspec.json.decode(b'{"model": {"weights": {}, "bias": 0, "calibrated_on": ""}, "withhold_below": 2}',
                            type=SupportModel)  # fmt: skip
