"""Times of calls, taken in turns."""

import gc
import time
import warnings
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from benchmarks.contenders import Contender

ROUNDS = 100
LEAST_FOR_P99 = 100


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds of one call: ``n`` calls; ``p99`` is None below :data:`LEAST_FOR_P99` calls."""

    p50: float
    p99: float | None
    max: float
    n: int


def summarise(seconds: Sequence[float]) -> Latency:
    """Percentiles of call times."""
    ms = 1e3 * np.asarray(seconds)
    p99 = round(float(np.percentile(ms, 99)), 4) if len(ms) >= LEAST_FOR_P99 else None
    return Latency(round(float(np.median(ms)), 4), p99, round(float(ms.max()), 4), len(ms))


def take_turns(
    contenders: Sequence[Contender], rounds: int = ROUNDS, advance: Callable[[], None] = lambda: None
) -> dict[str, Latency]:
    """Each contender that can run, ``rounds`` times its ``block`` calls.

    Round by round in turn, so that whatever else the machine does falls on all of them alike; one untimed round
    first. Python's garbage collector waits meanwhile: what torch and NeuroKit2 leave behind must not stop the others.
    """
    running = [(c.name, c.hop, c.block) for c in contenders if c.hop is not None]
    times: dict[str, list[float]] = {name: [] for name, _, _ in running}
    gc.collect()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a peer thinks of pandas' future is not our figure
            for turn in range(rounds + 1):
                for name, hop, block in running:
                    spent = []
                    for _ in range(block):
                        begun = time.perf_counter()
                        hop()
                        spent.append(time.perf_counter() - begun)
                    if turn:
                        times[name] += spent
                gc.collect()
                advance()
    finally:
        gc.enable()
    return {name: summarise(spent) for name, spent in times.items()}
