"""Cross-compiled: the same bits on emulated chips, nothing borrowed from a float library, and honest sizes."""

import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_mcu

from firmware_bridge.errors import BadInput
from quantize.mcu import toolchain
from quantize.mcu.boards import Board, emulate, weigh
from quantize.mcu.plan import Plan
from quantize.mcu.toolchain import BUILDS, CORES, LIBRARY, STANDARD, Footprint, host_program
from quantize.mcu.vectors import as_patches
from quantize.progress import Steps
from trainer.encoder import EncoderConfig

# No size is a multiple of a tile, so that the DSP's four at a time have a rest.
CONFIG = EncoderConfig(hop=22, dim=18, layers=2, heads=2, mlp=3, context=4, codebook_size=31)

Written = tuple[Plan, Path]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    tiny_mcu.need("gcc", "arm-none-eabi-gcc", "arm-none-eabi-size")
    made = tiny_mcu.plan(tiny_mcu.encoder(CONFIG, 8))
    return made, tiny_mcu.written(made, tmp_path_factory.mktemp("mcu"))


def test_emulated_boards_say_the_same_bits(written: Written, tmp_path: Path) -> None:
    tiny_mcu.need("qemu-system-arm")
    made, folder = written
    program = host_program(folder, tmp_path / "program")
    streams = [as_patches(tiny_mcu.patches(CONFIG, hops, hops)) for hops in (9, 3)]
    with Steps() as steps:
        boards = emulate(folder, weigh(folder, steps), program, streams, steps)
    assert [(b.core, b.build) for b in boards] == [(c.name, b) for c in CORES for b in BUILDS]
    assert all(board.same for board in boards)
    inner = ("query", "key", "value", "out", "expand", "contract")
    layers = [made.embed, made.head, *(getattr(block, name) for block in made.blocks for name in inner)]
    weights = sum(layer.weight.size for layer in layers)
    rings = 2 * 2 * CONFIG.layers * CONFIG.context * CONFIG.dim
    for board in boards:
        size = board.footprint
        assert weights < size.flash < weights + 40_000
        assert 1_000 < size.code < 10_000
        assert rings < size.ram < rings + 4_000
        assert 100 < size.stack < 1_000
        assert board.instructions is not None and board.cycles is not None
        assert weights < board.instructions < board.cycles
    by_build = {(b.core, b.build): b.instructions or 0 for b in boards}
    assert all(by_build[core.name, "-O2, DSP"] < by_build[core.name, "-O2"] for core in CORES)


def test_a_board_that_says_something_else_is_noticed(written: Written, tmp_path: Path) -> None:
    tiny_mcu.need("qemu-system-arm")
    folder = written[1]
    other = tmp_path / "other"
    tiny_mcu.written(tiny_mcu.plan(tiny_mcu.encoder(CONFIG, 9)), other)
    program = host_program(other, tmp_path / "program")
    weighed = [Board(CORES[0].name, "-O2", Footprint(0, 0, 0, 0))]
    with Steps() as steps:
        boards = emulate(folder, weighed, program, [as_patches(tiny_mcu.patches(CONFIG, 4))], steps)
    assert boards[0].same is False
    assert msgspec.json.decode(msgspec.json.encode(boards[0]))["same"] is False


@pytest.mark.parametrize("build", BUILDS)
def test_no_float_and_no_library_but_memset_and_memcpy(written: Written, build: str, tmp_path: Path) -> None:
    folder = written[1]
    flags = [*STANDARD, *CORES[0].flags, *BUILDS[build], "-mfloat-abi=soft", "-I", str(folder)]
    subprocess.run(["arm-none-eabi-gcc", *flags, "-c", *(folder / name for name in LIBRARY)], cwd=tmp_path, check=True)
    objects = sorted(str(path) for path in tmp_path.glob("*.o"))
    listed = subprocess.run(["arm-none-eabi-nm", *objects], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in listed.splitlines() if line and not line.endswith(":")]
    wanted = {row[-1] for row in rows if row[-2] == "U"} - {row[-1] for row in rows if row[-2] != "U"}
    assert wanted <= {"memset", "memcpy"}
    assert not [row for row in rows if row[-2] in "bBdD"]  # no state of its own, and every table is const


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.shutil, "which", lambda _: None)
    with pytest.raises(BadInput, match="apt install gcc-arm-none-eabi libnewlib-arm-none-eabi"):
        toolchain.tool("arm-none-eabi-gcc")


def test_a_failing_compiler_is_quoted(tmp_path: Path) -> None:
    tiny_mcu.need("gcc")
    (tmp_path / "bad.c").write_text("int main(void) { return undeclared; }\n")
    with pytest.raises(RuntimeError, match="undeclared"):
        toolchain.call(["gcc", "-c", "bad.c"], tmp_path)
    assert np.array_equal([path.name for path in tmp_path.iterdir()], ["bad.c"])
