"""Offline tokens: the monitor's own hops over a recording, as CSV."""

import contextlib
import csv
import sys
from pathlib import Path
from typing import IO

from edge.bundle import load_bundle
from edge.bundle.minisign import PublicKey
from edge.engines import open_engine
from edge.monitor import Monitor
from edge.pipeline import Outcome
from firmware_bridge.errors import BadInput
from firmware_bridge.source import open_source


def write_tokens(
    source: str,
    bundle: str | None,
    engine: str | None,
    duration: float,
    out: str | None,
    *,
    trust: PublicKey | None = None,
) -> int:
    """Columns ``t`` (s, the patch's start), ``token``, ``p``. A patch that has no token, because a sample it rests on
    is missing, has no row."""
    loaded = load_bundle(bundle, trust=trust)
    runner = open_engine(loaded, engine)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(contextlib.closing(open_source(source, loaded.manifest.signal)))
        if opened.live:
            raise BadInput(f"tokens reads recordings; for the live source {source!r} use `pulsecode monitor --json`")
        monitor = Monitor(opened, loaded, runner, fast=True, duration=duration)
        count = _write(monitor, out)
    print(f"{count} tokens", file=sys.stderr)
    return 0


def _write(monitor: Monitor, out: str | None) -> int:
    if out is None:
        return _rows(monitor, sys.stdout)
    try:
        with Path(out).open("w", newline="") as file:
            return _rows(monitor, file)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written ({error.strerror}); choose another file") from None


def _rows(monitor: Monitor, file: IO[str]) -> int:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("t", "token", "p"))
    count = 0
    for item in monitor:
        if isinstance(item, Outcome) and (token := item.token) is not None:
            writer.writerow((f"{token.t:.3f}", token.id, f"{token.p:.6f}"))
            count += 1
    return count
