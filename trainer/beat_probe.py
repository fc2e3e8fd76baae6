"""Ten-second embeddings of a student that reads beats, for the same windows that fixed patches are probed on.

Both patchings must answer the same question at the same moment: what can be told at the end of this window from the
20 s before it, pooled over the last ten? So the beats are picked by time, and only those count that are known by then.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.beat_patches import BeatWindows
from trainer.encoder import Encoder
from trainer.probe import POOLED_SECONDS
from trainer.windows import Windows

KNOWN_AFTER = 0.8  # s from a pulse's end (the next foot) until the device knows it: upstroke, its wave, hop


def rows_by_window(beats: BeatWindows, windows: Windows, hop_seconds: float) -> list[tuple[int, int, float]]:
    """Of each window of fixed patches: its first beat, the one after its last, and when its last 10 s begin (s)."""
    places = {(r["dataset"], r["group"], r["name"]): i for i, r in enumerate(beats.recordings)}
    first_of = np.searchsorted(beats.owner, np.arange(len(beats.recordings) + 1))
    found = []
    for start, recording in zip(windows.start, windows.recording, strict=True):
        about = windows.recordings[int(recording)]
        place = places[about["dataset"], about["group"], about["name"]]
        low, high = first_of[place], first_of[place + 1]
        begin, end = start * hop_seconds, (start + windows.hops) * hop_seconds - KNOWN_AFTER
        first = low + np.searchsorted(beats.seconds[low:high, 0], begin)
        after = low + np.searchsorted(beats.seconds[low:high, 1], end, side="right")
        found.append((int(first), max(int(first), int(after)), float(end - POOLED_SECONDS)))
    return found


@torch.no_grad()
def pooled_beats(
    encoder: Encoder, beats: BeatWindows, windows: Windows, hop_seconds: float, batch: int = 128
) -> NDArray[np.float32]:
    """Mean and standard deviation of a PPG student's embedding over the pulses of the last 10 s of each window.

    ``windows`` are fixed patches of the same recordings, ``hop_seconds`` long each; (windows, 2 dim), NaN where no
    pulse was found.
    """
    encoder.eval()
    spans = rows_by_window(beats, windows, hop_seconds)
    pooled = np.full((len(spans), 2 * encoder.config.dim), np.nan, dtype=np.float32)
    for i in range(0, len(spans), batch):
        some = spans[i : i + batch]
        longest = max(1, *(after - first for first, after, _ in some))
        patches = np.zeros((len(some), longest, encoder.config.hop), dtype=np.float32)
        for row, (first, after, _) in enumerate(some):
            patches[row, : after - first] = beats.ppg_hops[first:after]  # padded behind: the encoder is causal
        embedding = encoder(torch.tensor(patches))[1].numpy()
        for row, (first, after, since) in enumerate(some):
            last = embedding[row, : after - first][beats.seconds[first:after, 1] > since]
            if len(last):
                pooled[i + row] = np.concatenate([last.mean(0), last.std(0)])
    return pooled
