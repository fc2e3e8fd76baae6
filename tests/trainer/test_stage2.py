"""The student: its two forms, its labels, its learning rate, and that it can learn at all."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from trainer.encoder import Encoder, EncoderConfig, StepForm, step_mask
from trainer.stage2 import IGNORED, Augmentation, student_labels

TINY = EncoderConfig(hop=10, dim=16, layers=2, heads=2, mlp=2, context=5, codebook_size=32, dropout=0.1)


@pytest.mark.parametrize("hops", [3, 5, 23])  # shorter than, equal to and longer than the context
def test_step_form_equals_window_form(hops: int) -> None:
    torch.manual_seed(0)
    encoder = Encoder(TINY).eval()
    for block in encoder.blocks:  # a bias of zeros would hide a wrong age
        torch.nn.init.normal_(block.age_bias)
    patches = torch.randn(1, hops, TINY.hop)
    with torch.no_grad():
        scores, embeddings = encoder(patches)
        step, (k, v) = StepForm(encoder), encoder.state()
        for hop in range(hops):
            one, embedding, k, v = step(patches[:, hop], k, v, step_mask(TINY.context, hop))
            torch.testing.assert_close(one[0], scores[0, hop], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(embedding[0], embeddings[0, hop], rtol=1e-4, atol=1e-5)


def test_the_student_never_looks_ahead() -> None:
    torch.manual_seed(0)
    encoder = Encoder(TINY).eval()
    patches = torch.randn(1, 12, TINY.hop)
    changed = patches.clone()
    changed[:, 7:] += 1
    with torch.no_grad():
        before, after = encoder(patches)[0], encoder(changed)[0]
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert (before[:, 7] - after[:, 7]).abs().max() > 1e-3


@given(st.integers(0, 2), st.integers(0, 4), st.integers(0, 2), st.integers(8, 20))
@settings(max_examples=40)
def test_labels_are_shifted_and_edges_left_out(lookahead: int, left: int, right: int, hops: int) -> None:
    tokens = np.arange(3 * hops, dtype=np.int16).reshape(3, hops)
    labels = student_labels(tokens, lookahead, left, right)
    for t in range(hops):
        patch = t - lookahead
        known = left <= patch < hops - right
        for window in range(3):
            assert labels[window, t] == (tokens[window, patch] if known else IGNORED)


def test_augmentation_is_off_at_zero_and_mild_otherwise() -> None:
    torch.manual_seed(0)
    patches = torch.sin(torch.arange(500) * 0.1).view(1, 50, 10).repeat(64, 1, 1)
    assert torch.equal(Augmentation(0, 0, 0)(patches), patches)
    changed = Augmentation()(patches)
    assert not torch.equal(changed[0], changed[1]), "every window its own"
    correlation = torch.corrcoef(torch.stack([patches[0].flatten(), *changed.flatten(1)]))[0, 1:]
    assert correlation.min() > 0.8


def test_one_batch_can_be_learned_by_heart() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**{**TINY.to_dict(), "dropout": 0.0}))
    patches = torch.randn(4, 12, TINY.hop)
    labels = student_labels(np.random.default_rng(0).integers(0, 32, (4, 12)).astype(np.int16), 1, 2, 1)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-2)
    known = labels != IGNORED
    for _ in range(80):
        optimizer.zero_grad()
        functional.cross_entropy(encoder(patches)[0][known], labels[known]).backward()
        optimizer.step()
    found = encoder(patches)[0].argmax(-1)
    assert (found[known] == labels[known]).float().mean() == 1
