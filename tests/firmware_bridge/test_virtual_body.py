"""The virtual patient: physiology within stated limits, and samples that depend on nothing but the seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from firmware_bridge.block import Flag, SampleBlock
from firmware_bridge.errors import BadInput
from firmware_bridge.source import open_source
from firmware_bridge.virtual.body import AMBIENT, ARRIVAL_S, FULL_SCALE, Body
from firmware_bridge.virtual.motion import Motion
from firmware_bridge.virtual.rhythm import Oscillation
from firmware_bridge.virtual.scenario import SCENARIOS, Scenario

RATE = 100.0


def intervals(body: Body, seconds: float) -> NDArray[np.float64]:
    return np.diff([beat.r for beat in body.beats(seconds)])


def irregularity(rr: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.diff(rr) ** 2)) / np.mean(rr))


def r_peaks(ecg: NDArray[np.int32]) -> NDArray[np.intp]:
    """R peaks found in the samples alone: maxima above 0.6 mV, one in 0.2 s."""
    x = ecg.astype(float)
    high = np.flatnonzero((x[1:-1] > 600) & (x[1:-1] >= x[:-2]) & (x[1:-1] > x[2:])) + 1
    keep = [high[0]]
    for i in high[1:]:
        if i - keep[-1] > 20:
            keep.append(i)
        elif x[i] > x[keep[-1]]:
            keep[-1] = i
    return np.array(keep)


@pytest.mark.parametrize(("name", "hr"), [("sinus", 70), ("brady", 38), ("tachy", 145), ("ectopy", 70), ("af", 95)])
def test_heart_rates(name: str, hr: float) -> None:
    mean = 60 / intervals(Body(Scenario.find(name), RATE, 5), 600).mean()
    assert mean == pytest.approx(hr, rel=0.05)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_af_is_far_more_irregular_than_sinus(seed: int) -> None:
    sinus, af = (intervals(Body(Scenario.find(n, 80), RATE, seed), 120) for n in ("sinus", "af"))
    assert irregularity(sinus) < 0.1
    assert irregularity(af) > 0.2


def test_heart_rate_variability_has_its_two_peaks() -> None:
    rr = intervals(Body(Scenario.find("sinus"), RATE, 1), 1200)
    t = np.cumsum(rr)
    grid = np.arange(t[0], t[-1], 0.25)
    x = np.interp(grid, t, rr)
    power = np.abs(np.fft.rfft((x - x.mean()) * np.hanning(len(x)))) ** 2
    f = np.fft.rfftfreq(len(x), 0.25)

    def band(low: float, high: float) -> float:
        return float(power[(f >= low) & (f < high)].sum())

    assert band(0.07, 0.13) > 5 * band(0.14, 0.20)
    assert band(0.21, 0.29) > 5 * band(0.14, 0.20)


def test_ectopic_beats_come_early_and_are_made_up_for() -> None:
    beats = Body(Scenario.find("ectopy"), RATE, 2).beats(300)
    normal = np.median([b.rr for b in beats])
    early = [i for i, b in enumerate(beats[:-1]) if b.origin == "V"]
    assert len(early) > 20
    for i in early:
        assert beats[i].rr < 0.75 * normal
        assert beats[i].rr + beats[i + 1].rr == pytest.approx(2 * normal, rel=0.2)


def test_the_ecg_shows_the_true_beats() -> None:
    body = Body(Scenario.find("sinus"), 250, 4)
    found = r_peaks(body.read(250 * 60).ecg) / 250
    true = np.array([b.r for b in body.beats(60)])
    assert len(found) == len(true)
    assert np.abs(found - true).max() < 0.015


def test_the_pulse_follows_the_heart_after_its_delay() -> None:
    body = Body(Scenario.find("sinus"), 250, 4)
    blood = -body.read(250 * 60).ppg.astype(float)
    for pulse in body.pulses(58)[1:]:
        assert 0.25 <= pulse.foot - pulse.beat.r <= 0.36
        # The upstroke's steepest point lies shortly after the foot.
        a = round((pulse.foot - 0.1) * 250)
        steepest = (a + np.argmax(np.diff(blood[a : a + 100]))) / 250
        assert 0.03 < steepest - pulse.foot < 0.15
    assert np.std([p.foot - p.beat.r for p in body.pulses(58)]) > 0.005
    assert np.mean([p.foot - p.beat.r for p in body.pulses(58)]) == pytest.approx(ARRIVAL_S, abs=0.02)


def test_counts_look_like_a_reflectance_sensor() -> None:
    ppg = Body(Scenario.find("sinus"), RATE, 6).read(3000).ppg.astype(float)
    assert 0 < ppg.min() < ppg.max() < FULL_SCALE
    pulse = np.median([np.ptp(ppg[i : i + 100]) for i in range(0, 2900, 100)])
    assert 0.008 < pulse / ppg.mean() < 0.025


def test_short_filling_makes_a_small_pulse_and_af_a_pulse_deficit() -> None:
    pulses = Body(Scenario.find("af", 120), RATE, 7).pulses(300)
    rr, volume = (np.array(x) for x in zip(*((p.beat.rr, p.volume) for p in pulses), strict=True))
    assert np.corrcoef(rr, volume)[0, 1] > 0.8
    assert volume[rr < 0.32].max() < 0.5 < volume[rr > 0.6].min()


def test_a_pause_is_flat_in_both_signals() -> None:
    body = Body(Scenario.find("pause"), RATE, 8)
    chunk = body.read(4000)
    assert not [b for b in body.beats(40) if 20 < b.r < 26]
    before, pause = slice(1000, 2000), slice(2150, 2600)
    assert np.ptp(chunk.ecg[before]) > 5 * np.ptp(chunk.ecg[pause])
    blood = np.diff(chunk.ppg[pause].astype(float), n=1)
    assert np.abs(np.diff(chunk.ppg[before].astype(float))).max() > 4 * np.abs(blood).max()
    assert [b for b in body.beats(40) if 26 < b.r < 27]


def test_motion_drowns_the_pulse_only_while_it_lasts() -> None:
    ppg = Body(Scenario.find("motion"), RATE, 9).read(4500).ppg.astype(float)
    quiet, shaken, after = np.std(ppg[500:1400]), np.std(ppg[1600:2900]), np.std(ppg[3100:4400])
    assert shaken > 3 * quiet
    assert after == pytest.approx(quiet, rel=0.3)
    artefact = Motion(10, 20, 3.0, np.random.default_rng(0))
    assert not artefact(np.array([9.9, 10.0, 20.0, 25.0])).any()


def test_no_contact_is_ambient_light_and_says_so() -> None:
    source = open_source("sim:nocontact?seed=1")
    blocks = [b for b in source if isinstance(b, SampleBlock)]
    off = [b for b in blocks if b.flags & Flag.NO_CONTACT]
    assert off[0].index == 1500
    assert sum(len(b.values) for b in off) == 800
    assert all(abs(b.values.astype(float) - AMBIENT).max() < 100 for b in off)
    assert all(b.flags & Flag.SYNTHETIC for b in blocks)


def test_a_pulled_cable_is_a_gap_of_exactly_its_duration() -> None:
    blocks = [b for b in open_source("sim:unplug") if isinstance(b, SampleBlock)]
    (after,) = [b for b in blocks if b.gap_reason]
    assert (after.index, after.gap_reason) == (1800, "cable pulled")
    assert blocks[-1].end == 3300
    assert sum(len(b.values) for b in blocks) == 3000


@given(
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=12),
    name=st.sampled_from(sorted(SCENARIOS)),
    rate=st.sampled_from([25.0, 64.0, 100.0, 360.0]),
)
@settings(max_examples=25, deadline=None)
def test_the_same_seed_gives_the_same_samples_however_they_are_read(sizes: list[int], name: str, rate: float) -> None:
    whole = Body(Scenario.find(name), rate, 11).read(sum(sizes))
    body = Body(Scenario.find(name), rate, 11)
    parts = [body.read(n) for n in sizes]
    for column in ("ppg", "ecg", "contact", "saturated", "plugged"):
        assert np.array_equal(np.concatenate([getattr(p, column) for p in parts]), getattr(whole, column))
    assert [p.index for p in parts] == [0, *np.cumsum(sizes)[:-1]]


def test_another_seed_gives_another_patient() -> None:
    first, second = (Body(Scenario.find("sinus"), RATE, seed).read(500) for seed in (1, 2))
    assert not np.array_equal(first.ppg, second.ppg)
    assert Body(Scenario.find("sinus"), RATE, 1).beats(30) != Body(Scenario.find("sinus"), RATE, 2).beats(30)


def test_oscillations_have_unit_variance_at_their_frequency() -> None:
    wave = Oscillation(0.25, 0.01, np.random.default_rng(0))(np.arange(0, 4000, 0.2))
    assert np.var(wave) == pytest.approx(1, rel=0.1)
    power = np.abs(np.fft.rfft(wave)) ** 2
    assert np.fft.rfftfreq(len(wave), 0.2)[np.argmax(power)] == pytest.approx(0.25, abs=0.04)


def test_scenarios_repeat_and_the_story_takes_about_a_minute() -> None:
    story = Scenario.find("story")
    assert 55 <= story.seconds <= 75
    assert [s.kind for s in story.segments] == [
        "sinus", "motion", "sinus", "af", "pause", "sinus", "unplugged", "sinus",
    ]  # fmt: skip
    segment, start, end = story.at(story.seconds + 20)
    assert (segment.kind, start, end) == ("motion", story.seconds + 15, story.seconds + 21)
    assert story.at(0.0)[0].kind == "sinus"


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("sim:flutter", "scenario 'flutter' is unknown; known: sinus, brady, tachy, af"),
        ("sim:sinus?hr=5", "hr must be 20 to 250 bpm"),
        ("sim:sinus?rate=5", "rate must be 10 to 2000 Hz"),
        ("sim:sinus?duration=0", "duration must be above 0 s"),
        ("sim:sinus?seed=1.5", "seed must be a whole number"),
        ("sim:sinus?volume=3", "unknown option 'volume'"),
    ],
)
def test_bad_scenarios_are_one_line(uri: str, line: str) -> None:
    with pytest.raises(BadInput) as error:
        open_source(uri)
    assert line in str(error.value)


def test_sim_source_declares_polarity_and_delivers_the_body() -> None:
    source = open_source("sim:sinus?hr=60&seed=3&duration=7.05&rate=64")
    assert (source.info.scale, source.info.rate, source.live) == (-1, 64, False)
    values = np.concatenate([b.values for b in source if isinstance(b, SampleBlock)])
    assert np.array_equal(values, Body(Scenario.find("sinus", 60), 64, 3).read(round(7.05 * 64)).ppg)
    ecg = open_source("sim:sinus?duration=1", "ecg")
    assert (ecg.info.unit, ecg.info.scale) == ("mV", 0.001)
    ecg.close()
    assert list(ecg) == []
