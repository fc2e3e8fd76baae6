"""NeuroKit2 on the same signal: what one would otherwise use for pulse beats and rate (Makowski et al., 2021)."""

import importlib.util
import warnings

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

NAME = "NeuroKit2"
MIN_PEAKS = 4


def missing() -> str:
    """Why there are no figures of the peer, or nothing."""
    return "" if importlib.util.find_spec("neurokit2") else "not installed"


def beats(ppg: F64, rate: float) -> F64:
    """Pulse peaks of a whole recording, s: ``ppg_clean`` and ``ppg_findpeaks``, both Elgendi's (PLoS ONE 2013).

    ``ppg`` (n,) with NaN for missing samples, which are bridged by straight lines: NeuroKit2 takes none.
    """
    import neurokit2

    here = np.isfinite(ppg)
    if not here.any():
        return np.zeros(0)
    whole = np.interp(np.arange(len(ppg)), np.flatnonzero(here), ppg[here])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clean = neurokit2.ppg_clean(whole, sampling_rate=round(rate), method="elgendi")
        try:
            found = neurokit2.ppg_findpeaks(clean, sampling_rate=round(rate), method="elgendi")
        except Exception:  # it fails in numpy or pandas, in any way, where it finds no wave
            return np.zeros(0)
    return np.asarray(found["PPG_Peaks"], np.float64) / rate


def rates(ppg: F64, rate: float, ends: F64, seconds: float) -> F64:
    """Rate, bpm, of the ``seconds`` before each of ``ends`` (s) by ``ppg_process``: 60 over its median peak interval,
    as for the others. NaN where it finds fewer than four peaks, fails, or a sample is missing."""
    import neurokit2

    found = np.full(len(ends), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i, end in enumerate(ends):
            stop = round(end * rate)
            window = ppg[max(0, stop - round(seconds * rate)) : stop]
            if not np.isfinite(window).all():
                continue
            try:
                peaks = neurokit2.ppg_process(window, sampling_rate=round(rate))[1]["PPG_Peaks"]
            except Exception:  # as above: a window it cannot read is one without a rate
                continue
            if len(peaks) >= MIN_PEAKS:
                found[i] = 60 * rate / float(np.median(np.diff(peaks)))
    return found
