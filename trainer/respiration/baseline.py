"""The library's way: NeuroKit2's breath finder on the raw pulse wave's baseline, taken for a respiration wave (RIIV).

Its own cleaning of respiration waves lets a pulse through (and would count that), so its band-pass comes first, to the
band in which adults breathe.
"""

import warnings

import numpy as np

from trainer.protocols.tasks_bidmc import breath_rates
from trainer.recordings import F64, Recording
from trainer.windows import to_grid

RATE = 25.0  # Hz: NeuroKit2's filters are meant for slow signals
BAND = (0.08, 0.7)  # Hz


def neurokit_rates(recording: Recording, ends: F64, seconds: float) -> F64:
    """Rate of the breaths found in the ``seconds`` before each of ``ends`` (s); NaN with fewer than three."""
    import neurokit2

    ppg = to_grid(recording.read()[0], recording.rate, RATE)
    known = np.isfinite(ppg)
    if not known.any():
        return np.full(len(ends), np.nan)
    whole = np.interp(np.arange(len(ppg)), np.flatnonzero(known), ppg[known])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of its own dependencies
        cleaned = neurokit2.signal_filter(whole, int(RATE), lowcut=BAND[0], highcut=BAND[1], order=2)
        found = neurokit2.rsp_findpeaks(cleaned, sampling_rate=int(RATE), method="khodadad2018")
    return breath_rates(np.asarray(found["RSP_Peaks"], np.float64) / RATE, ends - seconds, seconds)
