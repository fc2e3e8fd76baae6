"""The heart rate that a window's ECG tells, where it can be trusted.

One lead's detector errs (a tall T wave is counted, a low QRS is not), so the witnesses have to agree: the R peaks of
every ECG lead, each by itself, and the bedside monitor's own rate. A window is trusted where some lead is borne out by
another witness, and no two leads that are borne out contradict each other. The pulse wave has no say.
"""

import numpy as np

from trainer.gating import r_peaks, rate_per_window
from trainer.protocols.task import F64, I64, Bools
from trainer.windows import WindowConfig, run_frontend

AGREE_BPM = 3.0


def lead_rates(lead: F64, config: WindowConfig, starts: I64, hops: int) -> F64:
    """Mean beat rate, bpm, of one ECG lead on the grid (samples,) in windows of ``hops`` hops that start at hop
    ``starts``; NaN with fewer than four beats, or where a sample is missing."""
    patches = run_frontend(lead, config, "ecg")
    peaks = r_peaks(patches.patches.ravel(), config.rate)
    rates = rate_per_window(peaks, starts * config.hop, hops * config.hop, config.rate)
    whole = np.array([patches.valid[start : start + hops].all() for start in starts], dtype=bool)
    return np.where(whole, rates, np.nan)


def agreed_rate(leads: F64, monitor: F64) -> tuple[F64, Bools]:
    """Rates by lead (leads, windows) and the monitor's (windows,), NaN where there is none → the rate, the median of
    the leads that are borne out, and whether it can be trusted, (windows,) each."""
    witnesses = np.concatenate([leads, monitor[None]])
    near = np.abs(leads[:, None] - witnesses[None]) <= AGREE_BPM  # NaN is near nothing
    near[np.arange(len(leads)), np.arange(len(leads))] = False  # oneself is no witness
    supported = near.any(axis=1)
    rate, trusted = np.full(len(monitor), np.nan), np.zeros(len(monitor), dtype=bool)
    for i in np.flatnonzero(supported.any(axis=0)):
        rates = leads[supported[:, i], i]
        rate[i], trusted[i] = np.median(rates), np.ptp(rates) <= AGREE_BPM
    return rate, trusted
