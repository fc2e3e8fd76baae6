"""Vector quantizer: a codebook kept by exponential moving averages (van den Oord et al. 2017, appendix A.1).

It starts from k-means on the first training vectors, and codes that fall out of use are revived from the current
batch. Codes and vectors may lie on the unit sphere (cosine similarity; Yu et al., ViT-VQGAN, 2022), which keeps a
few long vectors from owning the codebook.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class QuantizerConfig:
    """``start_after``: training batches after which k-means starts the codebook (before, vectors pass unchanged);
    ``dead_share``: a code whose moving count is below this share of the mean count is revived."""

    size: int = 512
    dim: int = 32
    decay: float = 0.98
    commitment: float = 0.25
    cosine: bool = True
    start_after: int = 30
    pool: int = 16384
    kmeans_steps: int = 15
    dead_share: float = 0.1


@dataclass(frozen=True)
class Quantized:
    """``values`` (…, dim) with a straight-through gradient, ``indices`` (…) int64 and the commitment ``loss``;
    ``indices`` is None before the codebook has started."""

    values: Tensor
    indices: Tensor | None
    loss: Tensor


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


def nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """Index of the nearest code in Euclidean distance: (n, dim), (K, dim) → (n,)."""
    # |v - c|² without |v|², which is the same for every code.
    return torch.argmin((codes * codes).sum(1) - 2 * vectors @ codes.T, dim=1)


def kmeans(vectors: Tensor, size: int, steps: int, *, unit: bool) -> tuple[Tensor, Tensor]:
    """Lloyd's iterations from random vectors: (n, dim) → centres (size, dim) and their counts (size,).

    With fewer vectors than ``size`` some are drawn twice. A centre left without vectors is drawn anew.
    """
    n = len(vectors)
    draw = torch.randperm(n) if n >= size else torch.randint(n, (size,))
    centres = vectors[draw[:size]].clone()
    counts = torch.zeros(size, dtype=vectors.dtype)
    for _ in range(steps):
        index = nearest(vectors, centres)
        counts = torch.bincount(index, minlength=size).to(vectors.dtype)
        sums = torch.zeros_like(centres).index_add_(0, index, vectors)
        fresh = vectors[torch.randint(n, (size,))]
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], fresh)
        if unit:
            centres = functional.normalize(centres, dim=1)
    return centres, counts


class VectorQuantizer(nn.Module):
    """Codebook of ``size`` vectors; its moving counts and sums are buffers, learned without a gradient."""

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    batches: Tensor

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("codebook", torch.zeros(config.size, config.dim))
        self.register_buffer("counts", torch.zeros(config.size))
        self.register_buffer("sums", torch.zeros(config.size, config.dim))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))  # training batches seen
        self._pool: list[Tensor] = []

    @property
    def started(self) -> bool:
        """Whether the codebook exists yet."""
        return bool(self.counts.sum() > 0)

    def place(self, vectors: Tensor) -> Tensor:
        """Vectors where the codes live: on the unit sphere if ``cosine``."""
        return functional.normalize(vectors, dim=-1) if self.config.cosine else vectors

    def indices(self, vectors: Tensor) -> Tensor:
        """Nearest code of each vector: (…, dim) → (…) int64; changes nothing."""
        if not self.started:
            raise RuntimeError("the codebook has not started: train for more batches than start_after")
        flat = self.place(vectors).reshape(-1, self.config.dim)
        return nearest(flat, self.codebook.to(flat.dtype)).view(vectors.shape[:-1])

    def look_up(self, indices: Tensor) -> Tensor:
        """The codes at ``indices``: (…) → (…, dim)."""
        return self.codebook[indices]

    def forward(self, vectors: Tensor) -> Quantized:
        """Quantize (…, dim). In training mode this also moves the codebook; in eval mode it is a pure function."""
        z = self.place(vectors)
        flat = z.detach().reshape(-1, self.config.dim)
        if self.training:
            self.batches += 1
            if not self.started:
                self._gather(flat)
        if not self.started:
            return Quantized(z, None, z.new_zeros(()))
        indices = nearest(flat, self.codebook)
        codes = self.codebook[indices].view_as(z)
        if self.training:
            self._move(flat, indices)
        loss = self.config.commitment * functional.mse_loss(z, codes) * self.config.dim
        return Quantized(z + (codes - z).detach(), indices.view(z.shape[:-1]), loss)

    @torch.no_grad()
    def _gather(self, flat: Tensor) -> None:
        self._pool.append(flat)
        while len(self._pool) > 1 and sum(map(len, self._pool[1:])) >= self.config.pool:
            self._pool.pop(0)
        if self.batches >= self.config.start_after:
            centres, counts = kmeans(
                torch.cat(self._pool), self.config.size, self.config.kmeans_steps, unit=self.config.cosine
            )
            # As if the averages had always seen batches of this size with these shares; never empty.
            counts = (counts + 1) * (len(flat) / (counts + 1).sum())
            self.codebook.copy_(centres)
            self.counts.copy_(counts)
            self.sums.copy_(centres * counts[:, None])
            self._pool.clear()

    @torch.no_grad()
    def _move(self, flat: Tensor, indices: Tensor) -> None:
        decay, size = self.config.decay, self.config.size
        count = torch.bincount(indices, minlength=size).to(flat.dtype)
        total = torch.zeros_like(self.sums).index_add_(0, indices, flat)
        self.counts.mul_(decay).add_(count, alpha=1 - decay)
        self.sums.mul_(decay).add_(total, alpha=1 - decay)
        mean = self.counts.mean()
        dead = torch.nonzero(self.counts < self.config.dead_share * mean)[:, 0]
        if len(dead):
            drawn = flat[torch.randint(len(flat), (len(dead),))]
            self.counts[dead] = mean
            self.sums[dead] = drawn * mean
        self.codebook.copy_(self.place(self.sums / self.counts[:, None]))
