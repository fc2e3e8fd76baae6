"""The console script as a user runs it: real processes, exit status, one clear line, whole output."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
import tty
from pathlib import Path
from typing import Any

import pytest

from edge.bundle import DEFAULT_BUNDLE, load_bundle
from firmware_bridge.virtual.scenario import Scenario, Segment

PULSECODE = str(Path(sys.executable).with_name("pulsecode"))


def pulsecode(*args: str, timeout: float = 60, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PULSECODE, *args], check=False, capture_output=True, text=True, timeout=timeout, **kwargs)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def refused(done: subprocess.CompletedProcess[str], *words: str, status: int = 2) -> None:
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("pulsecode: "), done.stderr
    for word in words:
        assert word in done.stderr


def test_help_lists_every_command() -> None:
    done = pulsecode("--help")
    assert done.returncode == 0
    for name in ("monitor", "tokens", "bundle", "demo", "sim", "devices", "train", "evaluate", "quantize", "bench"):
        assert f"  {name} " in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from firmware_bridge.cli import main; main(['--help']);"
        "print(sorted({'numpy','torch','rich','scipy','serial','wfdb'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_json_lines_follow_the_documented_schema() -> None:
    done = pulsecode("monitor", "sim:story?seed=3", "--fast", "--json")
    assert done.returncode == 0, done.stderr
    found = lines(done.stdout)
    assert all({"type", "t"} <= line.keys() for line in found)
    kinds = {line["type"] for line in found}
    assert {"token", "beat", "quality", "rhythm", "gap", "event", "summary"} <= kinds
    assert {line["name"] for line in found if line["type"] == "event"} >= {"irregular", "pulse_lost", "gap"}
    summary = found[-1]
    assert summary["type"] == "summary" and summary["balanced"]
    books = summary["samples"]
    assert books["received"] + books["missing"] + books["overwritten"] == summary["expected"]
    assert books["missing"] == sum(line["missing"] for line in found if line["type"] == "gap") > 0
    assert summary["tokens"] == sum(line["type"] == "token" for line in found) > 100


def test_the_story_is_told_as_it_was_played() -> None:
    summary = lines(pulsecode("monitor", "sim:story?seed=1", "--fast", "--json").stdout)[-1]
    assert [event["name"] for event in summary["detected"]] == ["irregular", "pulse_lost", "gap"]
    onsets = [event["onset"] for event in summary["detected"]]
    story = {segment.kind: (start, end) for segment, start, end in played("story")}
    assert story["af"][0] < onsets[0] < story["af"][1]
    assert story["pause"][0] + 2 < onsets[1] < story["pause"][1]
    assert abs(onsets[2] - story["unplugged"][0]) < 0.5


def played(name: str) -> list[tuple[Segment, float, float]]:
    scenario, at, told = Scenario.find(name), 0.0, []
    while at < scenario.seconds:
        told.append(scenario.at(at))
        at = told[-1][2]
    return told


def test_two_runs_and_tokens_say_the_same(tmp_path: Path) -> None:
    runs = [lines(pulsecode("monitor", "sim:sinus?duration=20", "--fast", "--json").stdout)[:-1] for _ in range(2)]
    assert runs[0] == runs[1]
    out = tmp_path / "tokens.csv"
    assert pulsecode("tokens", "sim:sinus?duration=20", "--out", str(out)).returncode == 0
    ids = [row.split(",")[1] for row in out.read_text().splitlines()[1:] if row.split(",")[1]]
    assert ids == [str(line["id"]) for line in runs[0] if line["type"] == "token"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nonsense", ["sim:", "wfdb:"]),
        ("sim:nosuch", ["nosuch"]),
        ("serial:/dev/nosuch-port", ["/dev/nosuch-port"]),
        ("file:nosuch.csv", ["nosuch.csv"]),
        ("wfdb:nosuch/record", ["nosuch/record"]),
        ("sim:sinus?nosuch=1", ["nosuch"]),
    ],
)
def test_sources_that_cannot_be_opened(source: str, words: list[str]) -> None:
    done = pulsecode("monitor", source, "--json")
    refused(done, *words)
    assert done.stdout == ""


def test_a_word_among_numbers_keeps_what_was_printed_before(tmp_path: Path) -> None:
    good = [str(1000 + (i % 100)) for i in range(3000)]
    (tmp_path / "rec.csv").write_text("\n".join(["ppg", *good, "oops", *good]) + "\n")
    done = pulsecode("monitor", f"file:{tmp_path}/rec.csv?rate=100", "--fast", "--json")
    refused(done, "rec.csv", "3002", "ppg", "oops")
    found = lines(done.stdout)
    if found:  # a reader that checks the whole file first prints nothing at all
        assert found[-1]["type"] == "summary" and found[-2] == {**found[-2], "type": "error", "fatal": True}


@pytest.mark.parametrize("name", [*load_bundle().manifest.files, "manifest.json"])
def test_a_bundle_with_one_byte_changed_is_refused(tmp_path: Path, name: str) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(DEFAULT_BUNDLE, bundle)
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 0x01
    (bundle / name).write_bytes(data)
    done = pulsecode("bundle", "verify", str(bundle))
    if name == "manifest.json" and done.returncode == 0:
        return  # a changed digit of a metric is another valid manifest, with another digest
    refused(done, name)


def test_noise_on_the_line_ends_in_one_clear_line() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    process = subprocess.Popen(
        [PULSECODE, "monitor", f"serial:{os.ttyname(slave)}?patience=2", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while process.poll() is None:
            os.write(master, os.urandom(400))
            time.sleep(0.05)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        os.close(master)
        os.close(slave)
    refused(subprocess.CompletedProcess([], process.returncode, out, err), "bytes")


def sensor(link: Path, *args: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [PULSECODE, "sim", *args, "--pty", "--link", str(link)], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while not link.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_a_sensor_gone_for_good_ends_with_status_3_and_a_summary(tmp_path: Path) -> None:
    link = tmp_path / "tty"
    with sensor(link, "sinus", "--seed", "2") as process:
        watching = subprocess.Popen(
            [PULSECODE, "monitor", f"serial:{link}?give_up=1", "--json", "--record", str(tmp_path / "r.jsonl")],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(4)
        process.kill()
        out, err = watching.communicate(timeout=30)
    refused(subprocess.CompletedProcess([], watching.returncode, out, err), str(link), status=3)
    found = lines(out)
    assert found[-1]["type"] == "summary" and found[-1]["balanced"] and found[-1]["tokens"] > 3
    assert (tmp_path / "r.jsonl").read_text() == out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_session_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    link = tmp_path / "tty"
    with sensor(link, "sinus") as process:
        watching = subprocess.Popen(
            [PULSECODE, "monitor", f"serial:{link}", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watching.stdout is not None
        first = watching.stdout.readline()
        watching.send_signal(number)
        begun = time.monotonic()
        out, err = watching.communicate(timeout=20)
        process.terminate()
    assert time.monotonic() - begun < 3
    assert (watching.returncode, err) == (0, "")
    summary = lines(first + out)[-1]
    assert summary["ended"] == f"stopped by {number.name}" and summary["balanced"]


@pytest.mark.data
@pytest.mark.parametrize("record", ["challenge2015/a161l", "mimic_perform_af/AF_wfdb"])
def test_a_record_gives_the_same_tokens_through_the_wire(shared_data: Path, tmp_path: Path, record: str) -> None:
    path = shared_data / record
    if path.is_dir():
        path = min(path.glob("*.hea")).with_suffix("")
    direct = lines(pulsecode("monitor", f"wfdb:{path}", "--fast", "--json", "--duration", "200").stdout)
    link = tmp_path / "tty"
    with sensor(link, "--play", f"wfdb:{path}", "--speed", "50", "--once") as process:
        wired = lines(pulsecode("monitor", f"serial:{link}?give_up=2", "--json", "--duration", "200").stdout)
        process.terminate()
    tokens = [[line for line in found if line["type"] == "token"] for found in (direct, wired)]
    count = min(map(len, tokens))
    assert count >= 198 / 0.4 * 0.9
    assert tokens[0][:count] == tokens[1][:count]
    assert wired[-1]["balanced"] and wired[-1]["samples"]["overwritten"] == 0
