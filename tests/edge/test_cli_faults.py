"""The console script when the world around it breaks: full disks, closed pipes, odd terminals, Ctrl-C at any time."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import tty
from pathlib import Path

import pytest

PULSECODE = str(Path(sys.executable).with_name("pulsecode"))
SIM = ("monitor", "sim:sinus?duration=20", "--fast")


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        check=False, capture_output=True, text=True, timeout=60, env={**os.environ, "P": PULSECODE, **environment},
    )  # fmt: skip


def one_line(text: str, *words: str) -> None:
    assert len(text.splitlines()) == 1 and text.startswith("pulsecode: "), text
    for word in words:
        assert word in text


@pytest.mark.parametrize("arguments", [" ".join(SIM), " ".join(SIM) + " --json", "--help", "bundle inspect"])
def test_standard_output_on_a_full_disk(arguments: str) -> None:
    done = shell(f"$P {arguments} > /dev/full")
    assert done.returncode == 2
    one_line(done.stderr, "standard output", "No space left")


@pytest.mark.parametrize("arguments", [" ".join(SIM) + " --json", "--help"])
def test_a_reader_that_leaves_is_no_error(arguments: str) -> None:
    done = shell(f"$P {arguments} | head -n 1 | cut -c 1-5")
    assert done.stderr == "" and len(done.stdout) == 6


def test_a_reader_that_leaves_lets_the_record_end_well(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    done = shell(f"$P monitor sim:sinus?duration=600 --fast --json --record {path} | head -n 1")
    assert done.returncode == 128 + signal.SIGPIPE and done.stderr == ""
    last = json.loads(path.read_text().splitlines()[-1])
    assert last["type"] == "summary" and last["balanced"] and last["ended"] == "error"


def test_a_record_on_a_full_disk_leaves_the_output_whole() -> None:
    done = shell(f"$P {' '.join(SIM)} --json --record /dev/full")
    assert done.returncode == 2
    one_line(done.stderr, "--record /dev/full", "No space left")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found[-1]["type"] == "summary" and found[-1]["balanced"]
    assert found[-2]["type"] == "error" and found[-2]["fatal"]


def test_closed_standard_streams(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    done = shell(f"$P {' '.join(SIM)} --json --record {path} >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [json.loads(line)["type"] for line in path.read_text().splitlines()][-1] == "summary"


def test_a_locale_without_our_characters() -> None:
    done = shell(f"$P {' '.join(SIM)}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stderr == "" and "balanced" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("monitor", ["source"]),
        ("monitor sim:sinus --duration -3", ["--duration", "-3"]),
        ("monitor sim:sinus --duration nan", ["--duration", "nan"]),
        ("monitor sim:sinus --low-rate 150", ["150", "140", "no room"]),
        ("monitor sim:sinus --engine abacus", ["--engine", "abacus", "litert"]),
        ("monitor sim:sinus --no-such", ["--no-such"]),
        ("tokens sim:sinus --out no/such/folder.csv", ["--out", "no/such/folder.csv"]),
        ("tokens sim:sinus --out /dev/full", ["--out", "/dev/full", "No space"]),
        ("monitor sim:sinus --record no/such/folder", ["--record", "no/such/folder"]),
        ("bundle verify /nowhere", ["/nowhere"]),
        ("bundle verify /dev/null", ["/dev/null"]),
    ],
)
def test_bad_use_is_one_line(arguments: str, words: list[str]) -> None:
    done = shell(f"$P {arguments}")
    assert (done.returncode, done.stdout) == (2, "")
    one_line(done.stderr, *words)


def wait_for(fd: int, word: bytes) -> None:
    """Until the program at the other end of a terminal has said ``word``."""
    said = b""
    while word not in said:
        assert select.select([fd], [], [], 20)[0], "nothing came"
        said += os.read(fd, 65536)


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_a_signal_while_the_source_opens(number: signal.Signals) -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    with subprocess.Popen(
        [PULSECODE, "monitor", f"serial:{os.ttyname(slave)}?patience=30", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for(master, b"\0")  # it asks the silent device who it is
        process.send_signal(number)
        out, err = process.communicate(timeout=5)
    os.close(master)
    os.close(slave)
    assert (process.returncode, out) == (130, "")
    one_line(err, "stopped")


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (60, 20), (20, 8), (1, 1)])
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_gives_the_terminal_back(columns: int, lines: int, presses: int) -> None:
    """On a real terminal of any size: the other screen is left and the cursor is shown again."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    with subprocess.Popen(
        [PULSECODE, "monitor", "sim:sinus"],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
    ) as process:  # fmt: skip
        os.close(slave)
        wait_for(master, b"\x1b[?25l")
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
        said, deadline = b"", time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                said += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
        os.close(master)
    assert process.returncode == 0 if presses == 1 else process.returncode in (0, 130)
    assert b"Traceback" not in said
    assert said.rfind(b"\x1b[?1049l") >= 0 and said.rfind(b"\x1b[?25h") > said.rfind(b"\x1b[?25l")
