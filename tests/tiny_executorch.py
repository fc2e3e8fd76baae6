"""A tiny encoder lowered for ExecuTorch, as few times as can be: each lowering takes seconds."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from quantize.executorch import Lowered, lower
from quantize.plan import LayerPlan, Plan
from trainer.encoder import Encoder, EncoderConfig

# Wide enough for a block of 4-bit weights; rings large enough to be seen among what a hop allocates.
CONFIG = EncoderConfig(hop=50, dim=32, layers=1, heads=2, mlp=2, context=33, codebook_size=32, activation="relu")


def patches(hops: int, seed: int) -> NDArray[np.float32]:
    """A noisy oscillation with the front end's unit scale, (hops, CONFIG.hop)."""
    rng = np.random.default_rng(seed)
    t = np.arange(hops * CONFIG.hop)
    wave = 1.4 * np.sin(t * 0.06 + rng.uniform(0, 6)) + rng.normal(0, 0.5, len(t))
    return wave.reshape(hops, CONFIG.hop).astype(np.float32)


@cache
def encoder() -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = Encoder(CONFIG).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def every_precision() -> Plan:
    """One plan with all that ExecuTorch can do."""
    static = {"expand": ((-4.0, 4.0), (-2.5, 2.5)), "contract": ((0.0, 2.5), (-2.0, 2.0))}
    return {
        "embed": LayerPlan("dynamic4"),  # its 50 inputs do not fill blocks, so it keeps 8 bits
        "blocks.0.query": LayerPlan("dynamic"),
        "blocks.0.key": LayerPlan("float"),
        "blocks.0.value": LayerPlan("dynamic"),
        "blocks.0.out": LayerPlan("dynamic4"),
        **{f"blocks.0.{name}": LayerPlan("static", *ranges) for name, ranges in static.items()},
        "head": LayerPlan("dynamic"),
    }


@cache
def lowered(*, quantized: bool) -> Lowered:
    return lower(encoder(), every_precision() if quantized else None)
