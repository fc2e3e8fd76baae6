"""How far an encoder's values can go, whatever it is fed.

A normalised vector has at most the norm √dim (or each value is within ±1, for tanh), so a row of the next layer can say
no more than √dim times its own norm (Cauchy-Schwarz). Attention averages values; an activation makes nothing larger.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from quantize.mcu.fixed_point import PATCH_BITS, PATCH_LIMIT
from trainer.encoder import Block, Encoder, TanhNorm

F64 = NDArray[np.float64]

SLACK = 1.01  # on every bound: int8 weights are not quite the weights, and results are rounded


@dataclass(frozen=True)
class Affine:
    """A norm's gain and bias, (dim,), and how far they let its results go."""

    gain: F64
    bias: F64
    bounded: bool  # each normalised value is within ±1 (tanh), not only all of them within √dim together

    def of_rows(self, weight: F64, bias: F64) -> F64:
        """The largest magnitude of each row of a linear layer behind this norm."""
        spread = weight * self.gain
        reach = np.abs(spread).sum(1) if self.bounded else math.sqrt(len(self.gain)) * np.linalg.norm(spread, axis=1)
        return np.asarray(reach + np.abs(weight @ self.bias + bias))

    def of_itself(self) -> float:
        """The largest magnitude of any of its results."""
        reach = 1.0 if self.bounded else math.sqrt(len(self.gain))
        return float((reach * np.abs(self.gain) + np.abs(self.bias)).max())


def numbers(tensor: torch.Tensor) -> F64:
    """A parameter's values."""
    return tensor.detach().double().numpy()


def weights(linear: torch.nn.Linear) -> tuple[F64, F64]:
    """Weights (outputs, inputs) and bias (outputs,) of a layer."""
    return numbers(linear.weight), numbers(linear.bias)


def affine_of(norm: torch.nn.Module) -> Affine:
    """Gain and bias of one of :data:`trainer.encoder.NORMS`."""
    if isinstance(norm, torch.nn.RMSNorm):
        gain = numbers(norm.weight)
        return Affine(gain, np.zeros_like(gain), bounded=False)
    assert isinstance(norm, torch.nn.LayerNorm | TanhNorm)
    return Affine(numbers(norm.weight), numbers(norm.bias), bounded=isinstance(norm, TanhNorm))


def epsilon_of(norm: torch.nn.Module) -> float:
    """What a norm adds to the mean square; 0 for one without statistics."""
    if isinstance(norm, torch.nn.LayerNorm):
        return norm.eps
    if isinstance(norm, torch.nn.RMSNorm):
        return torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
    return 0.0


def residual_bound(encoder: Encoder) -> float:
    """The largest magnitude that the residual stream can have at any hop."""
    weight, bias = weights(encoder.embed)
    reach = np.abs(weight).sum(1) * PATCH_LIMIT / 2**PATCH_BITS + np.abs(bias)
    for block in encoder.blocks:
        assert isinstance(block, Block)
        for before, inner, after in (
            (block.norm_attention, block.value, block.out),  # attention averages values, so it goes no further
            (block.norm_mlp, block.expand, block.contract),  # |gelu(x)| ≤ |x|
        ):
            inside = affine_of(before).of_rows(*weights(inner))
            weight, bias = weights(after)
            reach = reach + np.abs(weight) @ inside + np.abs(bias)
    return float(reach.max())
