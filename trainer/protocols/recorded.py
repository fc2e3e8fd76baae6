"""The windows of recordings that a task is made of, as the device's front end gives them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firmware_bridge.errors import BadInput
from trainer.protocols.task import I64
from trainer.recordings import Recording, find_recordings
from trainer.windows import Patches, WindowConfig, run_frontend, to_grid


def recordings_of(data: Path, dataset: str, people: int | None = None) -> list[Recording]:
    """The recordings of one data set, of the first ``people`` people in each of its groups (None: all).

    Raises :class:`BadInput` where there are none.
    """
    found = [r for r in find_recordings(data).recordings if r.dataset == dataset]
    if not found:
        raise BadInput(f"data folder {data}: holds no recordings of {dataset}; put them into {data / dataset}")
    if people is None:
        return found
    chosen = {
        group: sorted({r.patient for r in found if r.group == group})[:people] for group in {r.group for r in found}
    }
    return [r for r in found if r.patient in chosen[r.group]]


def channels(recording: Recording, config: WindowConfig) -> tuple[Patches, Patches]:
    """PPG and ECG of a whole recording through the device's front end; raises :class:`BadInput`."""
    ppg, ecg = (to_grid(channel, recording.rate, config.rate) for channel in recording.read())
    return run_frontend(ppg, config, "ppg"), run_frontend(ecg, config, "ecg")


def window_starts(patches: Patches, config: WindowConfig, hops: int, stride: int) -> I64:
    """First hops of the windows of ``hops`` hops, every ``stride`` hops from where the front end has settled, that
    miss no sample and whose raw signal is not flat in every tenth hop or more."""
    starts = np.arange(config.settle_hops, len(patches.valid) - hops + 1, stride, dtype=np.int64)
    flat = config.gate.flat_share * hops
    whole = [bool(patches.valid[s : s + hops].all() and patches.flat[s : s + hops].sum() <= flat) for s in starts]
    return starts[np.array(whole, dtype=bool)] if len(starts) else starts


def cut_windows(patches: Sequence[np.ndarray], starts: Sequence[I64], hops: int) -> np.ndarray:
    """Rows of several recordings' patches → (windows, hops, hop) float32."""
    return np.concatenate([p[s[:, None] + np.arange(hops)] for p, s in zip(patches, starts, strict=True)]).astype(
        np.float32
    )
