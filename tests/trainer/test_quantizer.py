"""The codebook against independent arithmetic in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.quantizers import QuantizerConfig, perplexity, usage
from trainer.quantizers.ema import VectorQuantizer, kmeans, nearest


def started(config: QuantizerConfig, seed: int = 0) -> VectorQuantizer:
    """A quantizer whose codebook, counts and sums are set to known, consistent values."""
    generator = torch.Generator().manual_seed(seed)
    quantizer = VectorQuantizer(config)
    codes = quantizer.place(torch.randn(config.size, config.dim, generator=generator))
    counts = torch.rand(config.size, generator=generator) * 4 + 1
    quantizer.codebook.copy_(codes)
    quantizer.counts.copy_(counts)
    quantizer.sums.copy_(codes * counts[:, None])
    return quantizer


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 20), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_nearest_is_the_euclidean_nearest_code(seed: int, n: int, size: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, codes = rng.normal(size=(n, dim)), rng.normal(size=(size, dim))
    distances = np.linalg.norm(vectors[:, None] - codes[None], axis=2)
    found = nearest(torch.tensor(vectors), torch.tensor(codes)).numpy()
    np.testing.assert_array_equal(found, distances.argmin(1))


@pytest.mark.parametrize("cosine", [False, True])
def test_ema_update_matches_numpy(cosine: bool) -> None:
    config = QuantizerConfig(size=16, dim=5, decay=0.9, cosine=cosine, dead_share=0.0)
    quantizer = started(config).train()
    codes, counts, sums = (t.double().numpy().copy() for t in (quantizer.codebook, quantizer.counts, quantizer.sums))
    z = np.random.default_rng(1).normal(size=(64, 5))
    quantizer(torch.tensor(z, dtype=torch.float32).view(4, 16, 5))

    if cosine:
        z /= np.linalg.norm(z, axis=1, keepdims=True)
    index = np.linalg.norm(z[:, None] - codes[None], axis=2).argmin(1)
    for k in range(16):
        counts[k] = 0.9 * counts[k] + 0.1 * (index == k).sum()
        sums[k] = 0.9 * sums[k] + 0.1 * z[index == k].sum(0)
    expected = sums / counts[:, None]
    if cosine:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(quantizer.counts.numpy(), counts, rtol=1e-5)
    np.testing.assert_allclose(quantizer.codebook.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_commitment_and_straight_through() -> None:
    config = QuantizerConfig(size=8, dim=3, commitment=0.25, cosine=False)
    quantizer = started(config).eval()
    z = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(3), requires_grad=True)
    out = quantizer(z)
    assert out.indices is not None
    codes = quantizer.codebook[out.indices]
    torch.testing.assert_close(out.values, codes)
    # The loss is commitment times the mean squared distance from a vector to its code.
    torch.testing.assert_close(out.loss, 0.25 * ((z - codes) ** 2).sum(-1).mean())
    weights = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(4))
    (gradient,) = torch.autograd.grad((out.values * weights).sum(), z)
    torch.testing.assert_close(gradient, weights)  # as if there were no quantizer


def test_eval_changes_nothing_and_repeats() -> None:
    quantizer = started(QuantizerConfig(size=16, dim=4)).eval()
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    z = torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(5))
    first, second = quantizer(z), quantizer(z)
    assert torch.equal(first.indices, second.indices)
    assert torch.equal(first.indices, quantizer.indices(z))
    for name, tensor in quantizer.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_dead_codes_come_back_on_vectors_of_the_batch() -> None:
    torch.manual_seed(0)
    quantizer = started(QuantizerConfig(size=8, dim=3, cosine=False, dead_share=0.1)).train()
    quantizer.codebook[5] = 1000.0  # nothing will ever be near it
    quantizer.counts[5], quantizer.sums[5] = 0.01, 10.0
    z = torch.randn(40, 3)
    out = quantizer(z[None])
    assert 5 not in out.indices
    revived = quantizer.codebook[5]
    assert ((z - revived).abs().amax(1) < 1e-5).any(), "a revived code is one of the batch's vectors"
    assert (quantizer.counts > 0.1 * quantizer.counts.mean()).all()
    assert 5 in quantizer.eval()(z[None]).indices


def test_codebook_starts_from_kmeans_after_the_given_batches() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(QuantizerConfig(size=4, dim=2, cosine=False, start_after=3, kmeans_steps=20)).train()
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    batches = []
    for batch in range(1, 4):
        z = centres[torch.arange(200) % 4] + 0.1 * torch.randn(200, 2)
        batches.append(z)
        out = quantizer(z[None])
        assert quantizer.started == (batch == 3)
        if batch < 3:
            assert out.indices is None
            assert torch.equal(out.values[0], z)  # vectors pass unchanged
            with pytest.raises(RuntimeError, match="not started"):
                quantizer.indices(z[None])
    # Lloyd's iterations may leave two codes in one blob and one between two; but at their end every code is the mean of
    # the pooled vectors nearest to it, but for what the batch that started them moved.
    pooled = torch.cat(batches)
    index = nearest(pooled, quantizer.codebook)
    for k in range(4):
        torch.testing.assert_close(quantizer.codebook[k], pooled[index == k].mean(0), rtol=0, atol=0.05)


def test_kmeans_finds_the_means_of_separate_blobs() -> None:
    torch.manual_seed(1)
    centres = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    vectors = torch.nn.functional.normalize(centres[torch.arange(300) % 3] + 0.05 * torch.randn(300, 2), dim=1)
    found, counts = kmeans(vectors, 3, 10, unit=True)
    assert counts.sum() == 300
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    few, _ = kmeans(vectors[:2], 5, 3, unit=True)  # fewer vectors than centres
    assert few.shape == (5, 2)
    assert torch.isfinite(few).all()


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any))
def test_perplexity_is_the_exponential_of_the_entropy(counts: list[int]) -> None:
    p = np.array(counts) / sum(counts)
    p = p[p > 0]
    assert perplexity(torch.tensor(counts)) == pytest.approx(np.prod(p**-p))


def test_perplexity_and_usage_at_the_ends() -> None:
    assert perplexity(torch.full((512,), 3)) == pytest.approx(512)
    assert perplexity(torch.tensor([0, 9, 0])) == pytest.approx(1)
    assert perplexity(torch.zeros(4)) == 0
    assert usage(torch.tensor([0, 9, 1, 0])) == 0.5
