"""Random lags between the ECG and the PPG while stage 1 learns: a codebook that has met them does not break on them."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LagJitter:
    """Shifts each window's ECG against its PPG by its own lag, uniform in ±``most`` seconds at ``rate`` Hz, in whole
    samples. Drawn from torch's global generator, so a seed repeats it. Every sample stays a recorded one: both signals
    lose ``2 * most`` seconds, rounded up to whole patches.
    """

    most: float = 0.1
    rate: float = 125.0

    def to_dict(self) -> dict[str, float]:
        """For a run folder's config."""
        return asdict(self)

    def __call__(self, ppg: Tensor, ecg: Tensor) -> tuple[Tensor, Tensor]:
        """Paired patches (batch, patches, hop) each → the same with fewer patches (as they are if ``most`` is 0).

        Raises ValueError where windows are too short to be shifted that far.
        """
        batch, patches, hop = ppg.shape
        margin = round(self.most * self.rate)
        if margin == 0:
            return ppg, ecg
        kept = (patches * hop - 2 * margin) // hop
        if kept < 1:
            raise ValueError(f"windows of {patches * hop / self.rate:g} s cannot be shifted by ±{self.most:g} s")
        lag = torch.randint(-margin, margin + 1, (batch, 1), device=ecg.device)
        at = margin + lag + torch.arange(kept * hop, device=ecg.device)
        shifted = ecg.reshape(batch, -1).gather(1, at)
        still = ppg.reshape(batch, -1)[:, margin : margin + kept * hop]
        return still.reshape(batch, kept, hop), shifted.view(batch, kept, hop)
