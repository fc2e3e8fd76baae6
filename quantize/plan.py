"""How each matrix product of an encoder is to be computed: what a method decides and every engine's export obeys.

Only the products with weights (``nn.Linear``) are quantized: they hold almost all of the weights and of the time,
whereas int8 LayerNorm, softmax and attention products are slower and less faithful in every engine that was measured.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from trainer.encoder import Encoder

# float: 32-bit weights and activations. half: weights stored in 16 bits, computed in 32. dynamic: int8 weights,
# activations on a scale found at every hop. static: int8 weights, activations on scales fixed beforehand.
# weights8: int8 weights, 32-bit activations. dynamic4: as dynamic, with 4-bit weights, a scale for each block of inputs
# and 8 bits where a layer's inputs do not fill whole blocks.
Precision = Literal["float", "half", "dynamic", "static", "weights8", "dynamic4"]
Range = tuple[float, float]  # lowest and highest value that an 8-bit code can say; holds 0

BLOCK = 32  # input channels that share a scale where weights have 4 bits


@dataclass(frozen=True)
class LayerPlan:
    """One layer's arithmetic. ``input`` and ``output``: the fixed ranges of a ``static`` one."""

    precision: Precision
    input: Range | None = None
    output: Range | None = None


Plan = Mapping[str, LayerPlan]  # by the layer's name in the encoder: "blocks.0.query"


def layers(encoder: Encoder) -> dict[str, nn.Linear]:
    """Every layer that can be quantized, in the order of the data's way."""
    return {name: module for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}


def uniform(encoder: Encoder, precision: Precision) -> dict[str, LayerPlan]:
    """The same ``precision`` for every layer; not for ``static``, which needs ranges."""
    return {name: LayerPlan(precision) for name in layers(encoder)}


def is_state(layer: str) -> bool:
    """Whether the layer's output goes into the step form's rings: keys and values."""
    return layer.endswith((".key", ".value"))


def with_precision(plan: Plan, names: Iterable[str], precision: Precision) -> dict[str, LayerPlan]:
    """``plan`` with ``names`` at another ``precision``."""
    chosen = set(names)
    return {name: LayerPlan(precision) if name in chosen else layer for name, layer in plan.items()}


def affine(limits: Range, levels: int = 256) -> tuple[float, int]:
    """Scale and zero point, 0 … ``levels`` - 1, of an asymmetric uniform quantizer over ``limits``."""
    low, high = min(0.0, limits[0]), max(0.0, limits[1])
    scale = max((high - low) / (levels - 1), 1e-12)
    return scale, round(min(max(-low / scale, 0), levels - 1))


def weight_scales(weight: torch.Tensor, bits: int = 8) -> torch.Tensor:
    """Symmetric scale of each row of ``weight`` (rows, …), (rows, 1): its largest weight is the largest code.

    Those of 4-bit blocks have a bfloat16's seven bits of mantissa in every engine, since LiteRT keeps no more.
    """
    scale: torch.Tensor = weight.detach().abs().amax(1, keepdim=True).clamp(min=1e-12) / (2 ** (bits - 1) - 1)
    return scale.bfloat16().float() if bits == 4 else scale
