"""Weights rounded with each other's help before any engine sees them (Frantar et al., GPTQ, ICLR 2023).

The engines round each weight to the nearest code of its row. Here the weights are put on those codes beforehand, so
that the engines' rounding changes nothing; the arithmetic and the time of a hop stay those of dynamic int8.
"""

import copy
from collections.abc import Collection, Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from quantize.plan import layers, weight_scales
from quantize.rounding import gptq, input_moments
from trainer.encoder import Encoder


def on_codes(encoder: Encoder, streams: Iterable[NDArray[np.float32]], *, but: Collection[str] = ()) -> Encoder:
    """A copy of ``encoder`` with every layer's weights, ``but`` some, on the int8 codes that change its outputs least
    along ``streams`` of patches, each (hops, hop)."""
    copied = copy.deepcopy(encoder)
    moments = input_moments(encoder, streams)
    for name, layer in layers(copied).items():
        if name in but:
            continue
        weight = layer.weight.detach()
        scale = weight_scales(weight)[:, 0].double().numpy()
        codes = gptq(weight.double().numpy(), scale, moments[name], pin=True)
        layer.weight = torch.nn.Parameter(torch.from_numpy(codes * scale[:, None]).float(), requires_grad=False)
    return copied
