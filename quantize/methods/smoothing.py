"""Scale migration (Xiao et al., SmoothQuant, ICML 2023): wide activation channels are made narrower and their weights
larger, which changes nothing in fp32 and everything in int8 where a few channels are far wider than the others."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from quantize.methods.activations import Observed
from trainer.encoder import Block, Encoder

ALPHA = 0.5  # how much of the difficulty moves into the weights


def smoothed(encoder: Encoder, observed: Mapping[str, Observed], alpha: float = ALPHA) -> Encoder:
    """A copy of ``encoder`` with the same outputs, its norms' scale and shift divided by what the products after them
    are multiplied with. ``observed``: of this encoder. The norms need a scale and shift of their own
    (:func:`quantize.folding.folded` takes them away); the last norm keeps its own, since it gives the embedding."""
    copied = copy.deepcopy(encoder)
    for i, block in enumerate(copied.blocks):
        assert isinstance(block, Block)
        for norm, readers in ((block.norm_attention, ("query", "key", "value")), (block.norm_mlp, ("expand",))):
            products = [getattr(block, reader) for reader in readers]
            reach = torch.from_numpy(abs(observed[f"blocks.{i}.{readers[0]}"].inputs).max(0))
            _migrate(norm, products, reach, alpha)
    return copied


def _migrate(norm: nn.Module, products: list[nn.Linear], reach: Tensor, alpha: float) -> None:
    """``reach`` (channels,): the largest activation of each channel."""
    with torch.no_grad():
        weights = torch.stack([product.weight.abs().amax(0) for product in products]).amax(0)
        scale = (reach.clamp(min=1e-5) ** alpha / weights.clamp(min=1e-5) ** (1 - alpha)).clamp(min=1e-5)
        for name in ("weight", "bias"):
            affine = getattr(norm, name, None)
            if affine is not None:
                affine.div_(scale)
        for product in products:
            product.weight.mul_(scale)
