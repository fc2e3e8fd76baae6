"""The figures of the fidelity report against plain recomputations, and the bootstrap against theory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantize.fidelity import af_probe
from quantize.fidelity.agreement import compare, differ, log_softmax, share
from quantize.fidelity.bootstrap import bootstrap
from quantize.fidelity.figures import Estimate, Row
from quantize.replay import Replay

RNG = np.random.default_rng(3)
STREAMS, HOPS, CODES, DIM = 6, 9, 11, 4
PATIENTS = np.array(["a", "a", "b", "b", "c", "d"])


def replays(noise: float, seed: int = 0) -> tuple[Replay, Replay]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 3, (STREAMS, HOPS, CODES)).astype(np.float32)
    embeddings = rng.normal(0, 1, (STREAMS, HOPS, DIM)).astype(np.float32)
    shaken = (scores + rng.normal(0, noise, scores.shape)).astype(np.float32)
    return Replay(scores, embeddings), Replay(shaken, (embeddings + noise).astype(np.float32))


def row_of(noise: float, seed: int = 0) -> tuple[Row, Replay, Replay]:
    reference, candidate = replays(noise, seed)
    return compare(reference, candidate, PATIENTS, "litert", "static", 1000, 0.03), reference, candidate


def test_a_perfect_engine_scores_perfectly() -> None:
    row, _, _ = row_of(0.0)
    assert (row.top1.value, row.top1.low, row.top1.high) == (1.0, 1.0, 1.0)
    assert row.top5.value == 1.0
    assert row.kl == pytest.approx(0, abs=1e-12)
    assert row.max_probability_error == 0
    assert row.cosine_min == pytest.approx(1)
    assert row.top1.n == STREAMS * HOPS
    assert row.top1.patients == 4


@settings(max_examples=20, deadline=None)
@given(noise=st.floats(0.1, 5), seed=st.integers(0, 100))
def test_figures_are_what_their_names_say(noise: float, seed: int) -> None:
    row, reference, candidate = row_of(noise, seed)
    a, b = reference.scores.reshape(-1, CODES), candidate.scores.reshape(-1, CODES)
    p, q = (np.exp(x.astype(float)) / np.exp(x.astype(float)).sum(1, keepdims=True) for x in (a, b))
    token = a.argmax(1)
    assert row.top1.value == pytest.approx(np.mean(b.argmax(1) == token))
    five = np.argsort(-b, axis=1)[:, :5]
    assert row.top5.value == pytest.approx(np.mean((five == token[:, None]).any(1)))
    sure = p.max(1) >= 0.5
    assert row.top1_confident is not None
    assert row.top1_confident.n == sure.sum()
    assert row.top1_confident.value == pytest.approx(np.mean((b.argmax(1) == token)[sure]))
    assert row.kl == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-6)
    assert row.max_probability_error == pytest.approx(np.abs(p - q).max(), rel=1e-6)
    assert row.top1.low <= row.top1.value <= row.top1.high


def test_shares_of_nothing_are_none() -> None:
    hits = np.ones((STREAMS, HOPS), dtype=bool)
    assert share(hits, ~hits, PATIENTS) is None


def test_intervals_redraw_patients_not_hops() -> None:
    """One of two patients always right, the other never: a hop-wise bootstrap would be certain of one half."""
    hits = np.repeat([[True], [False]], 1000, axis=1)
    found = share(hits, np.ones_like(hits), np.array(["x", "y"]))
    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_bootstrap_covers_a_mean_as_theory_says() -> None:
    values = RNG.normal(0, 1, 400)
    low, high = bootstrap(lambda w: (w @ values) / w.sum(1), len(values))
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(len(values)), rel=0.1)
    assert low < values.mean() < high


def test_log_softmax_survives_large_scores() -> None:
    logs = log_softmax(np.array([[1e4, 0, -1e4]], np.float32))
    assert np.isfinite(logs).all()
    assert np.exp(logs).sum() == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_auroc_equals_the_reference_implementation(seed: int) -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, 40).astype(float)  # many ties
    positive = rng.random(40) < 0.4
    positive[:2] = True, False
    weights = rng.integers(0, 4, (3, 40)).astype(float)
    weights[:, :2] += 1
    found = af_probe.weighted_auroc(values, positive, weights)
    for w, value in zip(weights, found, strict=True):
        assert value == pytest.approx(roc_auc_score(positive, values, sample_weight=w))


def test_the_probe_never_sees_the_subject_it_judges() -> None:
    """Labels that only a subject's own windows could tell leave the probe at chance or below."""
    subjects = np.repeat([f"s{i}" for i in range(12)], 10)
    af = np.repeat(np.arange(12) % 2 == 0, 10)
    own = np.repeat(RNG.normal(0, 1, (12, 16)), 10, axis=0)
    embeddings = (own[:, None] + RNG.normal(0, 0.01, (120, 3, 16))).astype(np.float32)
    decisions = af_probe.probe(embeddings, {"same": embeddings}, af, subjects)
    figures = af_probe.judge(decisions, af, subjects, redraws=50)
    assert figures["fp32"][0].value < 0.8
    assert figures["same"][1] == Estimate(0.0, 0.0, 0.0, 120, 12)


def test_a_real_difference_is_found_by_the_probe() -> None:
    subjects = np.repeat([f"s{i}" for i in range(12)], 10)
    af = np.repeat(np.arange(12) % 2 == 0, 10)
    embeddings = RNG.normal(0, 1, (120, 3, 8)).astype(np.float32)
    embeddings[:, :, 0] += 3 * af[:, None]
    broken = RNG.normal(0, 1, embeddings.shape).astype(np.float32)
    figures = af_probe.judge(af_probe.probe(embeddings, {"broken": broken}, af, subjects), af, subjects, redraws=50)
    assert figures["fp32"][0].value > 0.95
    assert figures["broken"][1].high < 0


def test_pairs_differ_where_their_tokens_do() -> None:
    reference, candidate = replays(1.0)
    pair = differ(reference, candidate, PATIENTS, ("litert static", "onnx static"))
    wanted = np.mean(reference.scores.argmax(-1) != candidate.scores.argmax(-1))
    assert pair.differ.value == pytest.approx(wanted)
    assert 0 < wanted < 1
    assert differ(reference, reference, PATIENTS, ("a", "b")).differ.value == 0
