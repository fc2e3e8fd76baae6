"""The same commands here and in the arm64 Debian, and what differs."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.aarch64.emulator import Emulator, Say
from benchmarks.aarch64.shell import run
from benchmarks.aarch64.wheels import ENGINES
from edge.bundle import Bundle
from edge.bundle.vectors import MIN_SAME, Answered
from quantize.provenance import commit

SOURCE = "sim:story?seed=1"  # sinus rhythm, motion, fibrillation, a pulse pause, the cable out
LIVE = "sim:sinus?seed=1"
LIVE_SECONDS = 10
# What a machine is, asked of its own Python.
WHO = """
import json, platform
from importlib.metadata import version
names = ("pulsecode", "numpy", "msgspec", "ai-edge-litert", "onnxruntime", "rich", "pyserial")
print(json.dumps({"machine": platform.machine(), "python": platform.python_version(),
                  "libc": " ".join(platform.libc_ver()), "packages": {name: version(name) for name in names}}))
"""

Event = tuple[str, float, float | None]


class Machine(msgspec.Struct, frozen=True):
    """One of the two."""

    machine: str
    python: str
    libc: str
    packages: dict[str, str]


class EngineRow(msgspec.Struct, frozen=True):
    """One engine on :data:`SOURCE`, and on the bundle's vectors (None where the bundle has none).

    ``tokens`` on both machines, of which ``same`` are equal; ``bits``: with a probability equal to its last bit;
    ``probability_error``: the largest difference of an equal token's probability.
    """

    engine: str
    vectors: Answered | None
    tokens: int
    same: int
    bits: int
    probability_error: float
    events: list[Event]
    same_events: bool

    @property
    def passed(self) -> bool:
        """Whether this engine says on arm64 what it says here."""
        vectors = self.vectors is None or self.vectors.passed
        return vectors and self.same_events and self.tokens > 0 and self.same >= MIN_SAME * self.tokens


class Live(msgspec.Struct, frozen=True):
    """The monitor at its own pace: whether its books balanced, and how many tokens it gave."""

    seconds: float
    balanced: bool
    tokens: int


class Result(msgspec.Struct, frozen=True, tag_field="type", tag="bench_aarch64"):
    """A whole run."""

    bundle: str
    bundle_sha256: str
    commit: str
    qemu: str
    debian: str
    source: str
    here: Machine
    there: Machine
    engines: list[EngineRow]
    left_out: list[str]  # engines that the bundle ships and that have no wheel of a device
    live: Live

    @property
    def passed(self) -> bool:
        """Whether the bundle may be believed on arm64."""
        return (
            bool(self.engines)
            and all(row.passed for row in self.engines)
            and self.live.balanced
            and self.live.tokens > 0
        )


Python = Callable[[Sequence[str], str], str]


def measure(bundle: Bundle, emulator: Emulator, folder: Path, say: Say) -> Result:
    """Run everything; ``folder`` takes the token files. Raises :class:`BadInput` where a command fails."""
    (folder / "out").mkdir(exist_ok=True)

    def here(arguments: Sequence[str], what: str) -> str:
        return run([sys.executable, *arguments], what=f"{what} here", cwd=folder, statuses=(0, 1))

    def there(arguments: Sequence[str], what: str) -> str:
        command, environment = emulator.command(arguments), emulator.environment
        return run(command, what=f"{what} on arm64", cwd=folder, environment=environment, statuses=(0, 1))

    say("asking both machines who they are")
    machines = [msgspec.json.decode(python(["-c", WHO], "Python"), type=Machine) for python in (here, there)]
    answers = {}
    if bundle.manifest.vectors is not None:
        say("the bundle's vectors on arm64")
        verdict = _pulsecode(there, "bundle", "verify", str(bundle.path.resolve()), "--run", "--json")
        answers = {row["engine"]: msgspec.convert(_without(row, "passed"), Answered) for row in verdict[-1]["answers"]}
    rows = []
    for engine in (name for name in ENGINES if name in bundle.manifest.engines):
        say(f"{engine}: {SOURCE} here and on arm64")
        rows.append(_row(bundle, engine, answers.get(engine), here, there, folder))
    say(f"the monitor on arm64 for {LIVE_SECONDS} s")
    last = _pulsecode(there, "monitor", LIVE, "--duration", str(LIVE_SECONDS), "--json", *_bundle(bundle))[-1]
    return Result(
        bundle=f"{bundle.manifest.name} {bundle.manifest.version}",
        bundle_sha256=bundle.digest,
        commit=commit(),
        qemu=emulator.version,
        debian=(emulator.root / "etc" / "debian_version").read_text().strip(),
        source=SOURCE,
        here=machines[0],
        there=machines[1],
        engines=rows,
        left_out=[name for name in bundle.manifest.engines if name not in ENGINES],
        live=Live(seconds=last["seconds"], balanced=last["balanced"], tokens=last["tokens"]),
    )


def _without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != key}


def _bundle(bundle: Bundle) -> tuple[str, str]:
    return "--bundle", str(bundle.path.resolve())


def _pulsecode(python: Python, *arguments: str) -> list[dict[str, Any]]:
    """The JSON lines of a command."""
    out = python(["-m", "firmware_bridge", *arguments], f"pulsecode {' '.join(arguments[:2])}")
    return [json.loads(line) for line in out.splitlines()]


def _row(bundle: Bundle, engine: str, vectors: Answered | None, here: Python, there: Python, folder: Path) -> EngineRow:
    said, events = [], []
    for python in (here, there):
        lines = _pulsecode(python, "monitor", SOURCE, "--fast", "--json", "--engine", engine, *_bundle(bundle))
        said.append([line for line in lines if line["type"] == "token"])
        detected = lines[-1]["detected"]
        events.append([(event["name"], event["onset"], event["offset"]) for event in detected])
    pairs = list(zip(*said, strict=False))
    equal = [(a["p"], b["p"]) for a, b in pairs if a["id"] == b["id"] and a["t"] == b["t"]]
    return EngineRow(
        engine=engine,
        vectors=vectors,
        tokens=max(map(len, said)),
        same=len(equal),
        bits=sum(a == b for a, b in equal),
        probability_error=max((abs(a - b) for a, b in equal), default=0.0),
        events=events[1],
        same_events=events[0] == events[1],
    )
