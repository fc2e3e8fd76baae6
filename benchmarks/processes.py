"""What a process costs from outside: time to its first token, memory, and a live stream's share of a core."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import msgspec

STARTS = 5
TIMEOUT = 120.0
CHILD = "benchmarks.cold_start"


class ColdStart(msgspec.Struct, frozen=True):
    """Milliseconds from starting Python to the first token (median and worst of ``n``), and peak resident MB."""

    ms: float
    worst_ms: float
    rss_mb: float | None
    n: int


class LiveStream(msgspec.Struct, frozen=True):
    """``pulsecode monitor`` on a live source. Shares are of one core: ``cpu_share`` while streaming, ``cpu_total``
    with its start; ``hop_ms`` as the monitor itself measured its whole pipeline."""

    source: str
    seconds: float
    engine: str
    cpu_share: float
    cpu_total: float
    rss_mb: float | None
    hop_ms: dict[str, float]
    tokens: int


@contextlib.contextmanager
def _spawn(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A child that does not outlive the body, whatever happens there (also on Ctrl-C)."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            yield child
        except BaseException:
            child.kill()
            raise


def cold_start(engine: str, bundle: Path, starts: int = STARTS) -> ColdStart | str:
    """Start a fresh Python ``starts`` times; a string says why it cannot."""
    spent, peaks = [], []
    for _ in range(starts):
        begun = time.perf_counter()
        command = [sys.executable, "-m", CHILD, engine, str(bundle)]
        with _spawn(command) as child:
            assert child.stdout is not None, "asked for a pipe"
            line = child.stdout.readline()
            elapsed = time.perf_counter() - begun
            rest, errors = child.communicate(timeout=TIMEOUT)
        if child.returncode or not line:
            return _reason(errors or rest)
        spent.append(1e3 * elapsed)
        peak = json.loads(line)["rss_mb"]
        if peak is not None:
            peaks.append(peak)
    return ColdStart(round(median(spent), 1), round(max(spent), 1), round(max(peaks), 1) if peaks else None, starts)


def _reason(errors: str) -> str:
    lines = [line for line in errors.strip().splitlines() if line]
    return lines[-1].removeprefix("pulsecode: ") if lines else "ended without a word"


def _cpu_seconds(pid: int) -> float | None:
    """User and system time of a process so far (Linux)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mb(pid: int) -> float | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith("VmHWM")), None)


def live_stream(bundle: Path, seconds: float) -> LiveStream | str:
    """Run the monitor as a process of its own for ``seconds`` of live signal; a string says why it failed."""
    source = f"sim:sinus?duration={seconds:g}"
    command = [sys.executable, "-m", "firmware_bridge", "monitor", source, "--json", "--bundle", str(bundle)]
    begun = time.perf_counter()
    first: tuple[float, float] | None = None
    last: tuple[float, float] | None = None
    summary = peak = None
    with _spawn(command) as child:
        assert child.stdout is not None, "asked for a pipe"
        for line in child.stdout:
            now, cpu = time.perf_counter(), _cpu_seconds(child.pid)
            peak = _peak_mb(child.pid) or peak
            if cpu is not None:
                first, last = first or (now, cpu), (now, cpu)
            message = json.loads(line)
            summary = message if message.get("type") == "summary" else summary
        _, errors = child.communicate(timeout=TIMEOUT)
    if child.returncode or summary is None:
        return f"pulsecode monitor failed: {_reason(errors)}"
    if first is None or last is None or last[0] - first[0] < 0.5 * seconds:
        return "pulsecode monitor did not stream live: its output came at once"
    return LiveStream(
        source=source,
        seconds=round(last[0] - begun, 2),
        engine=str(summary.get("engine", "")),
        cpu_share=round((last[1] - first[1]) / (last[0] - first[0]), 5),
        cpu_total=round(last[1] / (last[0] - begun), 5),
        rss_mb=peak,
        hop_ms={name: round(float(value), 4) for name, value in (summary.get("hop_ms") or {}).items()},
        tokens=int(summary.get("tokens", 0)),
    )
