"""The front end against scipy's filter, and hop by hop against itself."""

import numpy as np
import pytest
from scipy import signal

from edge.frontend import Frontend, FrontendConfig

SOS = signal.butter(2, [0.5, 8], "bandpass", fs=125, output="sos")
CONFIG = FrontendConfig(125.0, 50, SOS.tolist(), 24, 5.0)


@pytest.mark.parametrize("sections", [signal.butter(3, 4, fs=125, output="sos"), SOS])
def test_filter_equals_scipy_on_a_drifting_signal_with_a_large_offset(sections: np.ndarray) -> None:
    x = np.random.default_rng(0).normal(size=5000).cumsum() + 1e5
    frontend = Frontend(FrontendConfig(125.0, 50, sections.tolist(), 24, 5.0))
    state = frontend.start()
    y = np.concatenate([frontend.step(state, hop)[0] for hop in x.reshape(-1, 50)])
    assert np.abs(y - signal.sosfilt(sections, x - x[0])).max() < 1e-8


def test_gain_makes_patches_blind_to_scale_and_clips() -> None:
    x = np.random.default_rng(1).normal(size=5000)
    x[2500] = 1e4
    frontend = Frontend(CONFIG)
    small, large = (np.stack([frontend.step(s, h)[1] for h in (x * k).reshape(-1, 50)])
                    for k, s in ((1.0, frontend.start()), (1024.0, frontend.start())))  # fmt: skip
    assert np.array_equal(small, large)
    assert np.abs(small).max() == 5.0
    assert small.dtype == np.float32


def test_a_pause_looks_small_and_a_flat_line_gives_zeros() -> None:
    frontend = Frontend(CONFIG)
    state = frontend.start()
    t = np.arange(125 * 20) / 125
    for hop in (1000 * np.sin(2 * np.pi * 1.2 * t)).reshape(-1, 50):
        frontend.step(state, hop)
    pause = [frontend.step(state, np.zeros(50))[1] for _ in range(7)]
    assert np.abs(pause[-1]).max() < 0.5
    flat = frontend.start()
    assert not frontend.step(flat, np.full(50, 7.0))[1].any()


def test_a_snapshot_goes_its_own_way() -> None:
    frontend = Frontend(CONFIG)
    state = frontend.start()
    x = np.random.default_rng(2).normal(size=(30, 50))
    for hop in x[:10]:
        frontend.step(state, hop)
    snapshot = state.copy()
    first = [frontend.step(state, hop)[1] for hop in x[10:]]
    second = [frontend.step(snapshot, hop)[1] for hop in x[10:]]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
