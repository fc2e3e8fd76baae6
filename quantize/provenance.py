"""Where a bundle comes from: code, tools, day. No paths and no names of machines or people."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

TOOLS = ("pulsecode", "torch", "litert-torch", "ai-edge-quantizer", "ai-edge-litert", "onnx", "onnxruntime", "numpy")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def commit() -> str:
    """The code's commit, ``… with changes`` where files differ from it, ``unknown`` outside a clone."""
    found = _git("rev-parse", "HEAD")
    if not found:
        return "unknown"
    return f"{found} with changes" if _git("status", "--porcelain", "--untracked-files=no") else found


def tools() -> dict[str, str]:
    """Versions of what made the bundle; ``absent`` for what is not installed."""
    found = {"python": platform.python_version()}
    for name in TOOLS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def today() -> str:
    """The day in UTC, ISO 8601."""
    return datetime.now(UTC).date().isoformat()
