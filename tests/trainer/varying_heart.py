"""A heart whose intervals vary, and a pulse that follows each beat when a test says it does."""

from collections.abc import Callable

import numpy as np

RATE = 125.0


def varying_heart(
    seconds: float, bpm: float, variability: float, delay: Callable[[np.ndarray], np.ndarray], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """PPG and ECG, (n,) at 125 Hz. ``variability``: deviation of R-R intervals, a share of them; ``delay``: from beat
    times (s) to those of the pulses, NaN where a beat brings none."""
    rng = np.random.default_rng(seed)
    intervals = 60 / bpm * (1 + variability * rng.standard_normal(round(seconds * bpm / 60) + 20))
    beats = np.cumsum(intervals)
    t = np.arange(round(seconds * RATE)) / RATE
    ecg, ppg = np.zeros_like(t), np.zeros_like(t)
    for beat, lag in zip(beats, delay(beats), strict=True):
        near = slice(*np.searchsorted(t, (beat - 0.1, beat + 0.1)))
        ecg[near] += np.exp(-0.5 * ((t[near] - beat) / 0.012) ** 2)
        if np.isfinite(lag):
            since = t - beat - lag
            near = slice(*np.searchsorted(since, (0.0, 1.2)))
            ppg[near] += (since[near] / 0.12) ** 2 * np.exp(2 - 2 * since[near] / 0.12)
    return ppg, ecg
