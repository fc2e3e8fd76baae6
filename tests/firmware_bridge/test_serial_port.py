"""pyserial over real ptys: the virtual sensor's process, and devices that misbehave."""

import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import wfdb
from numpy.typing import NDArray

from firmware_bridge.block import Flag, Notice, SampleBlock
from firmware_bridge.errors import BadInput, SourceLost
from firmware_bridge.payloads import Heartbeat, Info, StreamDeclaration
from firmware_bridge.pbf import Frame, FrameType, SampleFormat, pack_samples
from firmware_bridge.source import Source, open_source
from firmware_bridge.sources import serial_port
from firmware_bridge.sources.wfdb_record import read_channel
from firmware_bridge.virtual.body import Body
from firmware_bridge.virtual.scenario import Scenario

PULSECODE = Path(sys.executable).with_name("pulsecode")


class Wire:
    """A pty whose far end a test plays; ``send`` is what a device would write."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self.slave)
        self.stop = threading.Event()

    def send(self, data: bytes) -> None:
        try:
            os.write(self.master, data)
        except BlockingIOError:
            time.sleep(0.01)

    def heard(self) -> bytes:
        try:
            return os.read(self.master, 4096)
        except BlockingIOError:
            return b""

    def hang_up(self) -> None:
        for fd in (self.slave, self.master):
            os.close(fd)
        self.master = self.slave = -1


@contextmanager
def device(talk: Callable[[Wire], None]) -> Iterator[Wire]:
    """A device that calls ``talk`` every 10 ms."""
    wire = Wire()

    def loop() -> None:
        while not wire.stop.wait(0.01):
            talk(wire)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield wire
    finally:
        wire.stop.set()
        thread.join()
        if wire.master >= 0:
            wire.hang_up()


def data_frame(sequence: int, stream: int = 0x10, channels: int = 1, period_ns: int = 1_000_000) -> bytes:
    """10 samples of 1 ms whose value is their index (plus 1000 a channel)."""
    values = np.arange(10)[:, None] + 10 * sequence + 1000 * np.arange(channels)
    return Frame(
        FrameType.DATA, stream, Flag.NONE, 7, sequence % 65536, sequence * 10_000, period_ns, channels,
        SampleFormat.S24, 10, pack_samples(values.astype(np.int32), SampleFormat.S24),
    ).encode()  # fmt: skip


class Steady:
    """Sends a DATA frame every turn unless told otherwise."""

    def __init__(self, stream: int = 0x10, channels: int = 1, info: bytes = b"") -> None:
        self.sequence, self.stream, self.channels, self.info = 0, stream, channels, info
        self.mute = False
        self.heartbeats = False

    def __call__(self, wire: Wire) -> None:
        if self.info and wire.heard():
            wire.send(Frame(FrameType.INFO, payload=self.info).encode())
        if not self.mute:
            wire.send(data_frame(self.sequence, self.stream, self.channels))
        if self.heartbeats:
            wire.send(Frame(FrameType.HEARTBEAT, payload=Heartbeat(1, 1, 5, 2).pack()).encode())
        self.sequence += 1


INFO = Info("fw 3", "board", [StreamDeclaration(0x10, "ppg", "nA", -0.5, 7.0, 1000, ["ir", "red"])]).pack()


def take(source: Source, until: Callable[[list[SampleBlock], list[Notice]], bool], seconds: float = 10) -> None:
    """Iterate ``source`` until ``until``; fail after ``seconds``."""
    blocks: list[SampleBlock] = []
    notices: list[Notice] = []
    deadline = time.monotonic() + seconds
    for item in source:
        (notices if isinstance(item, Notice) else blocks).append(item)  # type: ignore[arg-type]
        if until(blocks, notices):
            return
        assert time.monotonic() < deadline, (notices, source.counters)
    pytest.fail(f"ended early: {notices}")


# Opening


def test_a_port_that_does_not_exist() -> None:
    with pytest.raises(BadInput, match=r"serial: /dev/ttyNONE does not exist; ports here: "):
        open_source("serial:/dev/ttyNONE")


def test_a_file_is_no_port(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("x")
    for target in (path, tmp_path):
        with pytest.raises(BadInput, match="is not a serial port"):
            open_source(f"serial:{target}")


def test_no_permission_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tests may run as root, whom no file mode stops: the operating system's answer is played.
    def refuse(path: str, *rest: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("serial.serialposix.os.open", refuse)
    with pytest.raises(BadInput, match=r"no permission for /dev/ttyUSB0; .* dialout"):
        open_source("serial:/dev/ttyUSB0")


def test_a_busy_port() -> None:
    with device(Steady(info=INFO)) as wire:
        first = open_source(f"serial:{wire.path}")
        with pytest.raises(BadInput, match="is in use by another program"):
            open_source(f"serial:{wire.path}")
        first.close()
        open_source(f"serial:{wire.path}").close()


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("baud=fast", "option baud='fast' is not a number"),
        ("baud=1", "baud=1 must be a baud rate"),
        ("stream=ppg", "stream=ppg must be a stream id"),
        ("stream=0", "stream=0 must be a stream id"),
        ("channel=-1", "channel=-1 must be the channel's number"),
        ("rate=0", "rate=0 must be above 0"),
        ("invert=maybe", "invert=maybe must be yes or no"),
        ("device=polar", "device=polar must be pbf"),
        ("patience=0", "patience=0 must be above 0"),
        ("give_up=-1", "give_up=-1 must be above 0"),
        ("color=red", "unknown option 'color'"),
    ],
)
def test_bad_options(query: str, line: str) -> None:
    with pytest.raises(BadInput) as error:
        open_source(f"serial:/dev/null?{query}")
    assert line in str(error.value)


def test_a_device_that_sends_noise_is_refused_with_figures() -> None:
    rng = random.Random(1)
    with (
        device(lambda wire: wire.send(rng.randbytes(100))) as wire,
        pytest.raises(BadInput, match=r"\d{3,} bytes in 0.5 s and no PBF frame .*\([1-9]\d* pieces rejected\); check"),
    ):
        open_source(f"serial:{wire.path}?patience=0.5")


def test_a_device_that_says_nothing() -> None:
    with device(lambda wire: None) as wire, pytest.raises(BadInput, match=r"nothing came in 0.3 s"):
        open_source(f"serial:{wire.path}?patience=0.3")


def test_a_device_without_samples_and_one_without_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "INFO_S", 0.1)
    silent = Steady()
    silent.mute = silent.heartbeats = True
    with device(silent) as wire, pytest.raises(BadInput, match=r"answers but sent no samples in 0.3 s: sensor fault"):
        open_source(f"serial:{wire.path}?patience=0.3")
    with device(Steady(stream=0x20)) as wire:
        with pytest.raises(BadInput, match=r"no ppg stream; it sends 0x20 \(choose one with \?stream="):
            open_source(f"serial:{wire.path}?patience=0.3")
        with pytest.raises(BadInput, match=r"no ppg stream 0x11; it sends 0x20"):
            open_source(f"serial:{wire.path}?patience=0.3&stream=0x11")
        with pytest.raises(BadInput, match=r"channel=1, the stream has 1"):
            open_source(f"serial:{wire.path}?stream=0x20&channel=1&patience=0.3")


def test_a_hang_up_while_opening() -> None:
    def talk(wire: Wire) -> None:
        if wire.heard():
            wire.stop.set()
            wire.hang_up()

    with device(talk) as wire, pytest.raises(BadInput, match=r"hung up .* while it was being opened"):
        open_source(f"serial:{wire.path}")


def test_info_describes_the_stream() -> None:
    with device(Steady(channels=2, info=INFO)) as wire:
        source = open_source(f"serial:{wire.path}?channel=1&invert=yes")
        info = source.info
        assert (info.name, info.unit, info.scale, info.offset) == ("ppg red", "nA", 0.5, 7.0)
        assert (info.device, info.period_ns, info.rate_decision) == ("board (fw 3)", 1_000_000, "nominal")
        take(source, lambda blocks, _: len(blocks) == 5 and bool((blocks[4].values >= 1000).all()))


def test_without_info_the_header_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "INFO_S", 0.1)
    with device(Steady()) as wire:
        source = open_source(f"serial:{wire.path}?rate=900")
        assert (source.info.name, source.info.scale, source.info.rate_decision) == ("stream 0x10", 1.0, "user")
        assert source.info.rate == pytest.approx(900)
        source.close()


# Streaming


def test_close_from_another_thread_ends_the_iteration_at_once() -> None:
    steady = Steady(info=INFO)
    with device(steady) as wire:
        source = open_source(f"serial:{wire.path}")
        ended: list[float] = []

        def read() -> None:
            for _ in source:
                pass
            ended.append(time.monotonic())

        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(0.2)
        steady.mute = True
        time.sleep(0.1)
        asked = time.monotonic()
        source.close()
        thread.join(2)
        assert ended
        assert ended[0] - asked < 0.5
        source.close()


def test_silence_is_told_apart_from_a_sensor_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "SILENT_S", 0.3)
    steady = Steady(info=INFO)
    with device(steady) as wire:
        source = open_source(f"serial:{wire.path}")

        def script(blocks: list[SampleBlock], notices: list[Notice]) -> bool:
            kinds = [n.kind for n in notices]
            if kinds == ["connected"] and len(blocks) == 5:
                steady.mute = steady.heartbeats = True
            elif kinds[-1] == "silent":
                steady.mute = steady.heartbeats = False
            elif kinds[-1] == "restored" and kinds.count("restored") == 1:
                steady.mute = True
            return kinds.count("restored") == 2

        seen: list[Notice] = []

        def until(blocks: list[SampleBlock], notices: list[Notice]) -> bool:
            seen[:] = notices
            return script(blocks, notices)

        take(source, until)
        assert [n.kind for n in seen] == ["connected", "silent", "restored", "silent", "restored"]
        assert "sensor fault" in seen[1].text
        assert "link silent" in seen[3].text
        assert source.counters["reconnects"] >= 1
        assert source.counters["device_dropped"] == 5


def test_a_port_gone_for_good_is_given_up() -> None:
    with device(Steady(info=INFO)) as wire:
        source = open_source(f"serial:{wire.path}?give_up=0.5")
        kinds: list[str] = []
        unplugged: list[float] = []

        def read() -> None:
            for item in source:
                if isinstance(item, Notice):
                    kinds.append(item.kind)
                elif not unplugged and item.index > 50:
                    wire.stop.set()
                    time.sleep(0.05)
                    wire.hang_up()
                    unplugged.append(time.monotonic())

        with pytest.raises(SourceLost, match=r"gave up after 0.5 s: .* does not exist"):
            read()
        assert kinds == ["connected", "lost"]
        assert 0.3 < time.monotonic() - unplugged[0] < 3


# The virtual sensor's process


@contextmanager
def sensor(folder: Path, *args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``pulsecode sim … --pty --link``; yields the process and the URI it says to use."""
    link = folder / "sensor"
    process = subprocess.Popen(
        [PULSECODE, "sim", *args, "--pty", "--link", str(link)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.strip().endswith(f"serial:{link}"), line
        yield process, f"serial:{link}"
    finally:
        process.terminate()
        process.wait(5)
        assert process.stdout is not None
        process.stdout.close()


def offset_in(reference: NDArray[np.int32], block: SampleBlock) -> int:
    """Where the device's samples of the first block lie in what it measured."""
    n = len(block.values)
    return next(i for i in range(20_000) if np.array_equal(reference[i : i + n], block.values))


def test_a_replugged_cable_costs_exactly_what_was_lost(tmp_path: Path) -> None:
    reference = Body(Scenario.find("unplug"), 100, 5).read(20_000).ppg
    with sensor(tmp_path, "unplug", "--seed", "5", "--speed", "12", "--drop", "0.03", "--skew-ppm", "400") as (_, uri):
        source = open_source(uri)
        assert (source.info.scale, source.info.name) == (-1.0, "ppg")
        assert source.info.device.startswith("virtual (pulsecode ")
        kinds: list[str] = []
        blocks: list[SampleBlock] = []
        for item in source:
            if isinstance(item, Notice):
                kinds.append(item.kind)
            else:
                blocks.append(item)
                if "restored" in kinds and item.end > 2500:
                    break
        source.close()
    first = offset_in(reference, blocks[0])
    for block in blocks:
        assert np.array_equal(block.values, reference[first + block.index : first + block.end])
        assert block.flags & Flag.SYNTHETIC
    assert kinds[:3] == ["connected", "lost", "restored"]
    by_reason = {
        reason: sum(b.index - a.end for a, b in pairwise(blocks) if b.gap_reason == reason)
        for reason in ("link lost", "frames lost")
    }
    assert by_reason["link lost"] >= 300
    assert by_reason["frames lost"] > 0
    assert by_reason["frames lost"] % 20 == 0
    counters = source.counters
    assert counters["missing"] == sum(by_reason.values())
    assert counters["received"] + counters["missing"] == blocks[-1].end
    assert {b.segment for b in blocks} == {0}


def test_the_sensor_drops_and_tells_when_nobody_reads(tmp_path: Path) -> None:
    with sensor(tmp_path, "sinus", "--seed", "6", "--speed", "400") as (_, uri):
        source = open_source(uri)
        iterator = iter(source)
        blocks = [b for b in (next(iterator) for _ in range(6)) if isinstance(b, SampleBlock)]
        time.sleep(0.6)  # 240 s of samples, three times what fits into all buffers
        for item in iterator:
            if isinstance(item, SampleBlock):
                blocks.append(item)
                if source.counters.get("device_dropped", 0):
                    break
        source.close()
    assert any(block.flags & Flag.LOST_BEFORE and block.index > blocks[0].end for block in blocks)
    reference = Body(Scenario.find("sinus"), 100, 6).read(blocks[-1].end + 20_000).ppg
    first = offset_in(reference, blocks[0])
    for block in blocks:
        assert np.array_equal(block.values, reference[first + block.index : first + block.end])


def play_and_compare(folder: Path, record: Path) -> Source:
    uri = f"wfdb:{record}"
    with sensor(folder, "--play", uri, "--speed", "1e9") as (process, serial_uri):
        time.sleep(0.3)  # a sensor that did not wait for its reader would be far ahead
        source = open_source(serial_uri)
        played = [b for b in source if isinstance(b, SampleBlock)]
        assert process.wait(10) == 0
    direct = [b for b in open_source(uri) if isinstance(b, SampleBlock)]

    def samples(blocks: list[SampleBlock]) -> list[tuple[int, int]]:
        return [(b.index + i, int(v)) for b in blocks for i, v in enumerate(b.values)]

    assert samples(played) == samples(direct)
    # What is missing at the end is told too, by an empty block.
    assert played[-1].end == direct[-1].end == len(read_channel(record).missing)
    assert source.counters["received"] + source.counters["missing"] == played[-1].end
    assert played[0].values.dtype == direct[0].values.dtype
    assert source.info.period_ns == open_source(uri).info.period_ns
    assert (source.info.scale, source.info.offset) == (
        open_source(uri).info.scale,
        open_source(uri).info.offset,
    )
    return source


@pytest.mark.parametrize("big", [False, True], ids=["s24", "s32"])
def test_a_played_record_is_the_record(tmp_path: Path, big: bool) -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(-30_000, 30_000, (4000, 2)).astype(np.int64) * (60_000 if big else 1)
    missing = -(2**31) if big else -(2**15)
    values[:13, 1] = values[500:1777, 1] = values[3000, 1] = values[3990:, 1] = missing
    form = "32" if big else "16"
    wfdb.wrsamp(
        "rec", fs=125, units=["mV", "NU"], sig_name=["II", "PLETH"], d_signal=values, fmt=[form, form],
        adc_gain=[200.0, 4000.7279], baseline=[0, -1998], write_dir=str(tmp_path),
    )  # fmt: skip
    source = play_and_compare(tmp_path, tmp_path / "rec")
    assert source.counters["missing"] == 13 + 1277 + 1 + 10
    assert source.counters["lost_frames"] == 0


def test_a_record_without_a_single_sample_is_as_long_on_both_ways(tmp_path: Path) -> None:
    values = np.full((1000, 1), -(2**15), np.int64)
    wfdb.wrsamp(
        "rec", fs=125, units=["NU"], sig_name=["PLETH"], d_signal=values, fmt=["16"],
        adc_gain=[100.0], baseline=[0], write_dir=str(tmp_path),
    )  # fmt: skip
    source = play_and_compare(tmp_path, tmp_path / "rec")
    assert (source.counters["received"], source.counters["missing"]) == (0, 1000)


@pytest.mark.data
@pytest.mark.parametrize("name", ["challenge2015/v212s", "mimic_perform_af/AF_wfdb/mimic_perform_af_007"])
def test_a_played_real_record_is_the_record(tmp_path: Path, shared_data: Path, name: str) -> None:
    assert play_and_compare(tmp_path, shared_data / name).counters["missing"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_sensor_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with sensor(tmp_path, "sinus") as (process, uri):
        source = open_source(uri)
        assert (tmp_path / "sensor").is_symlink()
        process.send_signal(number)
        assert process.wait(5) == 0
        assert not (tmp_path / "sensor").is_symlink()
        source.close()


def test_once_ends_the_stream_for_the_reader_too(tmp_path: Path) -> None:
    with sensor(tmp_path, "sinus", "--once", "--no-drop", "--speed", "1e9") as (process, uri):
        blocks = [b for b in open_source(uri, "ecg") if isinstance(b, SampleBlock)]
        assert process.wait(10) == 0
    reference = Body(Scenario.find("sinus"), 100, 0).read(6000).ecg
    assert np.array_equal(np.concatenate([b.values for b in blocks]), reference)
