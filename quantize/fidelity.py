"""What int8 costs: each engine and method against the fp32 PyTorch step form, on people nobody learned from.

Everything is measured as deployed: hop by hop, with the engine's own state, so an error that feeds back through the
rings is in the figures. Intervals are 95 % percentile bootstraps that redraw whole patients, since hops of one
person are not independent.
"""

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from quantize.replay import Replay

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

CONFIDENT = 0.5  # a token whose fp32 probability is at least this is one that a decision may rest on
REDRAWS = 2000


class Estimate(msgspec.Struct, frozen=True):
    """A figure with its 95 % interval; ``n`` hops (or windows) of ``patients`` people. NaN-free: None if n is 0."""

    value: float
    low: float
    high: float
    n: int
    patients: int


class Row(msgspec.Struct, frozen=True):
    """One engine and method.

    ``top1``: share of hops with fp32's token; ``top1_confident``: the same where fp32's probability is at least
    :data:`CONFIDENT`; ``top5``: fp32's token is among the five best; ``kl``: mean KL(fp32 ‖ this), nats;
    ``max_probability_error``: the largest |Δp| of any code at any hop; ``cosine_mean``/``cosine_min`` of the
    embeddings; ``task``: the task's figure; ``task_change``: this minus fp32, paired by patient.
    """

    engine: str
    method: str
    bytes: int
    ms_per_hop: float
    top1: Estimate
    top1_confident: Estimate | None
    top5: Estimate
    kl: float
    max_probability_error: float
    cosine_mean: float
    cosine_min: float
    task: Estimate | None = None
    task_change: Estimate | None = None


class Report(msgspec.Struct, frozen=True):
    """The fidelity of every engine and method of one run. ``judged_on`` and ``task_name`` say on what."""

    run: str
    signal: str
    judged_on: str
    streams: int
    hops: int
    patients: int
    calibrated_on: str
    machine: str
    torch_ms_per_hop: float
    task_name: str
    task_fp32: Estimate | None
    rows: list[Row]


def bootstrap(statistic: Callable[[F64], F64], people: int, *, redraws: int = REDRAWS) -> tuple[float, float]:
    """95 % interval of ``statistic`` over redrawn people.

    ``statistic`` takes weights, (redraws, people): how often each person was drawn, and returns (redraws,); values
    that are not finite (a redraw without any event) are left out.
    """
    draws = np.random.default_rng(0).multinomial(people, np.full(people, 1 / people), size=redraws)
    values = statistic(draws.astype(np.float64))
    low, high = np.nanpercentile(values[np.isfinite(values)], [2.5, 97.5])
    return float(low), float(high)


def share(hits: NDArray[np.bool_], counted: NDArray[np.bool_], patients: NDArray[np.str_]) -> Estimate | None:
    """Share of ``hits`` among ``counted`` hops, both (streams, hops), with its interval over ``patients``."""
    people, who = np.unique(patients, return_inverse=True)
    n = np.bincount(who, counted.sum(1), len(people))
    k = np.bincount(who, (hits & counted).sum(1), len(people))
    total = int(n.sum())
    if not total:
        return None

    def ratio(weights: F64) -> F64:
        with np.errstate(invalid="ignore"):
            return np.asarray((weights @ k) / (weights @ n))

    low, high = bootstrap(ratio, len(people))
    return Estimate(float(k.sum() / total), low, high, total, int(np.count_nonzero(n)))


def log_softmax(scores: F32) -> F64:
    """Log probabilities over the last axis, float64."""
    x = scores.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(-1, keepdims=True)))


def compare(
    reference: Replay, candidate: Replay, patients: NDArray[np.str_], engine: str, method: str, size: int, ms: float
) -> Row:
    """The row of one engine and method; ``size`` bytes of its file, ``ms`` median milliseconds a hop."""
    tokens = reference.scores.argmax(-1)
    everything = np.ones(tokens.shape, dtype=bool)
    agree = candidate.scores.argmax(-1) == tokens
    own = np.take_along_axis(candidate.scores, tokens[..., None], -1)
    among_five = (candidate.scores > own).sum(-1) < 5
    kl, worst = 0.0, 0.0
    confident = np.zeros(tokens.shape, dtype=bool)
    for i, (wanted, found) in enumerate(zip(reference.scores, candidate.scores, strict=True)):
        log_p, log_q = log_softmax(wanted), log_softmax(found)
        p = np.exp(log_p)
        kl += float((p * (log_p - log_q)).sum())
        worst = max(worst, float(np.abs(p - np.exp(log_q)).max()))
        confident[i] = p.max(-1) >= CONFIDENT
    a, b = reference.embeddings.astype(np.float64), candidate.embeddings.astype(np.float64)
    cosine = (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)
    top1, top5 = share(agree, everything, patients), share(among_five, everything, patients)
    assert top1 is not None, "streams have hops"
    assert top5 is not None, "streams have hops"
    return Row(
        engine=engine,
        method=method,
        bytes=size,
        ms_per_hop=ms,
        top1=top1,
        top1_confident=share(agree, confident, patients),
        top5=top5,
        kl=kl / tokens.size,
        max_probability_error=worst,
        cosine_mean=float(cosine.mean()),
        cosine_min=float(cosine.min()),
    )
