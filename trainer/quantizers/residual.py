"""Residual vector quantizer (Zeghidour et al., SoundStream, 2021): each level quantizes what the one before left.

The token is the first level's, and that is what a student is taught; all levels together rebuild the signals. So a
coarse token may stay coarse without costing the decoder its detail.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from trainer.quantizers.base import Quantized
from trainer.quantizers.config import QuantizerConfig
from trainer.quantizers.ema import VectorQuantizer


class ResidualQuantizer(VectorQuantizer):
    """The first level, with ``rest``: the ``levels - 1`` codebooks of what it leaves."""

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__(config)
        # What is left of a unit vector has a length that matters: only the first level may be on the sphere.
        finer = replace(config, kind="ema", cosine=False)
        self.rest = nn.ModuleList(VectorQuantizer(finer) for _ in range(config.levels - 1))

    @torch.no_grad()
    def start(self, vectors: Tensor, batch: int) -> None:
        """All levels at once, each from what the one before leaves of ``vectors``."""
        super().start(vectors, batch)
        left = vectors - self.look_up(self.indices(vectors))
        for level in self._finer():
            level.start(left, batch)
            left = left - level.look_up(level.indices(left))

    def forward(self, vectors: Tensor) -> Quantized:
        first = super().forward(vectors)
        if first.indices is None:
            return first
        z = self.place(vectors)
        total, loss = first.values.detach(), first.loss
        for level in self._finer():
            finer = level(z - total)
            total, loss = total + finer.values.detach(), loss + finer.loss
        return Quantized(z + (total - z).detach(), first.indices, loss)

    def _finer(self) -> list[VectorQuantizer]:
        return [level for level in self.rest if isinstance(level, VectorQuantizer)]
