"""What the encoder takes of each chip: flash, RAM, stack, instructions; and that it says the same bits there."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from quantize.mcu.emulator import CYCLES_PER_INSTRUCTION, run_on_board
from quantize.mcu.toolchain import BUILDS, CORES, Footprint, footprint
from quantize.mcu.vectors import run_program
from quantize.progress import Steps

I16 = NDArray[np.int16]


class Board(msgspec.Struct, frozen=True):
    """One core and one way to build. ``instructions`` a hop, counted by the emulator, ``cycles`` estimated from them;
    ``same`` bits as on this computer. The last three are None where it was not run."""

    core: str
    build: str
    footprint: Footprint
    instructions: int | None = None
    cycles: int | None = None
    same: bool | None = None


def weigh(folder: Path, steps: Steps) -> list[Board]:
    """Flash, RAM and stack for every core and build of the sources in ``folder``."""
    advance = steps.track("cross-compiling", len(CORES) * len(BUILDS))
    boards = []
    for core in CORES:
        for build, flags in BUILDS.items():
            boards.append(Board(core.name, build, footprint(folder, core, flags)))
            advance()
    return boards


def emulate(folder: Path, boards: Sequence[Board], program: Path, streams: Sequence[I16], steps: Steps) -> list[Board]:
    """``boards`` with what the emulator says of each, beside ``program``, the same sources built for this computer."""
    wanted = run_program(program, streams)
    advance = steps.track("emulated boards", len(boards))
    out = []
    for board in boards:
        core = next(core for core in CORES if core.name == board.core)
        run = run_on_board(folder, core, BUILDS[board.build], streams)
        instructions, cycles = round(run.instructions), round(CYCLES_PER_INSTRUCTION * run.instructions)
        same = run.results == wanted
        out.append(msgspec.structs.replace(board, instructions=instructions, cycles=cycles, same=same))
        advance()
    return out
