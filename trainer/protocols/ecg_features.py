"""What an engineer would measure on an ECG window: R-R intervals, how each beat differs from the usual one, spectrum.

The rival of the learned embeddings on rhythm and ectopy, and the ECG's half of the alarm features. Everything is taken
from the window alone, as the front end gives it (band-passed 0.5–40 Hz, in units of its running RMS); what cannot be
measured is NaN. Intervals before and after a beat, against the usual, and the beat's width and shape are the classical
set (de Chazal, O'Dwyer & Reilly, IEEE TBME 2004).
"""

import numpy as np

from trainer.gating import r_peaks
from trainer.protocols.pulse_features import interval_measures
from trainer.protocols.task import F32, F64, I64

BEFORE, AFTER = 0.12, 0.20  # s of wave around an R peak: the QRS complex, wide ones too
RUN = 5  # beats: how many in a row make a ventricular tachycardia or an extreme bradycardia
LONG_RUN = 17  # and an extreme tachycardia
BANDS = ((0.5, 2.0), (2.0, 4.0), (4.0, 7.0), (7.0, 12.0), (12.0, 20.0), (20.0, 40.0))  # Hz; fibrillation lies in 2–7

Measures = dict[str, float]


def beats_around(wave: F64, peaks: I64, rate: float) -> tuple[F64, I64]:
    """Cuts around the R peaks that lie whole in ``wave`` (samples,), less their mean, (beats, samples); those peaks."""
    before, after = round(BEFORE * rate), round(AFTER * rate)
    inside = peaks[(peaks >= before) & (peaks <= len(wave) - after)]
    cuts = wave[inside[:, None] + np.arange(-before, after)] if len(inside) else np.zeros((0, before + after))
    return cuts - cuts.mean(1, keepdims=True), inside


def _widths(cuts: F64, rate: float) -> F64:
    """Seconds that each beat spends above half of its own largest magnitude."""
    size = np.abs(cuts)
    return np.asarray((size > size.max(1, keepdims=True) / 2).sum(1) / rate)


def _runs(values: F64, length: int) -> F64:
    """Means of every ``length`` values in a row; of all of them where there are fewer."""
    length = max(1, min(length, len(values)))
    return np.asarray(np.convolve(values, np.ones(length) / length, mode="valid"))


def rate_runs(peaks: I64, samples: int, rate: float) -> Measures:
    """Rates over runs of beats, bpm, and the longest pause, s, the one to the window's end included."""
    gaps = np.diff(np.concatenate([[0], peaks, [samples]])) / rate
    found = {"beats": float(len(peaks)), "longest pause": float(gaps.max()), "last pause": float(gaps[-1])}
    if len(peaks) < 2:
        return found
    rates = 60 / np.maximum(np.diff(peaks) / rate, 1e-3)
    return found | {
        "slowest run": float(_runs(rates, RUN - 1).min()),
        "fastest run": float(_runs(rates, RUN - 1).max()),
        "fastest long run": float(_runs(rates, LONG_RUN - 1).max()),
    }


def _shape_measures(cuts: F64, intervals: F64, rate: float) -> Measures:
    """How beats differ from the window's median beat, and whether those that do come early."""
    if len(cuts) < 3:
        return {}
    template = np.median(cuts, axis=0)
    sizes = np.linalg.norm(cuts, axis=1)
    alike = cuts @ template / np.maximum(sizes * np.linalg.norm(template), 1e-9)
    widths, energy = _widths(cuts, rate), sizes / max(float(np.median(sizes)), 1e-9)
    odd = 1 - alike
    found = {
        "likeness": float(alike.mean()), "least likeness": float(alike.min()),
        "second least likeness": float(np.sort(alike)[1]), "odd share": float((alike < 0.8).mean()),
        "oddest run": float(_runs(odd, RUN).max()), "width": float(np.median(widths)), "widest": float(widths.max()),
        "widest run": float(_runs(widths, RUN).max()), "size variation": float(energy.std()),
        "largest": float(energy.max()), "smallest": float(energy.min()),
    }  # fmt: skip
    usual = float(np.median(intervals)) if len(intervals) else np.nan
    if len(intervals) == len(cuts) - 1 and len(intervals) >= 3:
        early = 1 - intervals / usual  # of each beat but the first
        found["early and odd"] = float((np.maximum(early, 0) * odd[1:]).max())
        found["early"] = float(early.max())
        found["late"] = float(-early.min())
    return found


def _spectral_measures(wave: F64, rate: float) -> Measures:
    spread = float(wave.std())
    if spread == 0:
        return {}
    power = np.abs(np.fft.rfft((wave - wave.mean()) * np.hanning(len(wave)))) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / rate)
    inside = (frequency >= 0.5) & (frequency <= 40)
    share = power / power[inside].sum()
    low = np.flatnonzero((frequency >= 1) & (frequency <= 10))
    top = low[share[low].argmax()]
    p = share[inside]
    standard = (wave - wave.mean()) / spread
    return {
        "main frequency": float(frequency[top]),
        "main frequency, share": float(share[np.abs(frequency - frequency[top]) <= 0.5].sum()),
        "spectral entropy": float(-(p * np.log(p + 1e-12)).sum()),
        "kurtosis": float((standard**4).mean()),
        "skewness": float((standard**3).mean()),
        "spread": spread,
        "near zero": float((np.abs(standard) < 0.2).mean()),
    } | {f"{a}–{b} Hz": float(share[(frequency >= a) & (frequency < b)].sum()) for a, b in BANDS}


def measures(wave: F32 | F64, rate: float) -> Measures:
    """All measures of one window, (samples,) at ``rate`` Hz; those that could be made."""
    wave = np.asarray(wave, np.float64)
    peaks = r_peaks(wave.astype(np.float32), rate)
    cuts, whole = beats_around(wave, peaks, rate)
    found = rate_runs(peaks, len(wave), rate) | interval_measures(np.diff(peaks) / rate)
    return found | _shape_measures(cuts, np.diff(whole) / rate, rate) | _spectral_measures(wave, rate)


def beat_measures(wave: F32 | F64, rate: float, hop: int) -> Measures:
    """Of the beat whose R peak lies in the last hop but one of a window (samples,): its interval, width and shape
    beside those of the beats before it. Nothing after the window's end is needed."""
    wave = np.asarray(wave, np.float64)
    peaks = r_peaks(wave.astype(np.float32), rate)
    low, high = len(wave) - 2 * hop, len(wave) - hop
    here = peaks[(peaks >= low - hop // 4) & (peaks < high + hop // 4)]
    energy = np.abs(np.gradient(wave))
    # Without a peak of its own the beat is taken where the wave is steepest.
    peak = int(here[energy[here].argmax()]) if len(here) else low + int(energy[low:high].argmax())
    earlier = peaks[peaks < peak - round(0.2 * rate)]
    cut, _ = beats_around(wave, np.array([peak]), rate)
    if not len(cut):
        return {}
    found = {f"wave {i}": float(v) for i, v in enumerate(cut[0, ::2] / max(float(np.linalg.norm(cut[0])), 1e-9))}
    found |= {"size": float(np.linalg.norm(cut[0])), "width": float(_widths(cut, rate)[0])}
    before, _ = beats_around(wave, earlier, rate)
    if len(before) >= 3:
        template = np.median(before, axis=0)
        norm = float(np.linalg.norm(template) * np.linalg.norm(cut[0]))
        found |= {
            "likeness": float(cut[0] @ template) / max(norm, 1e-9),
            "size ratio": found["size"] / max(float(np.linalg.norm(template)), 1e-9),
            "width ratio": found["width"] / max(float(np.median(_widths(before, rate))), 1e-9),
        }
    intervals = np.diff(np.append(earlier, peak)) / rate
    if len(intervals) >= 3:
        usual = float(np.median(intervals[:-1]))
        found |= {
            "interval": float(intervals[-1]),
            "interval, share of usual": float(intervals[-1]) / usual,
            "interval before, share of usual": float(intervals[-2]) / usual,
            "CV of intervals": float(intervals[:-1].std() / intervals[:-1].mean()),
        }
    return found


def as_table(rows: list[Measures]) -> F32:
    """(n, measures) in the order of their names, NaN where one could not be made."""
    names = sorted(set().union(*rows))
    return np.array([[row.get(name, np.nan) for name in names] for row in rows], dtype=np.float32)
