"""Known answers for a bundle: a stream that the virtual body plays, and the tokens that fp32 and each engine say to it.

The stream is synthetic because it ships: no recording leaves its data set. :mod:`edge.bundle.vectors` is the check that
they serve.
"""

import platform
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edge.bundle import KnownAnswers
from edge.bundle.vectors import CLEAR, FP32, MAX_BYTES, tokens_of
from edge.engines import Engine
from edge.frontend import F32, Frontend, FrontendConfig
from edge.npy import npy_bytes
from firmware_bridge.block import SampleBlock, Signal
from firmware_bridge.source import open_source

PATCHES, ANSWERS = "vectors-patches.npy", "vectors-answers.npy"
TIMES = 2.0  # so much likelier than the next a clear token is, at least
MAX_HOPS = 250
# Sinus rhythm, motion, fibrillation, a pause, and after the cable was out; then the same with other noise.
SOURCE = "sim:story?seed=7&duration={seconds:g}&rate={rate:g}"


def known_answers(
    reference: Engine, engines: Mapping[str, Engine], signal: Signal, frontend: FrontendConfig
) -> tuple[KnownAnswers, dict[str, bytes]]:
    """The manifest's part and its two files; ``reference`` is the encoder in fp32, ``engines`` those that ship."""
    hops = min(MAX_HOPS, MAX_BYTES // (4 * (frontend.hop + 3 + len(engines))))
    patches = _patches(signal, frontend, hops)
    answers = {FP32: tokens_of(reference, patches), CLEAR: _clear(reference, patches)}
    answers |= {name: tokens_of(engine, patches) for name, engine in engines.items()}
    vectors = KnownAnswers(PATCHES, ANSWERS, list(answers), made_on=f"{platform.system()} {platform.machine()}")
    return vectors, {PATCHES: npy_bytes(patches), ANSWERS: npy_bytes(np.stack(list(answers.values())))}


def _patches(signal: Signal, config: FrontendConfig, hops: int) -> F32:
    """(hops, hop) of the virtual body's signal, sampled on the model's own grid; lost samples are left out."""
    # A third more than is needed, for what is lost while the cable is out.
    uri = SOURCE.format(seconds=np.ceil(4 / 3 * hops * config.hop_seconds), rate=config.rate)
    source = open_source(uri, signal)
    values = np.concatenate([block.values for block in source if isinstance(block, SampleBlock)])
    samples = source.info.scale * values[: hops * config.hop].astype(np.float64).reshape(hops, config.hop)
    frontend = Frontend(config)
    state = frontend.start()
    return np.stack([frontend.step(state, hop)[1] for hop in samples])


def _clear(engine: Engine, patches: F32) -> NDArray[np.int32]:
    """1 where the best token is :data:`TIMES` as likely as the next: scores are logarithms of odds."""
    state = engine.start()
    scores = np.stack([engine.step(state, patch).scores for patch in patches])
    second, best = np.sort(scores, -1)[:, -2:].T
    clear: NDArray[np.int32] = (best - second >= np.log(TIMES)).astype(np.int32)
    return clear
