"""The microcontroller's report, as JSON and as Markdown."""

import msgspec

from quantize.fidelity.agreement import CONFIDENT
from quantize.fidelity.figures import Estimate
from quantize.mcu.boards import Board
from quantize.mcu.emulator import CYCLES_PER_INSTRUCTION
from quantize.mcu.judge import Agreement

CLOCK_MHZ = 64  # of many watches' chips


class Shape(msgspec.Struct, frozen=True):
    """An encoder's size; ``macs`` are products a hop. ``boards``: what it takes."""

    name: str
    macs: int
    boards: list[Board]


class McuReport(msgspec.Struct, frozen=True):
    """``agreements`` were judged on ``judged_on``, ``rounding`` with ``calibrated_on``; ``shapes``: this encoder first,
    then others with random weights."""

    run: str
    rounding: str
    calibrated_on: str
    judged_on: str
    agreements: list[Agreement]
    shapes: list[Shape]
    compiler: str
    emulator: str


def as_json(report: McuReport) -> bytes:
    """For a file."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def _percent(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{100 * estimate.value:.2f} % ({100 * estimate.low:.2f}–{100 * estimate.high:.2f})"


def _agreements(report: McuReport) -> list[str]:
    sure = f"where fp32 is ≥ {100 * CONFIDENT:.0f} % sure"
    head = [f"| the same token | at all hops | {sure} | embedding, cosine |", "|---|---:|---:|---:|"]
    return head + [
        f"| {a.first} and {a.second} | {_percent(a.everywhere)} | {_percent(a.confident)} | {a.cosine:.6f} |"
        for a in report.agreements
    ]


def _thousands(value: int | None) -> str:
    return "–" if value is None else f"{value / 1000:,.0f}"


def _boards(shape: Shape) -> list[str]:
    lines = []
    for board in shape.boards:
        size = board.footprint
        ms = "–" if board.cycles is None else f"{board.cycles / CLOCK_MHZ / 1000:.0f}"
        same = {None: "–", True: "yes", False: "NO"}[board.same]
        lines.append(
            f"| {shape.name} | {board.core}, {board.build} | {size.flash / 1024:.0f} | {size.code / 1024:.1f} "
            f"| {size.ram / 1024:.1f} | {size.stack} | {_thousands(board.instructions)} | {_thousands(board.cycles)} "
            f"| {ms} | {same} |"
        )
    return lines


def as_markdown(report: McuReport) -> str:
    """For reading."""
    head = [
        "# The encoder in C on a microcontroller",
        "",
        f"Run `{report.run}`. int8 weights per output channel ({report.rounding}; {report.calibrated_on}), int16 "
        "activations, int32 sums, tables for exp, GELU and tanh; no floating point. "
        f"Judged on {report.judged_on}; brackets are 95 % intervals over people.",
        "",
        *_agreements(report),
        "",
        '"fp32" is the PyTorch step form; "its weights in fp32" has the C code\'s int8 weights and float arithmetic, '
        "so it parts what the weights cost from what the integers cost.",
        "",
        "| encoder | core, build | flash KiB | of it code | RAM KiB | stack B | k instructions a hop "
        f"| k cycles, estimate | ms at {CLOCK_MHZ} MHz, estimate | bits as here |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    rows = [line for shape in report.shapes for line in _boards(shape)]
    tail = [
        "",
        "Sizes and instructions include the front end. RAM is one stream's state, front end's too; the stack is GCC's "
        "own account of the deepest call. Instructions were counted by QEMU, which is no cycle model; cycles are "
        f"{CYCLES_PER_INSTRUCTION} a counted instruction and leave out a flash's wait states. Products a hop: "
        + "; ".join(f"{shape.name}: {shape.macs:,}" for shape in report.shapes)
        + f". {report.compiler}; {report.emulator}.",
        "",
    ]
    return "\n".join([*head, *rows, *tail])
