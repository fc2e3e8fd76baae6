"""What int8 costs: each engine and method against the fp32 PyTorch step form, on people nobody learned from.

Everything is measured as deployed: hop by hop, with the engine's own state, so an error that feeds back through the
rings is in the figures. Intervals are 95 % percentile bootstraps that redraw whole patients, since hops of one
person are not independent.
"""

import numpy as np
from numpy.typing import NDArray

from quantize.fidelity.bootstrap import bootstrap
from quantize.fidelity.figures import Estimate, Pair, Row
from quantize.replay import Replay

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

CONFIDENT = 0.5  # a token whose fp32 probability is at least this is one that a decision may rest on


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


def differ(first: Replay, second: Replay, patients: NDArray[np.str_], names: tuple[str, str]) -> Pair:
    """How often two artefacts say different tokens."""
    unequal = first.scores.argmax(-1) != second.scores.argmax(-1)
    found = share(unequal, np.ones_like(unequal), patients)
    assert found is not None, "streams have hops"
    return Pair(*names, found)
