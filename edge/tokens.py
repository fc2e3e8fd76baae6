"""Offline tokens: the monitor's own hops over a recording, as CSV."""

import contextlib
import csv
import sys
from pathlib import Path
from typing import IO

from edge.bundle import load_bundle
from edge.engines import open_engine
from edge.monitor import Monitor
from edge.pipeline import Outcome
from firmware_bridge.errors import BadInput
from firmware_bridge.source import open_source


def write_tokens(source: str, bundle: str | None, engine: str | None, duration: float, out: str | None) -> int:
    """Columns ``t`` (s, the patch's start), ``token``, ``p``, ``missing`` (grid samples of the hop that never came;
    such a hop has no token)."""
    loaded = load_bundle(bundle)
    runner = open_engine(loaded, engine)
    opened = open_source(source, loaded.manifest.signal)
    if opened.live:
        opened.close()
        raise BadInput(f"tokens reads recordings; for the live source {source!r} use `pulsecode monitor --json`")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_open(out)) if out else sys.stdout
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("t", "token", "p", "missing"))
        count = 0
        for item in Monitor(opened, loaded, runner, fast=True, duration=duration):
            if isinstance(item, Outcome):
                token = item.token
                row = (f"{token.t:.3f}", token.id, f"{token.p:.6f}") if token else (f"{item.t:.3f}", "", "")
                writer.writerow((*row, item.missing))
                count += token is not None
    print(f"{count} tokens", file=sys.stderr)
    return 0


def _open(out: str) -> IO[str]:
    try:
        return Path(out).open("w", newline="")
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written ({error.strerror}); choose another file") from None
