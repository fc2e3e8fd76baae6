"""What every quantizer answers to, and how the use of its codes is measured."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainer.quantizers.config import QuantizerConfig


@dataclass(frozen=True)
class Quantized:
    """``values`` (…, dim) with a straight-through gradient, ``indices`` (…) int64 and the commitment ``loss``;
    ``indices`` is None before the codebook has started."""

    values: Tensor
    indices: Tensor | None
    loss: Tensor


class Quantizer(nn.Module, ABC):
    """Vectors (…, dim) to tokens (…) in ``range(config.size)`` and back to codes (…, dim)."""

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config

    @property
    @abstractmethod
    def started(self) -> bool:
        """Whether the codebook exists yet."""

    @abstractmethod
    def indices(self, vectors: Tensor) -> Tensor:
        """The token of each vector: (…, dim) → (…) int64; changes nothing. RuntimeError before the codebook exists."""

    @abstractmethod
    def codes(self) -> Tensor:
        """The code of every token, (size, dim)."""

    @abstractmethod
    def forward(self, vectors: Tensor) -> Quantized:
        """Quantize (…, dim). In training mode this may move the codebook; in eval mode it is a pure function."""

    def look_up(self, indices: Tensor) -> Tensor:
        """The codes at ``indices``: (…) → (…, dim)."""
        return self.codes()[indices]


def perplexity(counts: Tensor) -> float:
    """``exp(-Σ p log p)`` of code counts, shape (K,): how many codes an even use would need; 0 with no counts."""
    total = counts.sum()
    if total == 0:
        return 0.0
    p = counts.double() / total
    return float(torch.exp(-torch.special.xlogy(p, p).sum()))


def usage(counts: Tensor) -> float:
    """Share of codes used at least once."""
    return float((counts > 0).double().mean())
