"""Known answers: a bundle's engines, run on this machine, against what they said where the bundle was made.

The same model in the same library may round differently on another processor (vector instructions, fused additions),
and an argmax between two nearly equal tokens then flips. So an engine passes if it gives the tokens that it gave where
it was judged at 97 % of the hops, and at 99 % of those where the choice is clear.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bundle.load import Bundle
from edge.bundle.manifest import KnownAnswers
from edge.engines import ENGINES, Engine, open_engine
from edge.frontend import F32
from edge.npy import read_array
from firmware_bridge.errors import BadInput

MIN_SAME, MIN_SAME_CLEAR = 0.97, 0.99
MAX_BYTES = 60_000  # of both files together
FP32, CLEAR = "fp32", "clear"

I32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Answered:
    """How many of ``hops`` tokens are those that the engine gave on the machine ``made_on``, and those of fp32;
    the same for the ``clear`` hops, where fp32's best token is at least
    twice as likely as the next."""

    engine: str
    made_on: str
    hops: int
    same: int
    fp32: int
    clear: int
    clear_same: int
    clear_fp32: int

    @property
    def passed(self) -> bool:
        """Whether the engine may be believed here."""
        return self.same >= MIN_SAME * self.hops and self.clear_same >= MIN_SAME_CLEAR * self.clear

    def __str__(self) -> str:
        return (
            f"{self.engine}: {self.same} of {self.hops} tokens as on {self.made_on} "
            f"(clear ones {self.clear_same} of {self.clear}), {self.fp32} as fp32 (clear ones {self.clear_fp32})"
        )


def tokens_of(engine: Engine, patches: F32) -> I32:
    """The token at each hop of one stream from an empty state: (hops, hop) → (hops,)."""
    state = engine.start()
    return np.array([int(engine.step(state, patch).scores.argmax()) for patch in patches], np.int32)


def installed(bundle: Bundle) -> list[str]:
    """The bundle's engines that are installed here."""
    return [name for name in bundle.manifest.engines if name in ENGINES and ENGINES[name].installed()]


def ask(bundle: Bundle, engine: str) -> Answered:
    """Run one engine on the bundle's test vectors. Raises :class:`BadInput` if there are none or they are damaged."""
    vectors = bundle.manifest.vectors
    if vectors is None:
        raise BadInput(f"bundle {bundle.path}: holds no test vectors; make it again with `pulsecode quantize`")
    patches, answers = _read(bundle, vectors)
    if engine not in answers:
        raise BadInput(f"bundle {bundle.path}: vectors.rows has no answers of engine {engine!r}")
    found = tokens_of(open_engine(bundle, engine), patches)
    clear = answers[CLEAR] == 1
    same, fp32 = found == answers[engine], found == answers[FP32]
    return Answered(
        engine,
        vectors.made_on,
        hops=len(found),
        same=int(same.sum()),
        fp32=int(fp32.sum()),
        clear=int(clear.sum()),
        clear_same=int(same[clear].sum()),
        clear_fp32=int(fp32[clear].sum()),
    )


def _read(bundle: Bundle, vectors: KnownAnswers) -> tuple[F32, dict[str, I32]]:
    patches, answers = read_array(bundle, vectors.patches), read_array(bundle, vectors.answers)
    hop = bundle.manifest.frontend.hop
    if patches.dtype != np.float32 or patches.ndim != 2 or patches.shape[1] != hop or not np.isfinite(patches).all():
        raise BadInput(f"bundle {bundle.path}: {vectors.patches} must be finite float32 of shape (hops, {hop})")
    shape = (len(vectors.rows), len(patches))
    if answers.dtype != np.int32 or answers.shape != shape:
        raise BadInput(f"bundle {bundle.path}: {vectors.answers} must be int32 of shape {shape}")
    return patches, dict(zip(vectors.rows, answers, strict=True))
