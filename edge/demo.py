"""`pulsecode demo`: a virtual pulse sensor on a pty, and the monitor on it through pyserial.

The sensor is its own process that speaks PBF v1, as a real board would; nothing but bytes goes between the two.
"""

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from edge.session import Session
from firmware_bridge.errors import BadInput
from firmware_bridge.virtual.scenario import Scenario

AFTER_SECONDS = 1.0  # the story begins again; the demo ends before its second sentence
START_SECONDS = 15.0


@contextlib.contextmanager
def virtual_sensor(scenario: str, link: Path, seed: int) -> Iterator[None]:
    """A `pulsecode sim SCENARIO --pty --link` process, gone when the block is left."""
    command = [sys.executable, "-m", "firmware_bridge", "sim", scenario]
    command += ["--pty", "--link", str(link), "--seed", str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not link.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                said = process.stderr.read().strip() if process.stderr else ""
                raise BadInput(f"the virtual sensor failed: {said or 'it did not start'}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()


def demo(seed: int, *, plain: bool) -> int:
    """The scripted story of about a minute, then the summary."""
    # Whatever ends us while things are being opened, the sensor and the folder go with us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="pulsecode-") as folder:
        link = Path(folder) / "ttyPULSE0"
        print("a virtual pulse sensor on", link, "- sinus, motion, irregular rhythm, a pause, cable pulled and back")
        with virtual_sensor("story", link, seed):
            session = Session.open(f"serial:{link}?device=pbf", duration=Scenario.find("story").seconds + AFTER_SECONDS)
            return session.run("plain" if plain else "screen")
