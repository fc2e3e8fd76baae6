"""R-R intervals as an auxiliary target: right where they are known, unknown where they are not."""

import numpy as np
import pytest
from synthetic_recordings import paired_signals

from trainer.intervals import ARRIVAL_SECONDS, interval_targets

RATE, HOP, HOPS = 125.0, 50, 50


def hearts(*rates: float) -> np.ndarray:
    """ECG windows of steady hearts, (len(rates), HOPS, HOP)."""
    return np.stack([paired_signals(20, bpm)[1].reshape(HOPS, HOP) for bpm in rates]).astype(np.float32)


@pytest.mark.parametrize("bpm", [45.0, 72.0, 150.0])
def test_a_steady_heart_has_one_interval(bpm: float) -> None:
    found = interval_targets(hearts(bpm), [0], RATE)[0, 0]
    known = np.isfinite(found)
    assert known[15:].all()
    np.testing.assert_allclose(np.exp(found[known]), 60 / bpm, atol=1.1 / RATE)


def test_an_interval_is_told_only_after_its_pulse_has_arrived() -> None:
    ecg = np.zeros(HOP * HOPS, np.float32)
    beats = [2.0, 2.8, 3.6, 5.0, 5.8, 6.6]  # one interval of 1.4 s among those of 0.8 s
    for beat in beats:
        ecg += np.exp(-0.5 * ((np.arange(len(ecg)) / RATE - beat) / 0.02) ** 2).astype(np.float32)
    found = np.exp(interval_targets(ecg.reshape(1, HOPS, HOP), [0], RATE)[0, 0])
    ends = (np.arange(HOPS) + 1) * HOP / RATE
    long = (ends - ARRIVAL_SECONDS > 5.03) & (ends - ARRIVAL_SECONDS < 5.77)
    assert long.any()
    np.testing.assert_allclose(found[long], 1.4, atol=0.02)
    assert np.isnan(found[ends - ARRIVAL_SECONDS < 2.77]).all()


def test_a_window_cut_later_has_the_targets_of_later() -> None:
    ecg = hearts(63.0)
    both = interval_targets(ecg, [0, 25], RATE)
    assert both.shape == (2, 1, HOPS - 1)
    later = interval_targets(np.roll(ecg.ravel(), -25).reshape(1, HOPS, HOP), [0], RATE, hops=HOPS - 1)
    known = np.isfinite(both[1]) & np.isfinite(later[0])
    assert known.sum() > 30
    np.testing.assert_allclose(both[1][known], later[0][known], atol=1e-6)


def test_silence_has_no_interval() -> None:
    assert np.isnan(interval_targets(np.zeros((2, HOPS, HOP), np.float32), [0], RATE)).all()
