"""Beats on waves whose truth is known, and on real ones beside the ECG."""

from pathlib import Path

import numpy as np
import pytest

from edge.beats import BeatDetector, BeatState
from edge.frontend import Frontend
from edge.rhythm import RhythmState, RhythmTracker, irregularity_features
from trainer.gating import r_peaks
from trainer.recordings import find_recordings
from trainer.windows import WindowConfig, run_frontend

RATE = 125.0


def pulses(times: np.ndarray, seconds: float) -> np.ndarray:
    """A steep systolic wave and a dicrotic one after each time."""
    t = np.arange(int(seconds * RATE)) / RATE
    wave = np.zeros_like(t)
    for beat in times:
        wave += np.exp(-0.5 * ((t - beat - 0.15) / 0.06) ** 2) + 0.35 * np.exp(-0.5 * ((t - beat - 0.42) / 0.07) ** 2)
    return wave


def detect(wave: np.ndarray, gain: float = 1.0) -> np.ndarray:
    frontend = Frontend(WindowConfig().frontend("ppg"))
    detector, state, filtered = BeatDetector(RATE), BeatState(), frontend.start()
    found = []
    for hop in (gain * wave[: len(wave) // 50 * 50]).reshape(-1, 50):
        found += [b.position for b in detector.step(state, frontend.step(filtered, hop)[0])]
    return np.array(found) / RATE


@pytest.mark.parametrize("bpm", [35, 60, 90, 150])
def test_each_pulse_once_and_its_interval_to_a_few_milliseconds(bpm: int) -> None:
    times = np.arange(1.0, 58.0, 60 / bpm)
    found = detect(pulses(times, 60.0))
    inside = found[found > 4]
    assert abs(len(inside) - (times > 4).sum()) <= 2
    assert np.abs(np.diff(inside) - 60 / bpm).max() < 0.004


def test_a_sudden_loss_of_amplitude_costs_one_beat_and_gain_none() -> None:
    times = np.arange(1.0, 58.0, 0.8)
    wave = pulses(times, 60.0)
    wave[int(30 * RATE) :] *= 0.3
    found = detect(wave)
    assert len(times) - 2 <= len(found) <= len(times)
    assert np.abs(np.diff(found[found > 33]) - 0.8).max() < 0.005
    assert np.allclose(found, detect(wave, gain=1e5))


def test_a_pause_has_no_beats() -> None:
    times = np.concatenate([np.arange(1.0, 20.0, 0.9), np.arange(26.0, 40.0, 0.9)])
    noise = np.random.default_rng(0).normal(0, 0.003, int(40 * RATE))
    found = detect(pulses(times, 40.0) + noise)
    assert not ((found > 20.3) & (found < 25.9)).any()


def test_intervals_across_something_unreadable_do_not_count() -> None:
    tracker, state = RhythmTracker(None), RhythmState()
    ibis = []
    for i in range(20):
        t = 0.8 * i + 0.4
        beats, rhythm = tracker.step(state, t + 0.4, [t], readable=i != 9, good=True)
        ibis.append(beats[0].ibi)
    assert ibis[0] is None and ibis[10] is None
    assert all(ibi == pytest.approx(0.8) for i, ibi in enumerate(ibis) if i not in (0, 10))
    assert rhythm.hr == pytest.approx(75)


def test_irregularity_features_by_hand() -> None:
    features = irregularity_features(np.array([0.8, 1.0, 0.7, 0.9, 0.8]))
    assert features["nrmssd"] == pytest.approx(np.sqrt((0.04 + 0.09 + 0.04 + 0.01) / 4) / 0.84)
    assert features["median_change"] == pytest.approx(0.2 / 0.8)
    assert features["log_least_change"] == pytest.approx(np.log(0.0 / 0.8 + 0.01))  # four beats later: the same


@pytest.mark.data
def test_beats_of_people_in_sinus_rhythm_are_those_of_their_ecg(shared_data: Path) -> None:
    chosen = [r for r in find_recordings(shared_data).recordings if r.group == "Non_AF_wfdb"][:3]
    assert len(chosen) == 3
    config = WindowConfig()
    for recording in chosen:
        ppg, ecg = (x[: 125 * 240] for x in recording.read())
        truth = r_peaks(run_frontend(ecg, config, "ecg").patches.ravel(), RATE) / RATE
        found = detect(np.nan_to_num(ppg), gain=1000)
        found, truth = found[found > 5], truth[truth > 5]
        delay = np.median([f - truth[truth < f].max() for f in found if (truth < f).any()])
        near = np.abs(found[:, None] - (truth + delay)[None]).min(1) < 0.15
        f1 = 2 * near.sum() / (len(found) + len(truth))
        assert f1 > 0.95, recording.name


@pytest.mark.parametrize("strength", [5.0, 50.0, 5000.0])
def test_a_burst_of_motion_does_not_deafen_the_detector(strength: float) -> None:
    """However strong it was, the pulse that follows is found again."""
    times = np.arange(1.0, 88.0, 0.8)
    wave = pulses(times, 90.0)
    noise = np.convolve(np.random.default_rng(5).normal(size=int(15 * RATE)), np.ones(30) / 30, "same")
    wave[int(30 * RATE) : int(45 * RATE)] += strength * noise / noise.std()
    found = detect(wave)
    after = (times > 65).sum()
    assert after - 1 <= (found > 65).sum() <= after + 1


def test_rounding_steps_of_a_flat_line_are_no_pulse() -> None:
    """True asystole: the pulse stops, and what is left is the converter's last bit now and then."""
    rng = np.random.default_rng(6)
    wave = np.round(400 * pulses(np.arange(1.0, 20.0, 0.8), 90.0) + np.linspace(0, 12, 90 * 125))
    wave[22 * 125 :] += rng.random(68 * 125) < 0.02
    frontend = Frontend(WindowConfig().frontend("ppg"))
    detector, state, filtered = BeatDetector(RATE, resolution=1.0), BeatState(), frontend.start()
    found = []
    for hop in wave[: len(wave) // 50 * 50].reshape(-1, 50):
        found += [b.position / RATE for b in detector.step(state, frontend.step(filtered, hop)[0])]
    assert len(found) > 20
    assert max(found) < 21


@pytest.mark.parametrize("bpm", [55, 75, 95])
def test_a_strong_dicrotic_wave_is_no_beat(bpm: int) -> None:
    """As in BIDMC's record 47: half as steep as the beat, a third of a second after it."""
    times = np.arange(1.0, 58.0, 60 / bpm)
    t = np.arange(int(60 * RATE)) / RATE
    wave = np.zeros_like(t)
    for beat in times:
        wave += np.exp(-0.5 * ((t - beat) / 0.06) ** 2) + 0.55 * np.exp(-0.5 * ((t - beat - 0.33) / 0.075) ** 2)
    found = detect(wave)
    assert abs((found > 10).sum() - (times > 10).sum()) <= 1
    assert np.abs(np.diff(found[found > 10]) - 60 / bpm).max() < 0.02


def test_a_weak_beat_that_is_due_and_looks_like_one_is_not_missed() -> None:
    times = np.arange(1.0, 58.0, 0.8)
    wave = pulses(times, 60.0)
    weak = times[30::10]
    for beat in weak:
        inside = slice(round((beat - 0.05) * RATE), round((beat + 0.7) * RATE))
        wave[inside] *= 0.25
    found = detect(wave)
    assert all(np.abs(found - beat - 0.1).min() < 0.15 for beat in weak)
    assert abs(len(found) - len(times)) <= 2


def test_a_snapshot_of_the_detector_goes_on_alike() -> None:
    frontend = Frontend(WindowConfig().frontend("ppg"))
    detector, state, filtered = BeatDetector(RATE), BeatState(), frontend.start()
    hops = [frontend.step(filtered, hop)[0] for hop in pulses(np.arange(1.0, 38.0, 0.77), 40.0).reshape(-1, 50)]
    for hop in hops[:43]:
        detector.step(state, hop)
    copy = state.copy()
    first = [detector.step(state, hop) for hop in hops[43:]]
    assert [detector.step(copy, hop) for hop in hops[43:]] == first
    assert sum(map(len, first)) > 20


def test_ectopy_that_repeats_itself_is_told_from_fibrillation() -> None:
    """Bigeminy and trigeminy change as much from beat to beat as fibrillation does, but come back to themselves."""
    rng = np.random.default_rng(3)
    bigeminy = irregularity_features(np.array([0.5, 1.1] * 12) + rng.normal(0, 0.01, 24))
    trigeminy = irregularity_features(np.array([0.8, 0.5, 1.1] * 8) + rng.normal(0, 0.01, 24))
    fibrillation = irregularity_features(rng.uniform(0.4, 1.1, 24))
    assert bigeminy["median_change"] > fibrillation["median_change"]
    assert max(bigeminy["log_least_change"], trigeminy["log_least_change"]) < fibrillation["log_least_change"] - 1
