"""Breathing rates to learn from and to judge by: annotators' breaths, and a rate told from a respiration channel.

BIDMC's two annotators marked each breath in the impedance signal: a window's label is the mean of their rates (60 over
the mean interval of the breaths inside), where the two agree. For recordings without annotations the rate is read from
the channel itself, where two different ways of reading it agree: breaths counted as maxima and minima ("count-orig" of
Schäfer and Kratky, Ann. Biomed. Eng. 2008) and the spectrum's peak, if that holds most of the breathing band's power.
"""

from itertools import pairwise

import numpy as np

from firmware_bridge.errors import BadInput
from trainer.protocols.tasks_bidmc import ANNOTATORS_AGREE, breath_rates, read_breaths
from trainer.recordings import F64, NOT_READABLE, Recording, channel_label

CHANNEL_RATE = 5.0  # Hz
READINGS_AGREE = 2.0  # /min
PEAK_REACH, PEAK_SHARE = 3.0, 0.5  # /min around the spectrum's peak that must hold this share of the power
LOWEST, HIGHEST = 4.0, 60.0  # /min
TROUGHS = 0.2  # a breath's maximum is above this share of the maxima's upper quartile


def annotated_rates(recording: Recording, ends: F64, seconds: float) -> F64:
    """Mean of the two annotators' rates in the ``seconds`` before each of ``ends`` (s), NaN where they do not agree."""
    one, other = (breath_rates(breaths, ends - seconds, seconds) for breaths in read_breaths(recording))
    return np.asarray(np.where(np.abs(one - other) <= ANNOTATORS_AGREE, (one + other) / 2, np.nan))


def channel_rates(recording: Recording, ends: F64, seconds: float) -> F64 | None:
    """Rate told by the recording's own respiration channel before each of ``ends``, NaN where its readings do not
    agree; None where there is no such channel."""
    channel = _respiration_channel(recording)
    if channel is None:
        return None
    length = round(seconds * CHANNEL_RATE)
    rates = np.full(len(ends), np.nan)
    for i, end in enumerate(ends):
        stop = round(end * CHANNEL_RATE)
        rates[i] = agreed_reading(channel[max(0, stop - length) : stop])
    return rates


def agreed_reading(wave: F64) -> float:
    """Breaths a minute in one window of a respiration wave at :data:`CHANNEL_RATE`; NaN where two readings differ."""
    if len(wave) < 2 or np.ptp(wave) == 0:
        return float("nan")
    counted, (peak, share) = _counted(wave - wave.mean()), _peak(wave - wave.mean())
    agreed = abs(counted - peak) <= READINGS_AGREE and share > PEAK_SHARE
    return (counted + peak) / 2 if agreed else float("nan")


def _respiration_channel(recording: Recording) -> F64 | None:
    import wfdb
    from scipy.signal import butter, sosfiltfilt

    try:
        names = [channel_label(name) for name in wfdb.rdheader(str(recording.path)).sig_name]
        if "RESP" not in names:
            return None
        record = wfdb.rdrecord(str(recording.path), channels=[names.index("RESP")])
        wave = np.asarray(record.p_signal, np.float64)[:, 0]
    except NOT_READABLE as error:
        raise BadInput(f"recording {recording.path}: its respiration channel cannot be read ({error})") from None
    known = np.flatnonzero(np.isfinite(wave))
    if not len(known):
        return None
    band = butter(3, (LOWEST / 60 * 0.75, HIGHEST / 60), "bandpass", fs=recording.rate, output="sos")
    smooth = sosfiltfilt(band, np.interp(np.arange(len(wave)), known, wave[known]))
    smooth[~np.isfinite(wave)] = 0.0
    at = np.arange(0, len(wave) / recording.rate, 1 / CHANNEL_RATE) * recording.rate
    return np.asarray(np.interp(at, np.arange(len(wave)), smooth))


def _counted(wave: F64) -> float:
    from scipy.signal import find_peaks

    tops, bottoms = find_peaks(wave)[0], find_peaks(-wave)[0]
    if len(tops) < 3:
        return float("nan")
    tops = tops[wave[tops] > TROUGHS * np.quantile(wave[tops], 0.75)]
    breaths = []
    for start, stop in pairwise(tops):
        between = bottoms[(bottoms > start) & (bottoms < stop)]
        if len(between) == 1 and wave[between[0]] < 0:
            breaths.append(stop - start)
    return 60 * CHANNEL_RATE / float(np.mean(breaths)) if len(breaths) >= 2 else float("nan")


def _peak(wave: F64) -> tuple[float, float]:
    """The spectrum's peak, /min, and the share of the breathing band's power around it."""
    from scipy.signal import periodogram

    frequency, power = periodogram(wave, CHANNEL_RATE, window="hann", nfft=8192)
    inside = (frequency * 60 > LOWEST) & (frequency * 60 < HIGHEST)
    rates, power = frequency[inside] * 60, power[inside]
    peak = float(rates[power.argmax()])
    total = float(power.sum())
    return peak, float(power[np.abs(rates - peak) < PEAK_REACH].sum()) / total if total > 0 else 0.0
