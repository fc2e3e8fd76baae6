"""``pulsecode sim`` and ``devices`` as a person uses them, and the virtual device's firmware."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from firmware_bridge.block import Flag, SampleBlock
from firmware_bridge.cli import main
from firmware_bridge.payloads import REQUEST_INFO, Heartbeat, Info
from firmware_bridge.pbf import MAX_BODY, Decoder, Frame, FrameType, unpack_samples
from firmware_bridge.source import open_source
from firmware_bridge.virtual.body import Body
from firmware_bridge.virtual.device import POWER_ON_US, Device, Run
from firmware_bridge.virtual.feed import scenario_runs, scenario_tracks
from firmware_bridge.virtual.pty_link import PtyLink
from firmware_bridge.virtual.scenario import Scenario


def test_out_writes_samples_and_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "story.csv"
    assert main(["sim", "story", "--out", str(path), "--seed", "4", "--rate", "125"]) == 0
    seconds = Scenario.find("story").seconds
    samples = round(125 * seconds)
    assert f"wrote {samples} samples" in capsys.readouterr().out
    body = Body(Scenario.find("story"), 125, 4)
    chunk = body.read(samples)
    blocks = [b for b in open_source(f"file:{path}?column=ppg") if isinstance(b, SampleBlock)]
    for block in blocks:
        assert np.array_equal(block.values, chunk.ppg[block.index : block.end])
    assert sum(len(b.values) for b in blocks) == chunk.plugged.sum()
    assert open_source(f"file:{path}", "ecg").info.rate == 125
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert rows[0] == ["t", "ppg", "ecg", "r_peak", "pulse_foot", "segment"]
    peaks = [i for i, row in enumerate(rows[1:]) if row[3] == "1"]
    assert peaks == [round(b.r * 125) for b in body.beats(seconds)]
    assert {row[5] for row in rows[1:]} == {"sinus", "motion", "af", "pause", "unplugged"}


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["flutter", "--pty"], "scenario 'flutter' is unknown; known: sinus,"),
        (["--pty"], "name a scenario"),
        (["sinus", "--play", "wfdb:x", "--pty"], "name a scenario"),
        (["--play", "wfdb:none/such", "--pty"], "cannot read none/such.hea"),
        (["--play", "file:x.csv", "--pty"], "plays WFDB records"),
        (["--play", "wfdb:x", "--out", "x.csv"], "a recording is a file already"),
        (["sinus", "--pty", "--rate", "1"], "--rate must be 10 to 2000 Hz"),
        (["sinus", "--pty", "--drop", "2"], "--drop must be 0 to 1"),
        (["sinus", "--pty", "--speed", "0"], "--speed must be above 0"),
        (["sinus", "--pty", "--duration", "nan"], "--duration must be above 0"),
        (["sinus", "--pty", "--skew-ppm", "1e9"], "--skew-ppm must be"),
        (["sinus", "--pty", "--seed", "-1"], "--seed must be 0 or above"),
        (["sinus", "--pty", "--link", __file__], "exists and is no symbolic link"),
        (["sinus", "--pty", "--link", "no/such/folder/x"], "cannot be made (No such file"),
        (["sinus", "--out", "no/such/folder/x"], "cannot be written (No such file"),
    ],
)
def test_bad_use_is_one_line(args: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", *args]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


def test_devices_lists_every_scheme(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    assert all(scheme in out for scheme in ("serial:", "wfdb:", "file:", "sim:"))


def test_the_commands_import_nothing_heavy() -> None:
    code = "import sys, firmware_bridge.commands; print([m for m in ('numpy', 'wfdb', 'serial') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def a_device(skew_ppm: float = 0.0) -> Device:
    return Device(scenario_tracks(100), boot=9, skew_ppm=skew_ppm)


def test_the_device_sends_what_the_specification_says() -> None:
    device, decoder = a_device(skew_ppm=100), Decoder()
    tracks = device.tracks
    frames = decoder.feed(device.boot())
    assert [f.type for f in frames] == [FrameType.INFO] * 2
    body = Body(Scenario.find("sinus"), 100, 1)
    for run in scenario_runs(body, tracks, 6500):
        for control in device.housekeeping(run.due):
            frames += decoder.feed(control)
        frames += decoder.feed(device.data(run))
    assert decoder.counters.rejected == 0
    assert all(len(f.encode()) <= MAX_BODY + 2 for f in frames)
    ppg = [f for f in frames if f.type is FrameType.DATA and f.stream == 0x10]
    assert [f.sequence for f in ppg] == list(range(325))
    assert [f.device_us for f in ppg] == [POWER_ON_US + round(i * 200_000 * 1.0001) for i in range(325)]
    assert all(f.flags == Flag.SYNTHETIC and f.period_ns == 10_000_000 and f.count == 20 for f in ppg)
    sent = np.concatenate([unpack_samples(f)[:, 0] for f in ppg])
    assert np.array_equal(sent, Body(Scenario.find("sinus"), 100, 1).read(6500).ppg)
    beats = [Heartbeat.unpack(f.payload) for f in frames if f.type is FrameType.HEARTBEAT]
    assert [b.uptime_s for b in beats] == list(range(1, 67))
    assert [f.device_us // 1_000_000 for f in frames if f.type is FrameType.INFO] == [1, 1, 31, 31, 61, 61]
    control = [f.sequence for f in frames if f.stream == 0]
    assert control == list(range(len(control)))


def test_an_overflow_is_counted_and_told_on_its_own_stream() -> None:
    device = a_device()
    ppg, ecg = device.tracks
    run = Run(ppg, 0, np.zeros(20, np.int32))
    device.data(run)
    device.overflowed(ppg.stream)
    flags = [Decoder().feed(device.data(Run(t, 20, np.zeros(20, np.int32))))[0].flags for t in (ecg, ppg, ppg)]
    assert [bool(f & Flag.LOST_BEFORE) for f in flags] == [False, True, False]
    (frame,) = Decoder().feed(next(device.housekeeping(0.0)))
    assert Heartbeat.unpack(frame.payload).dropped == 1


def test_the_device_answers_its_host() -> None:
    device = a_device()
    ask = Frame(FrameType.COMMAND, payload=REQUEST_INFO).encode() + Frame(FrameType.PING, payload=b"12345678").encode()
    frames = Decoder().feed(device.hear(b"noise\0" + ask[:9], 0.5) + device.hear(ask[9:], 0.5))
    assert [f.type for f in frames] == [FrameType.ACK, FrameType.INFO, FrameType.INFO, FrameType.PONG]
    assert frames[0].payload == REQUEST_INFO
    declared = [Info.unpack(f.payload) for f in frames[1:3]]
    assert [(i.streams[0].id, i.streams[0].scale) for i in declared if i] == [(0x10, -1.0), (0x20, 0.001)]
    assert frames[3].payload == b"12345678" + (POWER_ON_US + 500_000).to_bytes(8, "little")


def test_a_link_follows_every_replug_and_nothing_blocks_without_a_reader(tmp_path: Path) -> None:
    link = tmp_path / "port"
    cable = PtyLink(link, lossless=False, stopped=lambda: False)
    assert not cable.send(b"x")
    cable.plug()
    first = os.readlink(link)
    started = time.monotonic()
    taken = sum(cable.send(bytes(100)) for _ in range(5000))
    assert 0 < taken < 5000
    assert time.monotonic() - started < 2
    cable.unplug()
    assert not link.is_symlink()
    other = PtyLink(None, lossless=False, stopped=lambda: False)
    other.plug()  # takes the number that became free
    cable.plug()
    assert os.readlink(link) != first
    cable.send(b"frame\n")
    assert cable.serve(0.1) == b""  # a terminal that is not raw would echo it
    cable.unplug()
    other.unplug()
    cable.unplug()
    assert list(tmp_path.iterdir()) == []


def test_a_lossless_link_waits_until_it_is_stopped() -> None:
    turns = iter([False] * 5 + [True] * 100)
    cable = PtyLink(None, lossless=True, stopped=lambda: next(turns))
    cable.plug()
    while cable.send(bytes(1000)):
        pass
    cable.unplug()
    assert next(turns)
