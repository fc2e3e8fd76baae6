"""The child process of :func:`benchmarks.processes.cold_start`: load, one hop, say so. Imports are the point here."""

import json
import sys
from pathlib import Path


def peak_mb() -> float | None:
    """Peak resident memory of this very program, MB.

    Not getrusage's ``ru_maxrss``: on Linux that carries the parent's peak over a vfork and exec.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)


def main(name: str, path: str) -> None:
    """One hop of engine ``name`` (``torch`` for the eager step form) on bundle ``path``."""
    import numpy as np

    from edge.bundle import load_bundle
    from edge.engines import Engine, open_engine

    bundle = load_bundle(path)
    if name == "torch":
        from benchmarks.contenders import random_encoder
        from quantize.export import TorchStep

        engine: Engine = TorchStep(random_encoder(bundle))
    else:
        engine = open_engine(bundle, name)
    scores = engine.step(engine.start(), np.ones(bundle.manifest.frontend.hop, np.float32)).scores
    print(json.dumps({"token": int(scores.argmax()), "rss_mb": peak_mb()}), flush=True)


if __name__ == "__main__":
    from firmware_bridge.errors import PulsecodeError

    try:
        main(*sys.argv[1:])
    except PulsecodeError as error:
        sys.exit(f"pulsecode: {error}")
    except ImportError as error:
        sys.exit(f"pulsecode: {error.name} is not installed")
