"""Are the C code's tokens those of the Python engines, on people nobody learned from?"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.engines import Engine
from quantize.export import TorchStep
from quantize.fidelity.agreement import CONFIDENT, log_softmax, share
from quantize.fidelity.figures import Estimate
from quantize.mcu.plan import Plan
from quantize.mcu.toolchain import host_program
from quantize.mcu.vectors import as_patches, run_program, unpacked
from quantize.progress import Steps
from quantize.replay import Replay, replay
from quantize.streams import Streams
from trainer.encoder import Encoder

Bools = NDArray[np.bool_]

BATCH = 20  # streams a run of the program, so that progress shows


class Agreement(msgspec.Struct, frozen=True):
    """``first`` and ``second`` say the same token: at all hops, and at those where fp32's probability is at least
    :data:`quantize.fidelity.agreement.CONFIDENT`. ``cosine``: the embeddings', mean over hops."""

    first: str
    second: str
    everywhere: Estimate
    confident: Estimate | None
    cosine: float


def native_replay(folder: Path, plan: Plan, streams: Streams, steps: Steps) -> Replay:
    """The C sources in ``folder``, built for this computer with its sanitizers on, along ``streams``."""
    with tempfile.TemporaryDirectory() as name:
        program = host_program(folder, Path(name) / "run_vectors", sanitize=True)
        advance = steps.track("C on this computer", len(streams))
        scores, embeddings = [], []
        for start in range(0, len(streams), BATCH):
            patches = [as_patches(stream) for stream in streams.patches[start : start + BATCH]]
            results = unpacked(run_program(program, patches), plan)
            shape = (len(patches), streams.warm + streams.judged, -1)
            assert np.array_equal(results.tokens, results.scores.argmax(-1)), "the token is the best score"
            scores.append(results.scores.reshape(shape)[:, streams.warm :])
            embeddings.append(results.embeddings.reshape(shape)[:, streams.warm :])
            for _ in patches:
                advance()
    return Replay(np.concatenate(scores), np.concatenate(embeddings))


def _pair(names: tuple[str, str], pair: tuple[Replay, Replay], sure: Bools, streams: Streams) -> Agreement:
    first, second = pair
    same = first.scores.argmax(-1) == second.scores.argmax(-1)
    everywhere = share(same, np.ones_like(same), streams.patients)
    assert everywhere is not None, "streams have hops"
    a, b = first.embeddings.astype(np.float64), second.embeddings.astype(np.float64)
    norms = np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)
    cosine = float(((a * b).sum(-1) / norms).mean())
    return Agreement(*names, everywhere, share(same, sure, streams.patients), cosine)


def judge(
    encoder: Encoder,
    native: Replay,
    twins: Mapping[str, Encoder],
    engines: Mapping[str, Engine],
    streams: Streams,
    steps: Steps,
) -> list[Agreement]:
    """The C code's ``native`` replay of ``streams`` beside the fp32 encoder, its float ``twins`` and the Python
    ``engines``, and all of those beside fp32."""
    contenders: dict[str, Engine] = {"fp32": TorchStep(encoder)}
    contenders |= {name: TorchStep(twin) for name, twin in twins.items()} | dict(engines)
    replays = {"C": native}
    for name, engine in contenders.items():
        replays[name] = replay(engine, streams, steps.track(name, len(streams)))
    sure = np.stack([np.exp(log_softmax(scores).max(-1)) >= CONFIDENT for scores in replays["fp32"].scores])
    pairs = [("C", name) for name in contenders] + [(name, "fp32") for name in contenders if name != "fp32"]
    return [_pair(pair, (replays[pair[0]], replays[pair[1]]), sure, streams) for pair in pairs]
