"""Streams through an engine hop by hop with its state, as deployed; and what a hop costs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.engines import Engine
from quantize.streams import Streams

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Replay:
    """The judged hops' outputs: ``scores`` (streams, judged, K) and ``embeddings`` (streams, judged, dim)."""

    scores: F32
    embeddings: F32


def replay(engine: Engine, streams: Streams, advance: Callable[[], None] = lambda: None) -> Replay:
    """Run every stream from an empty state; ``advance`` is called after each."""
    scores, embeddings = [], []
    for patches in streams.patches:
        state = engine.start()
        outputs = [engine.step(state, patch) for patch in patches][streams.warm :]
        scores.append(np.stack([out.scores for out in outputs]))
        embeddings.append(np.stack([out.embedding for out in outputs]))
        advance()
    return Replay(np.stack(scores), np.stack(embeddings))


def hop_times(engines: Mapping[str, Engine], patches: F32, *, rounds: int = 20, block: int = 50) -> dict[str, F64]:
    """Seconds of each hop, ``rounds * block`` per engine, on ``patches`` (hops, hop) taken in a circle.

    The engines take turns block by block, so that whatever else the machine does falls on all of them alike. One
    untimed block each comes first.
    """
    states = {name: engine.start() for name, engine in engines.items()}
    times = {name: np.zeros((rounds + 1, block)) for name in engines}
    for i in range(rounds + 1):
        for name, engine in engines.items():
            for j in range(block):
                patch = patches[(i * block + j) % len(patches)]
                begun = time.perf_counter()
                engine.step(states[name], patch)
                times[name][i, j] = time.perf_counter() - begun
    return {name: spent[1:].ravel() for name, spent in times.items()}
