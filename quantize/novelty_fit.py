"""The novelty model of a bundle: a bigram of normal tokens, and what surprise is usual.

Fitted through the very engine that ships, so int8's own quirks count as normal. Transitions come from training
people's windows, the usual surprise (the p-value's scale) from validation people's; test people then tell whether a
p-value below 0.05 really comes 5 % of the time.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bundle import NoveltyModel
from edge.engines import Engine
from edge.novelty import Novelty, NoveltyState
from quantize.progress import Steps
from quantize.replay import replay
from quantize.streams import Streams

F64 = NDArray[np.float64]

FILE = "transitions.npy"
SCALE = 20.0  # steps a nat: 255 steps reach 12.75 nats, e^-12.75 is one in 340,000
PRIOR = 20.0  # observations' worth of the tokens' plain frequencies in each row
SMOOTHING_HOPS = 10
LEVELS = 201
ALERT = 0.05


@dataclass(frozen=True)
class FittedNovelty:
    """The model, the bytes of its file, and the share of test time with p < 0.05 (should be near 0.05)."""

    model: NoveltyModel
    transitions: bytes
    metrics: dict[str, float | str]


def softmax(scores: NDArray[np.float32]) -> F64:
    """Over the last axis, float64."""
    shifted = np.exp(scores.astype(np.float64) - scores.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def transition_table(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``scores`` (streams, hops, K) → ``-log P(next | previous)`` in 1/SCALE nats, uint8, (K+1, K).

    Each hop adds its whole distribution to the row of the token before it, so that look-alike tokens share their
    evidence; rows lean on the plain frequencies where little was seen. The last row is those frequencies.
    """
    size = scores.shape[-1]
    probability = softmax(scores)
    usual = probability.reshape(-1, size).mean(0) + 1e-6
    usual /= usual.sum()
    counts = np.zeros((size, size))
    np.add.at(counts, scores[:, :-1].argmax(-1).ravel(), probability[:, 1:].reshape(-1, size))
    rows = counts + PRIOR * usual
    table = np.vstack([rows / rows.sum(1, keepdims=True), usual])
    return np.asarray(np.clip(np.round(-SCALE * np.log(table)), 0, 255), np.uint8)


def surprises(novelty: Novelty, scores: NDArray[np.float32]) -> F64:
    """The smoothed surprise of each hop of each stream, as the device computes it; (streams, n)."""
    probability = softmax(scores).astype(np.float32)
    rows = []
    for stream, p in zip(scores, probability, strict=True):
        state = NoveltyState()
        values = [novelty.step(state, int(s.argmax()), q) for s, q in zip(stream, p, strict=True)]
        rows.append([value for value in values if value is not None])
    return np.array(rows)


def fit_novelty(engine: Engine, training: Streams, validation: Streams, test: Streams, steps: Steps) -> FittedNovelty:
    """Fit on ``training``, calibrate on ``validation``, check on ``test``."""
    found = {
        name: replay(engine, streams, steps.track(f"novelty: {name} people", len(streams))).scores
        for name, streams in (("training", training), ("validation", validation), ("test", test))
    }
    table = transition_table(found["training"])
    size = table.shape[1]
    blank = NoveltyModel(FILE, SCALE, SMOOTHING_HOPS, [0.0, 1.0], "")
    scores = surprises(Novelty(blank, table, size), found["validation"])
    people = len(np.unique(validation.patients))
    model = NoveltyModel(
        transitions=FILE,
        scale=SCALE,
        smoothing_hops=SMOOTHING_HOPS,
        quantiles=np.quantile(scores, np.linspace(0, 1, LEVELS)).tolist(),
        calibrated_on=f"{people} validation people, {len(validation)} windows that passed the quality gate",
    )
    fitted = Novelty(model, table, size)
    p = np.array([fitted.p_value(float(value)) for value in surprises(fitted, found["test"]).ravel()])
    file = io.BytesIO()
    np.save(file, table, allow_pickle=False)
    metrics: dict[str, float | str] = {
        f"novelty p < {ALERT:g}, share of test people's good windows": round(float((p < ALERT).mean()), 4)
    }
    return FittedNovelty(model, file.getvalue(), metrics)
