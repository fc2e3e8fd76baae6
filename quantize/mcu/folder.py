"""The folder of C sources that ``pulsecode mcu`` writes."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.frontend import FrontendConfig
from firmware_bridge.errors import BadInput
from quantize.mcu.emit import sources
from quantize.mcu.plan import Plan
from quantize.mcu.toolchain import host_program
from quantize.mcu.vectors import PATCHES, RESULTS, packed, run_program

I16 = NDArray[np.int16]

HEADER = "pulsecode_encoder.h"
README = """# Pulsecode encoder for a microcontroller

Made by `pulsecode mcu {run}`: {layers} layers of {dim}, {heads} heads, {codes} tokens; hops of {hop} at {rate:g} Hz.
C11, integers only, no heap, no recursion, no library but `memset` and `memcpy`. Not a medical device.

    make check                  # builds it here; every bit as in results.bin
    make CC=arm-none-eabi-gcc AR=arm-none-eabi-ar CFLAGS='-std=c11 -O2 -mcpu=cortex-m4 -mthumb -DPC_USE_DSP'

A firmware links `libpulsecode.a` and includes `pulsecode_frontend.h` (raw counts to patches) and `pulsecode_encoder.h`
(patches to tokens); the formats are described there. `run_vectors.c` and `board.*` are for tests only.
After a start or a gap, call `pc_frontend_init` and `pc_init`, and do not believe the first {warmup} tokens.
"""


def check_folder(out: Path) -> None:
    """Raise :class:`BadInput` where ``out`` holds anything but what an earlier call wrote."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"mcu: --out {out} is a file; give a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / HEADER).exists():
        raise BadInput(f"mcu: --out {out} is not empty and holds no {HEADER}; give another folder")


def write_sources(
    out: Path, plan: Plan, frontend: FrontendConfig, *, run: str, warmup_hops: int, vectors: Sequence[I16] = ()
) -> None:
    """Write the sources to ``out``; with ``vectors``, streams of patches, also those and what the encoder says to
    them on this computer (needs a C compiler)."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in sources(plan, frontend, warmup_hops).items():
        (out / name).write_text(text, encoding="utf-8")
    config = plan.config
    text = README.format(
        run=run,
        layers=config.layers,
        dim=config.dim,
        heads=config.heads,
        codes=config.codebook_size,
        hop=config.hop,
        rate=frontend.rate,
        warmup=warmup_hops,
    )
    (out / "README.md").write_text(text, encoding="utf-8")
    if vectors:
        with tempfile.TemporaryDirectory() as place:
            program = host_program(out, Path(place) / "run_vectors")
            (out / RESULTS).write_bytes(run_program(program, vectors))
        (out / PATCHES).write_bytes(packed(vectors))
