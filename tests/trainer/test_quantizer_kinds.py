"""FSQ and residual quantizers against the papers' arithmetic, and what every kind promises."""

import json
import math
from dataclasses import replace
from itertools import combinations_with_replacement, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_recordings import SMALL

from trainer.quantizers import QuantizerConfig, make_quantizer
from trainer.quantizers.config import choose_levels
from trainer.quantizers.ema import VectorQuantizer
from trainer.quantizers.fsq import FiniteScalarQuantizer
from trainer.quantizers.residual import ResidualQuantizer
from trainer.tokenizer import Tokenizer, TokenizerConfig

KINDS = {
    "ema": QuantizerConfig(size=16, dim=4, start_after=2),
    "fsq": QuantizerConfig(kind="fsq", size=36),
    "residual": QuantizerConfig(kind="residual", size=16, dim=4, start_after=2, levels=3),
}
STEPS = st.lists(st.integers(2, 9), min_size=1, max_size=4).map(tuple)


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(config: QuantizerConfig, batches: int = 4) -> torch.nn.Module:
    torch.manual_seed(0)
    quantizer = make_quantizer(config).train()
    for i in range(batches):
        quantizer(vectors(8, 20, config.dim, seed=i))
    return quantizer.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_its_promises(kind: str) -> None:
    quantizer = trained(KINDS[kind])
    size, dim = quantizer.config.size, quantizer.config.dim
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    z = vectors(3, 7, dim, seed=9).requires_grad_()
    out, again = quantizer(z), quantizer(z)
    assert quantizer.started
    assert quantizer.codes().shape == (size, dim)
    assert out.values.shape == (3, 7, dim)
    assert out.indices.shape == (3, 7) and out.indices.dtype == torch.int64
    assert out.indices.min() >= 0 and out.indices.max() < size
    assert torch.equal(out.indices, again.indices) and torch.equal(out.indices, quantizer.indices(z))
    assert torch.equal(quantizer.look_up(out.indices), quantizer.codes()[out.indices])
    out.values.sum().backward()
    assert (z.grad.abs().sum(-1) > 0).all(), "the gradient passes"
    assert all(torch.equal(tensor, before[name]) for name, tensor in quantizer.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_of_any_kind_comes_back_from_its_config_and_weights(kind: str) -> None:
    torch.manual_seed(0)
    model = replace(SMALL, hop=10, quantizer=KINDS[kind])
    tokenizer = Tokenizer(model).train()
    ppg, ecg = vectors(6, 12, 10), vectors(6, 12, 10, seed=1)
    for _ in range(3):
        out = tokenizer(ppg, ecg)
    assert out.ppg.shape == ppg.shape
    (out.ppg.sum() + out.quantized.loss).backward()
    assert tokenizer.projection.weight.grad.abs().sum() > 0
    again = Tokenizer(TokenizerConfig.from_dict(json.loads(json.dumps(model.to_dict()))))
    assert again.config == model
    again.load_state_dict(tokenizer.state_dict(), strict=True)
    assert torch.equal(again.eval().encode(ppg, ecg), tokenizer.eval().encode(ppg, ecg))
    # Labels are computed in double precision: nothing of it may be left in single.
    tokens = again.double().encode(ppg.double(), ecg.double())
    assert (tokens == tokenizer.encode(ppg, ecg)).double().mean() > 0.98


def test_a_config_from_before_there_were_kinds_is_an_ema_quantizer() -> None:
    old = {"size": 512, "dim": 32, "decay": 0.98, "commitment": 0.25, "cosine": True, "start_after": 30,
           "pool": 16384, "kmeans_steps": 15, "dead_share": 0.1}  # fmt: skip
    config = QuantizerConfig(**old)
    assert config == QuantizerConfig()
    assert sorted(make_quantizer(config).state_dict()) == ["batches", "codebook", "counts", "sums"]


def test_impossible_configs_are_refused() -> None:
    with pytest.raises(ValueError, match="quantizer kind must be ema, fsq, residual, not 'vq'"):
        QuantizerConfig(kind="vq")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="levels must be at least 1, not 0"):
        QuantizerConfig(kind="residual", levels=0)
    with pytest.raises(ValueError, match=r"fsq_levels must be at least 2 each, not \[8, 1\]"):
        QuantizerConfig(kind="fsq", fsq_levels=(8, 1))


@pytest.mark.parametrize(("size", "levels"), [(512, (8, 8, 8)), (1024, (8, 5, 5, 5)), (64, (8, 8)), (3, (5,))])
def test_levels_are_chosen_near_the_size(size: int, levels: tuple[int, ...]) -> None:
    assert choose_levels(size) == levels
    config = QuantizerConfig(kind="fsq", size=size)
    assert (config.size, config.dim) == (math.prod(levels), len(levels))
    assert replace(config, commitment=0.0).steps == levels


@given(st.integers(5, 10_000))
@settings(max_examples=30, deadline=None)
def test_no_other_levels_are_nearer(size: int) -> None:
    ours = abs(math.log(math.prod(choose_levels(size)) / size))
    others = (math.prod(some) for n in range(1, 7) for some in combinations_with_replacement((5, 6, 7, 8), n))
    assert ours <= min(abs(math.log(other / size)) for other in others) + 1e-12
    assert choose_levels(math.prod(choose_levels(size))) == choose_levels(size)


@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_fsq_tokens_and_codes_are_one_to_one(steps: tuple[int, ...]) -> None:
    quantizer = FiniteScalarQuantizer(QuantizerConfig(kind="fsq", fsq_levels=steps))
    codes = quantizer.codes()
    size = math.prod(steps)
    assert codes.shape == (size, len(steps))
    assert len({tuple(code) for code in codes.tolist()}) == size
    assert codes.abs().max() <= 1
    for column, count in zip(codes.T, steps, strict=True):
        expected = (np.arange(count) - count // 2) / (count // 2)
        np.testing.assert_allclose(np.unique(column.numpy()), expected, rtol=1e-6)
    # A vector that the bound carries onto a code is given that code's token and value.
    half = (torch.tensor(steps, dtype=torch.float64) - 1) * (1 + 1e-3) / 2
    offset = (torch.tensor(steps) % 2 == 0).double() / 2
    grid = codes.double() * (torch.tensor(steps) // 2)
    z = torch.atanh((grid + offset) / half) - torch.atanh(offset / half)
    assert torch.equal(quantizer.indices(z), torch.arange(size))
    torch.testing.assert_close(quantizer(z).values, codes.double())


@given(STEPS, st.floats(0.01, 1e6))
@settings(max_examples=40, deadline=None)
def test_fsq_never_leaves_its_grid(steps: tuple[int, ...], scale: float) -> None:
    quantizer = FiniteScalarQuantizer(QuantizerConfig(kind="fsq", fsq_levels=steps))
    z = scale * vectors(200, len(steps))
    token = quantizer.indices(z)
    assert token.min() >= 0 and token.max() < math.prod(steps)
    torch.testing.assert_close(quantizer(z).values, quantizer.look_up(token))


def test_fsq_keeps_zero_and_passes_the_bounds_gradient() -> None:
    quantizer = FiniteScalarQuantizer(QuantizerConfig(kind="fsq", fsq_levels=(8, 5)))
    assert quantizer(torch.zeros(2)).values.tolist() == [0.0, 0.0]
    z = vectors(10, 2).double().requires_grad_()
    (straight,) = torch.autograd.grad(quantizer(z).values.sum(), z)
    (bound,) = torch.autograd.grad((quantizer.bound(z) / torch.tensor([4, 2])).sum(), z)
    torch.testing.assert_close(straight, bound)
    assert quantizer(z).loss == 0


def test_residual_levels_add_up_and_come_nearer_level_by_level() -> None:
    quantizer = trained(KINDS["residual"], batches=30)
    assert isinstance(quantizer, ResidualQuantizer)
    z = torch.nn.functional.normalize(vectors(400, 4, seed=50), dim=1)
    out = quantizer(z)
    left, total, errors, loss = z, torch.zeros_like(z), [], 0.0
    for level in (quantizer, *quantizer.rest):
        codebook = level.codes()
        index = np.linalg.norm(left.numpy()[:, None] - codebook.numpy()[None], axis=2).argmin(1)
        if level is quantizer:
            np.testing.assert_array_equal(out.indices.numpy(), index)  # the token is the first level's
        total = total + codebook[index]
        left = z - total
        errors.append(float((left**2).sum(1).mean()))
        loss += 0.25 * errors[-1]
    torch.testing.assert_close(out.values, total, rtol=1e-4, atol=1e-5)
    assert float(out.loss) == pytest.approx(loss, rel=1e-4)
    assert all(later < 0.7 * earlier for earlier, later in pairwise(errors))


def test_plain_vq_starts_at_once_from_random_codes_and_lets_them_die() -> None:
    torch.manual_seed(0)
    plain = QuantizerConfig(size=32, dim=4, start_after=30, kmeans_start=False, revival=False, decay=0.5)
    quantizer = VectorQuantizer(plain).train()
    narrow = torch.tensor([1.0, 0.0, 0.0, 0.0]) + 0.05 * vectors(1, 200, 4)
    out = quantizer(narrow)
    assert quantizer.started and out.indices is not None
    torch.testing.assert_close(quantizer.codes().norm(dim=1), torch.ones(32))
    used = out.indices.unique()
    assert len(used) < 16
    unused = torch.tensor([i not in used for i in range(32)])
    first = quantizer.codes().clone()
    for _ in range(300):  # long enough for the averages of a dead code to vanish
        quantizer(narrow)
    assert quantizer.counts[unused].max() < 1e-30
    torch.testing.assert_close(quantizer.codes()[unused], first[unused], rtol=1e-4, atol=1e-4)
    repaired = VectorQuantizer(replace(plain, kmeans_start=True, revival=True, start_after=1)).train()
    for _ in range(20):
        repaired(narrow)
    assert len(repaired.eval()(narrow).indices.unique()) == 32


def test_residual_levels_start_from_one_pool() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(replace(KINDS["residual"], start_after=3)).train()
    for batch in range(1, 4):
        z = vectors(8, 20, 4, seed=batch)
        out = quantizer(z)
        assert [level.started for level in (quantizer, *quantizer.rest)] == [batch == 3] * 3
        if batch < 3:
            assert out.indices is None
            torch.testing.assert_close(out.values, quantizer.place(z))
    # What is left of a unit vector is shorter than it, and so is what is left of that.
    lengths = [float(level.codes().norm(dim=1).mean()) for level in (quantizer, *quantizer.rest)]
    assert all(later < 0.8 * earlier for earlier, later in pairwise(lengths))
