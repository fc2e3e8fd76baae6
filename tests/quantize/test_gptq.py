"""Weights rounded together: on the engines' own codes, and closer to fp32 than weights rounded one by one."""

import numpy as np
import torch

from quantize.methods.gptq import on_codes
from quantize.plan import layers, weight_scales
from trainer.encoder import Encoder, EncoderConfig

CONFIG = EncoderConfig(hop=10, dim=16, layers=2, heads=2, context=5, codebook_size=12, dropout=0.0)


def made() -> tuple[Encoder, np.ndarray]:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    # Patches whose samples go together, as a wave's do: only then can one weight make good what another spoils.
    waves = np.cumsum(rng.standard_normal((6, 40, CONFIG.hop)), axis=-1).astype(np.float32)
    return Encoder(CONFIG).eval(), waves


def to_nearest(encoder: Encoder) -> Encoder:
    rounded = Encoder(CONFIG).eval()
    rounded.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        for layer in layers(rounded).values():
            scale = weight_scales(layer.weight)
            layer.weight.copy_(torch.round(layer.weight / scale) * scale)
    return rounded


def test_an_engine_that_rounds_to_the_nearest_code_finds_these_codes() -> None:
    encoder, waves = made()
    rounded = on_codes(encoder, waves, but=("head",))
    for name, layer in layers(rounded).items():
        codes = layer.weight / weight_scales(layer.weight)
        if name == "head":
            assert torch.equal(layer.weight, layers(encoder)[name].weight)
        else:
            assert torch.allclose(codes, codes.round(), atol=1e-3)
            assert codes.abs().amax(1).round().eq(127).all()
            before = layers(encoder)[name].weight.detach()
            moved = (layer.weight - before).abs() / weight_scales(before)
            assert 0.5 < float(moved.max()) < 20  # some further than to the nearest, none astray


def test_it_changes_the_scores_less_than_rounding_one_by_one() -> None:
    encoder, waves = made()
    new = np.cumsum(np.random.default_rng(1).standard_normal((4, 40, CONFIG.hop)), axis=-1).astype(np.float32)
    with torch.inference_mode():
        wanted = encoder(torch.from_numpy(new))[0]
        errors = [
            float((some(torch.from_numpy(new))[0] - wanted).square().mean())
            for some in (on_codes(encoder, waves), to_nearest(encoder))
        ]
    assert errors[0] < 0.7 * errors[1]
