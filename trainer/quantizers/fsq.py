"""Finite scalar quantization (Mentzer et al. 2023): each number of a vector is rounded to one of a few steps.

The codebook is the grid of all steps, so nothing is learned and nothing can collapse.
"""

import torch
from torch import Tensor

from trainer.quantizers.base import Quantized, Quantizer
from trainer.quantizers.config import QuantizerConfig

MARGIN = 1e-3  # the bound reaches this share beyond the outermost steps, which rounding takes back


class FiniteScalarQuantizer(Quantizer):
    """Codes lie in [-1, 1]; token ``Σ digit · base``, the first number's digit counting single steps."""

    steps: Tensor
    bases: Tensor

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__(config)
        steps = torch.tensor(config.steps)
        # Known from the configuration, so no part of the weights.
        self.register_buffer("steps", steps, persistent=False)
        self.register_buffer("bases", torch.cumprod(torch.cat([torch.ones_like(steps[:1]), steps[:-1]]), 0), False)

    @property
    def started(self) -> bool:
        return True

    def bound(self, vectors: Tensor) -> Tensor:
        """Squash (…, dim) so that rounding gives each number ``steps`` values, from ``-(steps // 2)`` upwards."""
        half = (self.steps - 1).to(vectors.dtype) * (1 + MARGIN) / 2
        # An even number of steps lies around -½; the shift keeps 0 at 0.
        offset = (self.steps % 2 == 0).to(vectors.dtype) / 2
        return torch.tanh(vectors + torch.atanh(offset / half)) * half - offset

    def indices(self, vectors: Tensor) -> Tensor:
        return self._token(torch.round(self.bound(vectors)))

    def codes(self) -> Tensor:
        token = torch.arange(self.config.size, device=self.steps.device)
        digits = token[:, None] // self.bases % self.steps
        half = self.steps // 2
        return (digits - half) / half

    def forward(self, vectors: Tensor) -> Quantized:
        bounded = self.bound(vectors)
        rounded = torch.round(bounded)
        values = (bounded + (rounded - bounded).detach()) / (self.steps // 2)
        return Quantized(values, self._token(rounded), vectors.new_zeros(()))

    def _token(self, rounded: Tensor) -> Tensor:
        return ((rounded.long() + self.steps // 2) * self.bases).sum(-1)
