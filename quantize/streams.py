"""Stretches of real patches to calibrate on and to judge with: whole hops in order, with the context before them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer.splits import Part
from trainer.windows import Windows

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Streams:
    """``patches`` (streams, warm + judged, hop) float32, each stream contiguous in its recording.

    The first ``warm`` hops fill an engine's rings and are not judged: a device does not believe its tokens before
    its context is full either. ``patients`` (``dataset/patient``) and ``groups`` are per stream.
    """

    patches: F32
    warm: int
    patients: NDArray[np.str_]
    groups: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def judged(self) -> int:
        """Hops of each stream that count."""
        return int(self.patches.shape[1]) - self.warm


def take_streams(windows: Windows, signal: Signal, part: Part, *, warm: int, limit: int) -> Streams:
    """Up to ``limit`` windows of ``part`` that passed the quality gate, each with the ``warm`` hops before it.

    Spread evenly over recordings and time, without overlap of what is judged. Raises :class:`BadInput` if there is
    none.
    """
    chosen = windows.part(part)
    chosen = chosen.take(np.flatnonzero(chosen.start >= warm))
    if not len(chosen):
        raise BadInput(
            f"data: no {signal.upper()} window of the part {part!r} passed the quality gate; "
            "give a --data folder with the recordings that the run was made from"
        )
    if len(chosen) > limit:
        chosen = chosen.take(np.unique(np.linspace(0, len(chosen) - 1, limit).round().astype(np.int64)))
    return streams_of(chosen, signal, warm=warm)


def streams_of(windows: Windows, signal: Signal, *, warm: int) -> Streams:
    """``windows``, each with the ``warm`` hops before it in its recording; it must have as many."""
    rows = windows.ppg_hops if signal == "ppg" else windows.ecg_hops
    at = windows.first[:, None] + np.arange(-warm, windows.hops)
    return Streams(np.asarray(rows[at], np.float32), warm, windows.patients, windows.groups)
