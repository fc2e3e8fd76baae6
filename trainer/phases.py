"""Windows at every phase of the hop grid: the same pulses, cut some samples later.

Where a stream's first sample falls is chance, so a token must not care; and one window cut at fifty phases is worth
many windows to a student that would otherwise learn its few thousand by heart. The front end's gain steps once a hop,
so a shifted window has its steps inside patches; they are small where the signal is good.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def shifted(patches: NDArray[np.float32], offset: int) -> NDArray[np.float32]:
    """(windows, hops, hop) cut ``offset`` samples later: (windows, hops - 1, hop); ``0 <= offset < hop``."""
    windows, hops, hop = patches.shape
    flat = patches.reshape(windows, hops * hop)[:, offset : offset + (hops - 1) * hop]
    return np.ascontiguousarray(flat).reshape(windows, hops - 1, hop)


class PhasedRows:
    """Training rows at ``offsets`` (samples): row ``i + phase * windows`` is window ``i`` at ``offsets[phase]``.

    ``signals`` are (windows, hops, hop) and come out as (rows, hops - 1, hop); ``labels``, (phases, windows, …), come
    out as (rows, …). ``len`` is the number of windows: an epoch sees each once, at a phase of its own.
    """

    def __init__(self, signals: Sequence[Tensor], offsets: Sequence[int], labels: Sequence[Tensor] = ()) -> None:
        self.windows, self.hops, self.hop = signals[0].shape
        self._flat = [signal.reshape(self.windows, -1) for signal in signals]
        self._offsets = torch.tensor(list(offsets))
        self._labels = labels

    @property
    def phases(self) -> int:
        """How many cuts of each window there are."""
        return len(self._offsets)

    def __len__(self) -> int:
        return self.windows

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, ...]:
        row = torch.tensor(rows)
        phase, window = row // self.windows, row % self.windows
        span = torch.arange((self.hops - 1) * self.hop)
        at = self._offsets[phase][:, None] + span[None]
        cut = [flat[window].gather(1, at).view(len(rows), self.hops - 1, self.hop) for flat in self._flat]
        return (*cut, *(label[phase, window] for label in self._labels))
