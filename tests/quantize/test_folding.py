"""Folding changes no number beyond float rounding, in the window and the step form, for every norm and activation."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from quantize.export import TorchStep
from quantize.folding import folded
from trainer.encoder import Encoder, EncoderConfig


def make(norm: str, activation: str) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = EncoderConfig(dim=32, layers=2, heads=2, context=6, codebook_size=40, norm=norm, activation=activation)  # type: ignore[arg-type]
        encoder = Encoder(config).eval()
        for name, parameter in encoder.named_parameters():
            if "norm" in name or "age_bias" in name:  # trained norms are not the identity
                nn.init.normal_(parameter, 0.7, 0.3)
    return encoder


@pytest.mark.parametrize(("norm", "activation"), list(product(["layer", "rms", "tanh"], ["gelu", "relu"])))
def test_scores_embedding_and_rings_stay(norm: str, activation: str) -> None:
    encoder = make(norm, activation)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    small = folded(encoder)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    patches = np.random.default_rng(0).standard_normal((20, 50)).astype(np.float32)
    with torch.inference_mode():
        wanted, found = encoder(torch.from_numpy(patches)[None]), small(torch.from_numpy(patches)[None])
    for right, said in zip(wanted, found, strict=True):
        assert float((right - said).abs().max()) < 1e-5
    reference, engine = TorchStep(encoder), TorchStep(small)
    state, small_state = reference.start(), engine.start()
    for patch in patches:
        right_step, said_step = reference.step(state, patch), engine.step(small_state, patch)
        assert np.abs(right_step.scores - said_step.scores).max() < 1e-5
        assert np.abs(right_step.embedding - said_step.embedding).max() < 1e-5
        assert np.abs(state.k - small_state.k).max() < 1e-5
        assert np.abs(state.v - small_state.v).max() < 1e-5


@pytest.mark.parametrize("norm", ["layer", "rms", "tanh"])
def test_nothing_is_left_to_fold(norm: str) -> None:
    small = folded(make(norm, "gelu"))
    for block in small.blocks:
        assert block.scale == 1.0
        assert not list(block.norm_attention.parameters())  # type: ignore[union-attr]
        assert not list(block.norm_mlp.parameters())  # type: ignore[union-attr]
    again = folded(small)
    patches = torch.randn(1, 9, 50, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(again(patches)[0], small(patches)[0])
