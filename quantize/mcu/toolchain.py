"""Compilers: the host's for the proof, GNU Arm's for flash, RAM and stack."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from firmware_bridge.errors import BadInput

STANDARD = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wsign-conversion", "-Wpedantic")
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LIBRARY = ("pulsecode_encoder.c", "pulsecode_frontend.c", "pulsecode_model.c")
HARNESS = "run_vectors.c"
PACKAGES = {
    "gcc": "gcc",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "arm-none-eabi-size": "binutils-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
}


@dataclass(frozen=True)
class Core:
    """A Cortex-M, and the board by which QEMU emulates it: its machine, where its code and its data begin."""

    name: str
    cpu: str
    machine: str
    code_start: int
    data_start: int

    @property
    def flags(self) -> tuple[str, ...]:
        """For the compiler."""
        return (f"-mcpu={self.cpu}", "-mthumb")


CORES = (
    Core("Cortex-M4", "cortex-m4", "mps2-an386", 0x0000_0000, 0x2000_0000),
    Core("Cortex-M33", "cortex-m33", "mps2-an505", 0x1000_0000, 0x3800_0000),
)
BUILDS = {"-Os": ("-Os",), "-O2": ("-O2",), "-O2, DSP": ("-O2", "-DPC_USE_DSP")}


class Footprint(msgspec.Struct, frozen=True):
    """Bytes that the encoder takes of a chip: ``flash`` in all, of which ``code`` is not constants; ``ram`` of one
    stream's state; ``stack`` of the deepest call, from the compiler's own account."""

    flash: int
    code: int
    ram: int
    stack: int


def tool(name: str) -> str:
    """Where a program is; raises :class:`BadInput` that says what to install."""
    found = shutil.which(name)
    if found is None:
        raise BadInput(f"mcu: {name} is not installed; on Debian: sudo apt install {PACKAGES[name]}")
    return found


def call(command: Sequence[str | Path], folder: Path, *, timeout: float = 600) -> str:
    """Run a compiler or an emulator in ``folder``; its standard output. :class:`RuntimeError` if it fails, with the
    last lines it said: the sources are ours, so this is a bug here and not the user's."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stderr + done.stdout).splitlines()[-12:])
        raise RuntimeError(f"{Path(command[0]).name} failed with status {done.returncode}:\n{tail}")
    return done.stdout


def host_program(folder: Path, into: Path, *, sanitize: bool = False) -> Path:
    """The sources in ``folder`` built with the harness for this computer; the program's path."""
    flags = (*STANDARD, *(SANITIZE if sanitize else ("-O2",)))
    call([tool("gcc"), *flags, "-I", folder, *(folder / name for name in (*LIBRARY, HARNESS)), "-o", into], folder)
    return into


def footprint(folder: Path, core: Core, flags: Sequence[str]) -> Footprint:
    """Build the sources in ``folder`` for ``core`` and weigh them."""
    compiler, weigher = tool("arm-none-eabi-gcc"), tool("arm-none-eabi-size")
    with tempfile.TemporaryDirectory() as name:
        objects = Path(name)
        state = objects / "state.c"
        state.write_text(
            '#include "pulsecode_encoder.h"\n#include "pulsecode_frontend.h"\npc_state s;\npc_frontend f;\n'
        )
        files = [*(folder / source for source in LIBRARY), state]
        call([compiler, *STANDARD, *core.flags, *flags, "-fcallgraph-info=su", "-I", folder, "-c", *files], objects)
        weights = {path.stem: _sections(weigher, path) for path in objects.glob("*.o")}
        graph = "".join(path.read_text() for path in objects.glob("*.ci"))
    flash = sum(text + data for text, data, _ in weights.values())
    constants, model_data, _ = weights["pulsecode_model"]
    ram = sum(data + bss for _, data, bss in weights.values())
    return Footprint(flash, flash - constants - model_data, ram, deepest_stack(graph))


def _sections(weigher: str, path: Path) -> tuple[int, int, int]:
    """Bytes of text with constants, initialised data, and zeroed data of an object."""
    text, data, bss = call([weigher, path], path.parent).splitlines()[1].split()[:3]
    return int(text), int(data), int(bss)


def deepest_stack(graph: str) -> int:
    """Bytes on the stack of the deepest chain of calls in GCC's call graph (``-fcallgraph-info=su``). What a library
    function needs is not in it."""
    nodes = re.findall(r'node: \{ title: "([^"]+)" label: "[^"]*?(\d+) bytes \(static\)', graph)
    own = {title: int(size) for title, size in nodes}
    calls: dict[str, set[str]] = {}
    for caller, callee in re.findall(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', graph):
        calls.setdefault(caller, set()).add(callee)

    def depth(function: str, above: tuple[str, ...] = ()) -> int:
        if function in above:
            raise RuntimeError(f"{function} calls itself")
        return own.get(function, 0) + max((depth(to, (*above, function)) for to in calls.get(function, ())), default=0)

    return max(map(depth, own))
