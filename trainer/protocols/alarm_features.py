"""What is known of the 20 s before an alarm: hand-made measures of either signal, and the students' embeddings."""

import numpy as np
import torch

from trainer.encoder import Encoder
from trainer.gating import r_peaks
from trainer.protocols import ecg_features, pulse_features
from trainer.protocols.ecg_features import as_table, rate_runs
from trainer.protocols.task import F32, F64

EVENT_SECONDS = 12.0  # the 10 s that the event lies in, and the beat before them
POOLED_HOPS = 25
CLIP = 5.0  # the front end's own bound, in units of the running RMS

Measures = dict[str, float]


def _signal_measures(wave: F64) -> Measures:
    """Is there a signal at all? Shares of the window at the clip and near zero, and its end against its beginning."""
    half = len(wave) // 2
    early, late = float(wave[:half].std()), float(wave[half:].std())
    return {
        "clipped": float((np.abs(wave) >= CLIP - 1e-3).mean()),
        "still": float((np.abs(wave) < 0.05).mean()),
        "late against early": float(np.log((late + 1e-3) / (early + 1e-3))),
    }


def _event(wave: F64, beats: F64, rate: float) -> Measures:
    """Rates and pauses of the event's own seconds."""
    start = len(wave) - round(EVENT_SECONDS * rate)
    inside = np.round(beats[beats >= start] - start).astype(np.int64)
    return {f"event, {name}": value for name, value in rate_runs(inside, len(wave) - start, rate).items()}


def ppg_measures(wave: F32, rate: float) -> Measures:
    """Of a pulse wave (samples,)."""
    x = np.asarray(wave, np.float64)
    beats = pulse_features.beat_positions(x, rate)
    return pulse_features.measures(x, rate) | _event(x, beats, rate) | _signal_measures(x)


def ecg_measures(wave: F32, rate: float) -> Measures:
    """Of an ECG (samples,)."""
    x = np.asarray(wave, np.float64)
    beats = r_peaks(wave, rate).astype(np.float64)
    return ecg_features.measures(x, rate) | _event(x, beats, rate) | _signal_measures(x)


def together(ppg: Measures, ecg: Measures) -> Measures:
    """Both, and where they contradict each other: a rate or a pause that only one of them shows."""
    found = {f"PPG {name}": value for name, value in ppg.items()} | {f"ECG {name}": v for name, v in ecg.items()}
    for name in ("event, longest pause", "event, slowest run", "event, fastest run", "event, beats"):
        if name in ppg and name in ecg:
            found[f"least {name}"], found[f"most {name}"] = min(ppg[name], ecg[name]), max(ppg[name], ecg[name])
    return found


def measure_all(ppg: F32, ecg: F32, rate: float) -> dict[str, F32]:
    """(n, hops, hop) each → tables (n, measures) of ``ppg``, ``ecg`` and ``both``; NaN: could not be made."""
    n = len(ppg)
    of_ppg = [ppg_measures(wave, rate) for wave in ppg.reshape(n, -1)]
    of_ecg = [ecg_measures(wave, rate) for wave in ecg.reshape(n, -1)]
    both = [together(p, e) for p, e in zip(of_ppg, of_ecg, strict=True)]
    return {"ppg": as_table(of_ppg), "ecg": as_table(of_ecg), "both": as_table(both)}


@torch.no_grad()
def pooled_embeddings(encoder: Encoder, patches: F32, batch: int = 128) -> F32:
    """Mean, deviation, least and largest of the embedding over the last 10 s: (n, hops, hop) → (n, 4 * dim).

    The extremes are there because an event of a few seconds drowns in a mean.
    """
    parts = []
    for start in range(0, len(patches), batch):
        hops = encoder(torch.from_numpy(patches[start : start + batch]))[1][:, -POOLED_HOPS:]
        parts.append(torch.cat([hops.mean(1), hops.std(1, correction=0), hops.amin(1), hops.amax(1)], 1))
    return np.asarray(torch.cat(parts).numpy(), np.float32)
