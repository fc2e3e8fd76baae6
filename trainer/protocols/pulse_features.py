"""What an engineer would measure on a pulse wave: beat intervals, the shape of the beats, the spectrum, the breath.

The rival of a learned representation. Everything is taken from the window alone, as the front end gives it (band-passed
0.5–8 Hz, in units of its running RMS); what cannot be measured is NaN.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from edge.beats import BeatDetector, BeatState
from trainer.protocols.task import F32, F64

BEFORE, AFTER = 0.25, 0.35  # s of wave around a beat's steepest point, as the device's quality index takes it
BREATHS = (6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 28, 32, 40)  # /min: edges of the bands in which a breath is sought
BANDS = ((0.5, 1.0), (1.0, 1.5), (1.5, 2.0), (2.0, 3.0), (3.0, 5.0), (5.0, 8.0))  # Hz
SERIES_RATE = 4.0  # Hz, at which beat-by-beat series are laid out to find the breath in them

Measures = dict[str, float]


def beat_positions(wave: F64, rate: float) -> F64:
    """Steepest points of the upstrokes by the device's own detector, in samples, fractional.

    It hears the window twice, the second time at the level where the first ended, and only then is listened to: a
    detector that has heard no beat yet takes any rise for one.
    """
    wave = np.asarray(wave, np.float64)
    detector, state = BeatDetector(rate), BeatState()
    detector.step(state, wave + (wave[0] - wave[-1]))
    positions = np.array([beat.position for beat in detector.step(state, wave)]) - len(wave)
    return positions[positions >= 0]


def interval_measures(intervals: F64) -> Measures:
    """Of the beat intervals, s, (n,): the rate and how irregular they are. Empty with fewer than three."""
    if len(intervals) < 3:
        return {}
    change = np.diff(intervals)
    mean, middle = float(intervals.mean()), float(np.median(intervals))
    first, second = intervals[:-1] + intervals[1:], intervals[:-1] - intervals[1:]
    turning = (change[1:] * change[:-1] < 0).mean() if len(change) > 1 else np.nan
    return {
        "rate by median": 60 / middle,
        "rate by mean": 60 / mean,
        "CV": float(intervals.std()) / mean,
        "nRMSSD": float(np.sqrt(np.mean(change**2))) / mean,
        "median change": float(np.median(np.abs(change))) / middle,
        "pNN50": float((np.abs(change) > 0.05).mean()),
        "range": float(np.ptp(intervals)) / middle,
        "far from median": float((np.abs(intervals / middle - 1) > 0.2).mean()),
        "SD1/SD2": float(second.std() / max(first.std(), 1e-9)),
        "turning points": float(turning),
        "sample entropy": sample_entropy(intervals),
    }


def sample_entropy(values: F64, tolerance: float = 0.1) -> float:
    """Sample entropy (Richman & Moorman 2000) with m = 1 and r = ``tolerance`` of the mean, for series of a few
    beats. No match at the longer length counts as half a match, so that it stays finite."""
    near = np.abs(values[:, None] - values[None]) <= tolerance * values.mean()
    pairs = np.triu(near[:-1, :-1], 1)
    single, double = int(pairs.sum()), int((pairs & near[1:, 1:]).sum())
    return float(-np.log(max(double, 0.5) / max(single, 0.5)))


def _beats_around(wave: F64, positions: F64, rate: float) -> F64:
    before, after = round(BEFORE * rate), round(AFTER * rate)
    at = [round(p) for p in positions.tolist() if before <= round(p) <= len(wave) - after]
    return np.stack([wave[i - before : i + after] for i in at]) if at else np.zeros((0, before + after))


def _correlations(beats: F64) -> F64:
    """Of each beat with the mean of the normalised beats."""
    centred = beats - beats.mean(1, keepdims=True)
    shapes = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    template = shapes.mean(0)
    return np.asarray(shapes @ template / max(float(np.linalg.norm(template)), 1e-12))


def template_correlation(wave: F32 | F64, rate: float) -> float:
    """Mean correlation of a window's beats, (samples,), with their own mean; 0 with fewer than three beats."""
    wave = np.asarray(wave, np.float64)
    beats = _beats_around(wave, beat_positions(wave, rate), rate)
    return float(_correlations(beats).mean()) if len(beats) >= 3 else 0.0


def _series(wave: F64, positions: F64, rate: float) -> dict[str, F64]:
    """Beat by beat: foot to peak height and time, width at half height, steepness, late against early area."""
    rows = []
    for this, following in pairwise(positions):
        start, end = round(this), max(round(following), round(this) + 4)
        lead = wave[max(0, start - round(0.3 * rate)) : start + 1]
        foot = max(0, start - round(0.3 * rate)) + int(lead.argmin())
        beat = wave[start : min(end, start + round(0.5 * rate))]
        peak = start + int(beat.argmax())
        height = wave[peak] - wave[foot]
        body = wave[foot:end] - wave[foot]
        late = wave[peak:end]
        fall = np.diff(late)
        bump = float(np.maximum(fall, 0).sum()) if len(fall) else 0.0  # how much rises again after the peak: dicrotic
        rows.append((
            height, (peak - foot) / rate, float((body > height / 2).sum()) / rate,
            float(np.gradient(wave[foot : peak + 2]).max()),
            float(body[peak - foot :].sum() / max(np.abs(body).sum(), 1e-9)), bump / max(abs(height), 1e-9),
        ))  # fmt: skip
    names = ("height", "rise time", "width", "steepness", "late area", "dicrotic")
    return dict(zip(names, np.array(rows).T, strict=True)) if rows else {}


def _shape_measures(series: dict[str, F64], beats: F64) -> Measures:
    found: Measures = {}
    for name, values in series.items():
        found |= {
            name: float(np.median(values)),
            f"{name} variation": float(values.std() / (np.abs(values).mean() + 1e-9)),
        }
    if len(beats) >= 3:
        correlations = _correlations(beats)
        found |= {"template": float(correlations.mean()), "worst beat": float(correlations.min())}
    return found


def _spectral_measures(wave: F64, rate: float) -> Measures:
    spread = float(wave.std())
    if spread == 0:
        return {}
    size = 4 * len(wave)
    power = np.abs(np.fft.rfft((wave - wave.mean()) * np.hanning(len(wave)), size)) ** 2
    frequency = np.fft.rfftfreq(size, 1 / rate)
    inside = (frequency >= 0.5) & (frequency <= 8)
    share = power / power[inside].sum()
    heart = np.flatnonzero((frequency >= 0.6) & (frequency <= 3.5))
    top = heart[share[heart].argmax()]
    near = np.abs(frequency - frequency[top]) <= 0.15
    twice = np.abs(frequency - 2 * frequency[top]) <= 0.15
    correlation = np.fft.irfft(np.abs(np.fft.rfft(wave - wave.mean(), 2 * len(wave))) ** 2)[: len(wave)]
    lags = slice(round(rate * 60 / 200), round(rate * 60 / 35))
    lag = lags.start + int(correlation[lags].argmax())
    p = share[inside]
    standard = (wave - wave.mean()) / spread
    return {
        "spectral rate": 60 * float(frequency[top]),
        "spectral peak": float(share[near].sum()),
        "second harmonic": float(share[twice].sum()),
        "spectral entropy": float(-(p * np.log(p + 1e-12)).sum()),
        "centroid": float((frequency[inside] * p).sum()),
        "autocorrelation rate": 60 * rate / lag,
        "autocorrelation": float(correlation[lag] / correlation[0]),
        "skewness": float((standard**3).mean()),
        "kurtosis": float((standard**4).mean()),
        "crossings": float((np.diff(np.signbit(wave)) != 0).mean()),
    } | {f"{low}–{high} Hz": float(share[(frequency >= low) & (frequency < high)].sum()) for low, high in BANDS}


def _breath_measures(series: dict[str, F64], times: F64, intervals: F64) -> Measures:
    """How beat height, width and interval swing with the breath: the strongest frequency of each, /min, its share, and
    the mean of their spectra. (The breath's slow baseline is not there: the front end takes out what is below 0.5 Hz.)
    """
    if len(times) < 5:
        return {}
    found: Measures = {}
    grid = np.arange(times[0], times[-1], 1 / SERIES_RATE)
    rates = 60 * np.fft.rfftfreq(1024, 1 / SERIES_RATE)
    inside = np.flatnonzero((rates >= BREATHS[0]) & (rates <= BREATHS[-1]))
    together = np.zeros(len(rates))
    for name, values in {"height": series["height"], "width": series["width"], "interval": intervals}.items():
        even = np.interp(grid, times, values)
        even = (even - np.polyval(np.polyfit(grid, even, 2), grid)) * np.hanning(len(grid))
        power = np.abs(np.fft.rfft(even, 1024)) ** 2
        power /= max(float(power[inside].sum()), 1e-12)
        together += power / 3
        top = inside[power[inside].argmax()]
        near = np.abs(rates - rates[top]) <= 2
        found |= {f"breath by {name}": float(rates[top]), f"breath by {name}, share": float(power[near].sum())}
    found["breath by all"] = float(rates[inside[together[inside].argmax()]])
    edges = pairwise(BREATHS)
    return found | {f"{low}–{high} /min": float(together[(rates >= low) & (rates < high)].sum()) for low, high in edges}


def measures(wave: F32 | F64, rate: float) -> Measures:
    """All measures of one window, (samples,) at ``rate`` Hz; those that could be made."""
    wave = np.asarray(wave, np.float64)
    positions = beat_positions(wave, rate)
    intervals = np.diff(positions) / rate
    series = _series(wave, positions, rate) if len(positions) >= 2 else {}
    found = {"beats": float(len(positions)), **interval_measures(intervals)}
    found |= _shape_measures(series, _beats_around(wave, positions, rate)) | _spectral_measures(wave, rate)
    return found | (_breath_measures(series, positions[:-1] / rate, intervals) if series else {})


def table_of(waves: F32, rate: float, advance: Callable[[], None] = lambda: None) -> F32:
    """Measures of many windows, (n, hops, hop) → (n, measures), NaN where one could not be made."""
    rows = []
    for wave in waves.reshape(len(waves), -1):
        rows.append(measures(wave, rate))
        advance()
    names = sorted(set().union(*rows))
    return np.array([[row.get(name, np.nan) for name in names] for row in rows], dtype=np.float32)
