"""Pulse arrival is measured to some milliseconds, followed as it drifts, and taken out; lags are drawn as promised."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from varying_heart import RATE, varying_heart

from trainer.alignment import DelayTrack, delayed, estimate_delay
from trainer.lag_jitter import LagJitter
from trainer.windows import WindowConfig, paired_ecg, run_frontend, saved_config

CONFIG = WindowConfig()


def track(ppg: np.ndarray, ecg: np.ndarray) -> DelayTrack:
    p, e = run_frontend(ppg, CONFIG, "ppg"), run_frontend(ecg, CONFIG, "ecg")
    return estimate_delay(p.patches.ravel(), e.patches.ravel(), RATE)


def behind_front_ends() -> float:
    """What the two front ends add to a delay, s: the same for every heart that beats slowly enough."""
    found = track(*varying_heart(90, 60, 0.05, lambda beats: np.full(len(beats), 0.3)))
    return float(np.median(found.delay)) - 0.3


@given(st.floats(-0.2, 1.3), st.floats(45, 100), st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_any_delay_is_found_though_the_true_one_may_be_beats_away(delay: float, bpm: float, seed: int) -> None:
    lost = np.random.default_rng(seed).random(400) < 0.15  # beats without a pulse

    def late(beats: np.ndarray) -> np.ndarray:
        return np.where(lost[: len(beats)], np.nan, delay)

    found = track(*varying_heart(120, bpm, 0.06, late, seed))
    assert found.believed.all()
    assert found.confidence.min() > 0.7
    np.testing.assert_allclose(found.delay, delay + behind_front_ends(), atol=0.025)


def test_a_drifting_clock_is_followed() -> None:
    ppg, ecg = varying_heart(300, 70, 0.05, lambda beats: 0.25 + 0.001 * beats)  # 1000 ppm
    found = track(ppg, ecg)
    assert found.believed.all()
    np.testing.assert_allclose(found.delay, 0.25 + 0.001 * found.time + behind_front_ends(), atol=0.02)
    seconds = np.linspace(30, 270, 50)
    np.testing.assert_allclose(found.at(seconds), 0.25 + 0.001 * seconds + behind_front_ends(), atol=0.02)


def test_of_a_regular_heart_the_delay_is_known_to_a_beat() -> None:
    interval = 60 / 75
    found = track(*varying_heart(120, 75, 0.0, lambda beats: np.full(len(beats), 0.9)))
    beats_off = (found.delay - 0.9 - behind_front_ends()) / interval
    assert found.believed.all()
    np.testing.assert_allclose(beats_off, np.round(beats_off[0]), atol=0.03)


def test_where_nothing_agrees_nothing_is_claimed_and_nothing_is_moved() -> None:
    _, ecg = varying_heart(120, 70, 0.08, lambda beats: np.full(len(beats), 0.3))
    other, _ = varying_heart(120, 83, 0.15, lambda beats: np.full(len(beats), 0.3), seed=1)
    found = track(other, ecg)
    assert found.confidence.max() < 0.5
    np.testing.assert_array_equal(found.at(np.arange(5.0)), 0)
    config = replace(CONFIG, align=True)
    moved = paired_ecg(run_frontend(other, config, "ppg"), ecg, config)
    np.testing.assert_array_equal(moved.patches[5:], run_frontend(ecg, CONFIG, "ecg").patches[5:])
    silent = track(np.zeros(9000), np.zeros(9000))
    assert not silent.believed.any()


@given(st.floats(-0.5, 0.5))
@settings(max_examples=8, deadline=None)
def test_aligned_pairs_do_not_depend_on_the_shift_they_came_with(shift: float) -> None:
    ppg, ecg = varying_heart(120, 66, 0.06, lambda beats: np.full(len(beats), 0.35))
    wave = run_frontend(ppg, CONFIG, "ppg")
    straight = paired_ecg(wave, ecg, replace(CONFIG, align=True)).patches[10:-5].ravel()
    again = paired_ecg(wave, ecg, replace(CONFIG, align=True, ecg_delay=shift)).patches[10:-5].ravel()
    as_it_is = paired_ecg(wave, ecg, replace(CONFIG, ecg_delay=shift)).patches[10:-5].ravel()
    assert np.corrcoef(straight, again)[0, 1] > 0.9
    if abs(shift) > 0.05:  # left as they are, the shift stays in them
        unmoved = paired_ecg(wave, ecg, CONFIG).patches[10:-5].ravel()
        assert np.corrcoef(unmoved, as_it_is)[0, 1] < 0.5
    # and an R peak meets the foot of its pulse
    found = estimate_delay(
        wave.patches.ravel(), paired_ecg(wave, ecg, replace(CONFIG, align=True)).patches.ravel(), RATE
    )
    assert np.abs(found.delay).max() < 0.012


@given(st.integers(-300, 300))
@settings(max_examples=25)
def test_whole_samples_are_moved_as_they_are(shift: int) -> None:
    samples = np.random.default_rng(0).normal(size=700)
    samples[200:230] = np.nan
    moved = delayed(samples, shift)
    expected = np.full(700, np.nan)
    kept = np.arange(max(0, shift), min(700, 700 + shift))
    expected[kept] = samples[kept - shift]
    np.testing.assert_allclose(moved, expected, atol=1e-9)


@given(st.floats(-20, 20))
@settings(max_examples=25)
def test_parts_of_samples_are_interpolated(shift: float) -> None:
    t = np.arange(500)
    moved = delayed(np.sin(0.3 * t), shift)
    whole = np.isfinite(moved)
    assert whole.sum() >= 479
    np.testing.assert_allclose(moved[whole][5:-5], np.sin(0.3 * (t - shift))[whole][5:-5], atol=2e-3)


def test_runs_older_than_a_field_stand_at_its_default() -> None:
    saved = json.loads(json.dumps(CONFIG.to_dict()))
    assert saved_config(saved) == CONFIG
    old = {name: value for name, value in saved.items() if name not in ("align", "ecg_delay")}
    assert saved_config(old) == CONFIG
    assert saved_config({**old, "gain_hops": 25}) != CONFIG
    assert saved_config({**saved, "align": True}) == replace(CONFIG, align=True)
    for wrong in (None, [1], {}, {**saved, "colour": 1}, {**saved, "gate": 3}):
        assert saved_config(wrong) is None


@given(st.floats(0.008, 0.4), st.integers(0, 1000))
@settings(max_examples=25)
def test_lags_are_drawn_anew_for_each_window_and_stay_in_bounds(most: float, seed: int) -> None:
    ramp = torch.arange(12 * 50, dtype=torch.float32).view(1, 12, 50).repeat(40, 1, 1)
    jitter = LagJitter(most)
    torch.manual_seed(seed)
    ppg, ecg = jitter(ramp, ramp)
    torch.manual_seed(seed)
    torch.testing.assert_close(jitter(ramp, ramp)[1], ecg)
    assert ppg.shape == ecg.shape == (40, (600 - 2 * round(most * RATE)) // 50, 50)
    lag = (ecg - ppg).view(40, -1)
    assert (lag == lag[:, :1]).all(), "one lag a window"
    assert lag.abs().max() <= round(most * RATE)
    assert len(lag[:, 0].unique()) > 1
    torch.testing.assert_close(ppg.view(40, -1)[:, 1:] - ppg.view(40, -1)[:, :-1], torch.ones(40, ppg[0].numel() - 1))


def test_no_lag_is_no_change_and_too_much_is_refused() -> None:
    pair = torch.randn(2, 3, 4, 50)
    assert all(torch.equal(a, b) for a, b in zip(LagJitter(0)(pair[0], pair[1]), pair, strict=True))
    with pytest.raises(ValueError, match=r"windows of 1\.6 s cannot be shifted by ±0\.8 s"):
        LagJitter(0.8)(pair[0], pair[1])
