"""The encoder on an emulated Cortex-M: the same bits as on this computer, and how many instructions a hop takes.

QEMU is not a cycle model. With ``-icount shift=0`` its clock goes on by one nanosecond an instruction, so the chip's
own timer counts instructions; cycles are estimated from them.
"""

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantize.mcu.toolchain import HARNESS, LIBRARY, STANDARD, Core, call, tool
from quantize.mcu.vectors import PATCHES, RESULTS, packed

I16 = NDArray[np.int16]

# A load costs 2 cycles unless another follows it, a taken branch 2 to 4 (Arm, Cortex-M4 Technical Reference Manual,
# 3.3); counted by hand over the inner loop this is 1.1 cycles an instruction, and more around it.
CYCLES_PER_INSTRUCTION = 1.25
TIMEOUT = 300.0


@dataclass(frozen=True)
class BoardRun:
    """The bytes that the harness wrote on the board, and instructions a hop."""

    results: bytes
    instructions: float


def run_on_board(folder: Path, core: Core, flags: Sequence[str], streams: Iterable[I16]) -> BoardRun:
    """Build the sources in ``folder`` for ``core`` and run them over ``streams`` of patches."""
    emulator, compiler = tool("qemu-system-arm"), tool("arm-none-eabi-gcc")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / PATCHES).write_bytes(packed(streams))
        starts = {"CODE_START": core.code_start, "DATA_START": core.data_start}
        call(
            [
                compiler,
                *STANDARD,
                *core.flags,
                *flags,
                "-DPC_BOARD",
                "-I",
                folder,
                *(folder / source for source in (*LIBRARY, HARNESS, "board.c")),
                "--specs=rdimon.specs",
                "-nostartfiles",
                "-T",
                folder / "board.ld",
                *(f"-Wl,--defsym,{symbol}={address:#x}" for symbol, address in starts.items()),
                "-o",
                "encoder.elf",
            ],
            place,
        )
        semihosting = ("-semihosting-config", "enable=on,target=native")
        counted = ("-icount", "shift=0", "-nographic", "-kernel", "encoder.elf")
        said = call([emulator, "-M", core.machine, *semihosting, *counted], place, timeout=TIMEOUT)
        found = re.search(r"hops (\d+) kiloticks (\d+) per-million (\d+)", said)
        if found is None:
            raise RuntimeError(f"{core.name}: the emulated board said {said[-200:]!r}")
        hops, kiloticks, per_million = map(int, found.groups())
        return BoardRun((place / RESULTS).read_bytes(), kiloticks * 1e9 / per_million / hops)
