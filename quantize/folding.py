"""The same function with fewer operations: what is linear before or after a matrix product moves into its weights."""

import copy

import torch
from torch import Tensor, nn

from trainer.encoder import Block, Encoder, TanhNorm


class _Tanh(nn.Module):
    """``tanh(alpha x)``: a :class:`TanhNorm` without its affine."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.alpha * x)


def folded(encoder: Encoder) -> Encoder:
    """A copy of ``encoder`` that gives the same scores, embedding and rings but for float rounding.

    The attention's scale moves into the query's weights, and the scale and shift of each block's norms into the
    products that read them. The last norm keeps its own, since its output is the embedding. Saves the operations in
    every engine; a channel's scale then shapes the int8 weights instead of the activations.
    """
    copied = copy.deepcopy(encoder)
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
    for block in copied.blocks:
        assert isinstance(block, Block)
        block.norm_attention = _without_affine(block.norm_attention, block.query, block.key, block.value)
        block.norm_mlp = _without_affine(block.norm_mlp, block.expand)
        block.query.weight.mul_(block.scale)
        block.query.bias.mul_(block.scale)
        block.scale = 1.0
    return copied


def _without_affine(norm: nn.Module, *readers: nn.Linear) -> nn.Module:
    """``norm`` without its scale and shift, which go into the ``readers`` of its output."""
    bare: nn.Module
    if isinstance(norm, nn.LayerNorm) and norm.elementwise_affine:
        bare = nn.LayerNorm(norm.normalized_shape, norm.eps, elementwise_affine=False)
    elif isinstance(norm, nn.RMSNorm) and norm.elementwise_affine:
        bare = nn.RMSNorm(norm.normalized_shape, norm.eps, elementwise_affine=False)
    elif isinstance(norm, TanhNorm):
        bare = _Tanh(float(norm.alpha))
    else:
        return norm  # folded before
    shift = getattr(norm, "bias", None)
    for reader in readers:
        if isinstance(shift, Tensor):
            reader.bias.add_(reader.weight @ shift)
        reader.weight.mul_(norm.weight)
    return bare.eval()
