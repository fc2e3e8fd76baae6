"""Vector quantizer: a codebook kept by exponential moving averages (van den Oord et al. 2017, appendix A.1).

It starts from k-means on the first training vectors, and codes that fall out of use are revived from the current
batch. Codes and vectors may lie on the unit sphere (cosine similarity; Yu et al., ViT-VQGAN, 2022), which keeps a
few long vectors from owning the codebook.

Processes that train together keep one codebook: its statistics are those of the whole batch, and what is drawn at
random is drawn by rank 0, so every rank holds the same bits. Each must bring equally many vectors.
"""

import torch
from torch import Tensor
from torch.nn import functional

from trainer.quantizers.base import Quantized, Quantizer
from trainer.quantizers.config import QuantizerConfig
from trainer.ranks import from_first, gathered, summed

LEAST_COUNT = 1e-12  # below it a code's moving average has lost its meaning, and the code stays where it was


def nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """Index of the nearest code in Euclidean distance: (n, dim), (K, dim) → (n,)."""
    # |v - c|² without |v|², which is the same for every code.
    return torch.argmin((codes * codes).sum(1) - 2 * vectors @ codes.T, dim=1)


def kmeans(vectors: Tensor, size: int, steps: int, *, unit: bool) -> tuple[Tensor, Tensor]:
    """Lloyd's iterations from random vectors: (n, dim) → centres (size, dim) and their counts (size,).

    With fewer vectors than ``size`` some are drawn twice. A centre left without vectors is drawn anew.
    """
    n, device = len(vectors), vectors.device
    draw = torch.randperm(n) if n >= size else torch.randint(n, (size,))
    centres = vectors[draw[:size].to(device)].clone()
    counts = vectors.new_zeros(size)
    for _ in range(steps):
        index = nearest(vectors, centres)
        counts = torch.bincount(index, minlength=size).to(vectors.dtype)
        sums = torch.zeros_like(centres).index_add_(0, index, vectors)
        fresh = vectors[torch.randint(n, (size,)).to(device)]
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], fresh)
        if unit:
            centres = functional.normalize(centres, dim=1)
    return centres, counts


class VectorQuantizer(Quantizer):
    """Codebook of ``size`` vectors; its moving counts and sums are buffers, learned without a gradient."""

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    batches: Tensor

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__(config)
        self.register_buffer("codebook", torch.zeros(config.size, config.dim))
        self.register_buffer("counts", torch.zeros(config.size))
        self.register_buffer("sums", torch.zeros(config.size, config.dim))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))  # training batches seen
        self._pool: list[Tensor] = []

    @property
    def started(self) -> bool:
        return bool(self.counts.sum() > 0)

    def place(self, vectors: Tensor) -> Tensor:
        """Vectors where the codes live: on the unit sphere if ``cosine``."""
        return functional.normalize(vectors, dim=-1) if self.config.cosine else vectors

    def indices(self, vectors: Tensor) -> Tensor:
        if not self.started:
            raise RuntimeError("the codebook has not started: train for more batches than start_after")
        flat = self.place(vectors).reshape(-1, self.config.dim)
        return nearest(flat, self.codebook.to(flat.dtype)).view(vectors.shape[:-1])

    def codes(self) -> Tensor:
        return self.codebook

    def forward(self, vectors: Tensor) -> Quantized:
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
        flat = gathered(flat)
        self._pool.append(flat)
        while len(self._pool) > 1 and sum(map(len, self._pool[1:])) >= self.config.pool:
            self._pool.pop(0)
        if self.batches >= self.config.start_after or not self.config.kmeans_start:
            self.start(torch.cat(self._pool), len(flat))
            self._pool.clear()

    @torch.no_grad()
    def start(self, vectors: Tensor, batch: int) -> None:
        """Begin the codebook from ``vectors`` (n, dim), which all ranks hold; a batch will bring ``batch`` of them."""
        config = self.config
        if config.kmeans_start:
            centres, counts = kmeans(vectors, config.size, config.kmeans_steps, unit=config.cosine)
        else:
            centres = self.place(torch.randn(config.size, config.dim).to(vectors))
            counts = vectors.new_zeros(config.size)
        centres, counts = from_first(centres), from_first(counts)
        # As if the averages had always seen batches of this size with these shares; never empty.
        counts = (counts + 1) * (batch / (counts + 1).sum())
        self.codebook.copy_(centres)
        self.counts.copy_(counts)
        self.sums.copy_(centres * counts[:, None])

    @torch.no_grad()
    def _move(self, flat: Tensor, indices: Tensor) -> None:
        decay, size = self.config.decay, self.config.size
        count = summed(torch.bincount(indices, minlength=size).to(flat.dtype))
        total = summed(torch.zeros_like(self.sums).index_add_(0, indices, flat))
        self.counts.mul_(decay).add_(count, alpha=1 - decay)
        self.sums.mul_(decay).add_(total, alpha=1 - decay)
        if self.config.revival:
            self._revive(flat)
        known = self.counts[:, None] > LEAST_COUNT
        self.codebook.copy_(torch.where(known, self.place(self.sums / self.counts[:, None]), self.codebook))

    def _revive(self, flat: Tensor) -> None:
        mean = self.counts.mean()
        dead = torch.nonzero(self.counts < self.config.dead_share * mean)[:, 0]
        if len(dead):
            batch = gathered(flat)
            draw = from_first(torch.randint(len(batch), (len(dead),)).to(flat.device))
            self.counts[dead] = mean
            self.sums[dead] = batch[draw] * mean
