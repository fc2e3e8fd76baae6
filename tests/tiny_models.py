"""A tiny encoder with random weights and its conversions, made once for all tests that ask."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from quantize.export import Artefact, EngineName, Method, convert, quantized
from quantize.methods.activations import Observed, observe
from quantize.methods.ranges import static_plan
from quantize.plan import uniform
from trainer.encoder import Encoder, EncoderConfig

CONFIG = EncoderConfig(hop=50, dim=16, layers=2, heads=2, mlp=2, context=5, codebook_size=32, lookahead=1)


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
        for block in model.blocks:
            torch.nn.init.normal_(block.age_bias, std=0.5)  # type: ignore[union-attr, arg-type]
    return model


@cache
def observed() -> dict[str, Observed]:
    """What flows through the encoder's layers along two streams."""
    return observe(encoder(), np.stack([patches(60, seed) for seed in (1, 2)]), every=1)


@cache
def artefact(engine: EngineName, method: Method) -> Artefact:
    if method == "fp32":
        return convert(encoder(), engine)
    plan = static_plan(observed(), "minmax") if method == "static" else uniform(encoder(), "dynamic")
    return quantized(artefact(engine, "fp32"), encoder(), plan, method)
