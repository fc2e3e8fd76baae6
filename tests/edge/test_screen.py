"""The live view fits whatever terminal it is given, and says what is going on."""

import io
import subprocess
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from edge.bundle import load_bundle
from edge.engines import open_engine
from edge.monitor import Item, Monitor, News
from edge.narrate import Narrator
from edge.screen import ScreenDisplay
from firmware_bridge.block import Notice
from firmware_bridge.source import open_source


@cache
def story() -> tuple[Monitor, list[tuple[Item, list]]]:
    bundle = load_bundle()
    monitor = Monitor(open_source("sim:pause?duration=30"), bundle, open_engine(bundle), fast=True)
    narrator = Narrator(monitor, "test")
    return monitor, [(item, list(narrator.lines(item))) for item in monitor]


def view(columns: int, rows: int, upto: float, *more: Item) -> list[str]:
    monitor, items = story()
    console = Console(width=columns, height=rows, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    display = ScreenDisplay(monitor, console)
    for item, lines in [*((i, ls) for i, ls in items if getattr(i, "t", 0) <= upto), *((i, []) for i in more)]:
        display.lines(lines)
        display.item(item)
    with console.capture() as capture:
        console.print(display.render())
    plain = Console(width=columns, height=rows, file=io.StringIO())
    plain.print(display.render())
    assert capture.get()
    text = plain.file.getvalue()  # type: ignore[attr-defined]
    return text.rstrip("\n").split("\n")


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (110, 40), (60, 20), (40, 12), (30, 10), (20, 9), (300, 90)])
@pytest.mark.parametrize("upto", [-1.0, 0.5, 12.0, 26.0])
def test_it_fits(columns: int, rows: int, upto: float) -> None:
    lines = view(columns, rows, upto)
    assert len(lines) <= rows
    assert len({len(line) for line in lines}) == 1 and len(lines[0]) <= columns
    # It is a closed frame: nothing was wrapped.
    assert all(line[0] in "╭│╰" and line[-1] in "╮│╯" for line in lines)


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (2, 50), (5, 3), (9, 2)])
def test_no_terminal_is_too_small_to_go_on(columns: int, rows: int) -> None:
    assert view(columns, rows, 12.0)


def test_it_says_what_is_going_on() -> None:
    assert "waiting for the sensor" in "\n".join(view(80, 24, -1.0))
    calm = "\n".join(view(80, 24, 16.0))
    assert "no alarm" in calm and "bpm" in calm and "▾" in calm
    assert "PULSE LOST" in "\n".join(view(80, 24, 25.5))
    lost = News(25.5, Notice("lost", "port hung up", 0))
    assert "port hung up" in "\n".join(view(80, 24, 16.0, lost))
    back = News(25.5, Notice("restored", "samples again", 0))
    assert "port hung up" not in "\n".join(view(80, 24, 16.0, lost, back))


def test_a_picture_shows_the_last_moment_alive(tmp_path: Path) -> None:
    out = tmp_path / "view.svg"
    command = [sys.executable, "-m", "firmware_bridge", "monitor", "sim:pause?duration=28", "--fast", "--json"]
    done = subprocess.run([*command, "--picture", str(out)], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    text = "".join(ElementTree.parse(out).getroot().itertext()).replace("\N{NO-BREAK SPACE}", " ")
    assert "PULSE LOST" in text and "received 2800" in text and "▾" in text
    done = subprocess.run([*command, "--picture", str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and str(tmp_path) in done.stderr
