"""Patches into the compiled encoder and results out of it, as files that its harness reads and writes."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantize.mcu.fixed_point import PATCH_BITS, PATCH_LIMIT
from quantize.mcu.plan import Plan
from quantize.mcu.toolchain import call

F32 = NDArray[np.float32]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]

PATCHES, RESULTS = "patches.bin", "results.bin"


@dataclass(frozen=True)
class Results:
    """What the C code said at each hop: ``tokens`` (hops,) int32, ``scores`` (hops, K) and ``embeddings`` (hops, dim)
    float32 again; ``filtered`` (hops, hop): the front end's patches from the same numbers taken as raw counts."""

    tokens: I32
    scores: F32
    embeddings: F32
    filtered: F32


def as_patches(patches: F32) -> I16:
    """Patches as the C code takes them, Q12."""
    return np.asarray(np.clip(np.rint(patches * 2.0**PATCH_BITS), -PATCH_LIMIT, PATCH_LIMIT - 1), np.int16)


def packed(streams: Iterable[I16]) -> bytes:
    """Streams of patches, each (hops, hop), as the harness reads them."""
    return b"".join(np.array(len(s), "<i4").tobytes() + s.astype("<i2").tobytes() for s in streams)


def unpacked(data: bytes, plan: Plan) -> Results:
    """What the harness wrote."""
    config = plan.config
    fields = [("token", "<i4", 1), ("scores", "<i4", config.codebook_size), ("embedding", "<i2", config.dim)]
    rows = np.frombuffer(data, np.dtype([*fields, ("filtered", "<i2", config.hop)]))

    def floats(field: str, bits: int) -> F32:
        return np.asarray(rows[field] * 2.0**-bits, np.float32)

    return Results(
        rows["token"].reshape(-1),
        floats("scores", plan.head.bits),
        floats("embedding", plan.norm.bits),
        floats("filtered", PATCH_BITS),
    )


def run_program(program: Path, streams: Iterable[I16]) -> bytes:
    """The results of :func:`~quantize.mcu.toolchain.host_program` on ``streams``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / PATCHES).write_bytes(packed(streams))
        call([program, PATCHES, RESULTS], folder)
        return (folder / RESULTS).read_bytes()
