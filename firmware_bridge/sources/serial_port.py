"""``serial:/dev/ttyUSB0?baud=115200`` — a sensor that speaks PBF v1 over a serial line, held through thick and thin.

The port is read in the thread that iterates. A link that is lost is opened again, and the sample index goes on: the
device's own stamps say how much is missing.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Literal

from firmware_bridge.assembler import Assembler
from firmware_bridge.block import Notice, SampleBlock, Signal, StreamInfo
from firmware_bridge.errors import BadInput, SourceLost
from firmware_bridge.payloads import END_OF_RECORDING, REQUEST_INFO, Heartbeat, Info, StreamDeclaration
from firmware_bridge.pbf import FIRST_STREAM, FLOAT, Decoder, Frame, FrameType
from firmware_bridge.source import SourceUri
from firmware_bridge.sources.port import LinkLost, Port
from firmware_bridge.sources.serial_settings import Settings

Kind = Literal["connected", "lost", "restored", "silent", "warning"]

SILENT_S = 2.0  # receiver rule 7
INFO_S = 3.0  # how long opening waits for INFO once samples come
BACKOFF_S = (0.1, 2.0)


class SerialSource:
    """A live :class:`~firmware_bridge.source.Source`; opening waits for the stream to show itself.

    Raises :class:`BadInput` where the port cannot be opened or no sensor of ours speaks on it, and, while iterating,
    :class:`SourceLost` after ``give_up`` seconds without a valid frame.
    """

    live = True

    def __init__(self, settings: Settings, signal: Signal) -> None:
        self._settings = settings
        self._signal = signal
        self._stop = threading.Event()
        self._lock = threading.Lock()  # held around every use of the port, so close() never closes it under a read
        self._port = Port(settings.path, settings.baud)
        self._decoder = Decoder()
        self._assembler = Assembler(settings.channel)
        self._early: deque[tuple[Frame, int]] = deque()
        self._stream = settings.stream
        self._heartbeat: Heartbeat | None = None
        self._reconnects = 0
        self._period_changes = 0
        self._troubled = False
        self._ended = False
        try:
            self._port.open()
        except LinkLost as lost:
            raise BadInput(f"serial: {lost}") from None
        try:
            self._port.write(_ask_for_info())
            self.info = self._introduce()
        except BaseException:
            self._port.close()
            raise
        self._frame_at = self._data_at = self._opened_at = time.monotonic()

    @property
    def counters(self) -> dict[str, int]:
        """The wire's books and the stream's; ``device_dropped`` is what the device itself says it lost."""
        own = {"reconnects": self._reconnects, "period_changes": self._period_changes}
        if self._heartbeat is not None:
            own |= {"device_dropped": self._heartbeat.dropped, "device_overruns": self._heartbeat.overruns}
        return self._decoder.counters.to_dict() | self._assembler.books.to_dict() | own

    def close(self) -> None:
        """Stop iterating within a read's wait and release the port."""
        self._stop.set()
        with self._lock:
            self._port.close()

    def __iter__(self) -> Iterator[SampleBlock | Notice]:
        yield _notice("connected", f"{self.info.device or 'sensor'} on {self._settings.path}")
        self._frame_at = self._data_at = self._opened_at = time.monotonic()
        while self._early and not self._ended:
            yield from self._take(*self._early.popleft())
        try:
            while not self._stop.is_set() and not self._ended:
                try:
                    frames = self._decoder.feed(self._read())
                except LinkLost as lost:
                    if not self._stop.is_set():
                        yield from self._trouble("lost", f"{lost}; trying to open it again")
                        self._reopen(str(lost))
                    continue
                now = time.monotonic()
                for frame in frames:
                    self._frame_at = now
                    yield from self._take(frame, time.monotonic_ns())
                yield from self._watch(now)
        finally:
            self.close()

    def _read(self) -> bytes:
        with self._lock:
            if self._stop.is_set():
                return b""
            return self._port.read()

    def _take(self, frame: Frame, arrival_ns: int) -> Iterator[SampleBlock | Notice]:
        if frame.type is FrameType.HEARTBEAT:
            self._heartbeat = Heartbeat.unpack(frame.payload)
        elif frame.type is FrameType.EVENT and frame.payload == END_OF_RECORDING:
            self._ended = True
            yield from self._assembler.finish(arrival_ns)
        elif frame.type is FrameType.DATA and frame.stream == self._stream:
            self._data_at = time.monotonic()
            if self._troubled:
                self._troubled = False
                yield _notice("restored", f"samples from {self._settings.path} again")
            if frame.period_ns != self._nominal_ns:
                if not self._period_changes:
                    yield _notice("warning", f"the device now claims {1e9 / max(1, frame.period_ns):g} Hz; ignored")
                self._period_changes += 1
            yield from self._assembler.push(frame, arrival_ns)

    def _watch(self, now: float) -> Iterator[Notice]:
        """Receiver rule 7: a silent link is opened again, a silent sensor is only reported."""
        quiet = now - self._frame_at
        if quiet > SILENT_S:
            counters = self._decoder.counters
            why = f"no valid frame for {SILENT_S:g} s ({counters.damaged} damaged so far)"
            yield from self._trouble("silent", f"link silent: {why}; opening {self._settings.path} again")
            if now - self._opened_at > SILENT_S:
                self._reopen(why)
        elif now - self._data_at > SILENT_S:
            yield from self._trouble("silent", "sensor fault: the device answers but sends no samples of this stream")

    def _trouble(self, kind: Kind, text: str) -> Iterator[Notice]:
        """Told once, until samples come again; but a cable pulled from a silent device is news."""
        if not self._troubled or kind == "lost":
            yield _notice(kind, text)
        self._troubled = True

    def _reopen(self, why: str) -> None:
        """Open the port again, more and more slowly; raises :class:`SourceLost` in the end."""
        self._assembler.link_lost()
        with self._lock:
            self._port.close()
        pause = BACKOFF_S[0]
        while not self._stop.wait(pause):
            if time.monotonic() - self._frame_at > self._settings.give_up_s:
                raise SourceLost(f"{self._settings.text}: gave up after {self._settings.give_up_s:g} s: {why}")
            try:
                with self._lock:
                    if not self._stop.is_set():
                        self._port.open()
                        self._port.write(_ask_for_info())
                self._decoder.reopened()
                self._reconnects += 1
                self._opened_at = time.monotonic()
                return
            except LinkLost as lost:
                why = str(lost)
            pause = min(2 * pause, BACKOFF_S[1])

    def _introduce(self) -> StreamInfo:
        """Wait until the wanted stream sends samples and INFO tells what they are."""
        patience, started = self._settings.patience_s, time.monotonic()
        first: Frame | None = None
        first_at = started
        declared: dict[int, StreamDeclaration] = {}
        device = ""
        while True:
            now = time.monotonic()
            if first is None and now - started > patience:
                raise BadInput(f"serial: {self._settings.path}: {self._why_no_stream()}")
            if first is not None and (first.stream in declared or now - first_at > INFO_S):
                break
            try:
                frames = self._decoder.feed(self._port.read())
            except LinkLost as lost:
                raise BadInput(f"serial: {lost} while it was being opened") from None
            for frame in frames:
                self._early.append((frame, time.monotonic_ns()))
                info = Info.unpack(frame.payload) if frame.type is FrameType.INFO else None
                if info is not None:
                    declared |= {stream.id: stream for stream in info.streams}
                    device = f"{info.board} ({info.firmware})".strip() if info.board else info.firmware
                if first is None and frame.type is FrameType.DATA and self._wanted(frame.stream):
                    first, first_at = frame, now
        self._stream, self._nominal_ns = first.stream, first.period_ns
        return self._describe(first, declared.get(first.stream), device)

    def _wanted(self, stream: int) -> bool:
        if self._stream is not None:
            return stream == self._stream
        return stream & 0xF0 == FIRST_STREAM[self._signal]

    def _describe(self, first: Frame, declared: StreamDeclaration | None, device: str) -> StreamInfo:
        settings = self._settings
        if settings.channel >= first.channels:
            raise BadInput(f"source {settings.text!r}: channel={settings.channel}, the stream has {first.channels}")
        if first.period_ns == 0:
            raise BadInput(f"serial: {settings.path}: stream {first.stream:#04x} is irregular; choose another ?stream=")
        if declared is None:
            # Nothing is known about the unit and the polarity: ?invert=yes says that counts fall with blood volume.
            declared = StreamDeclaration(first.stream, f"stream {first.stream:#04x}")
        name = declared.name
        if settings.channel < len(declared.channels) and first.channels > 1:
            name = f"{name} {declared.channels[settings.channel]}"
        return StreamInfo(
            self._signal,
            name,
            period_ns=first.period_ns if settings.rate is None else round(1e9 / settings.rate),
            unit=declared.unit,
            scale=-declared.scale if settings.invert else declared.scale,
            offset=declared.offset,
            resolution=0.0 if first.sample_format & FLOAT else 1.0,
            device=device,
            rate_decision="nominal" if settings.rate is None else "user",
        )

    def _why_no_stream(self) -> str:
        counters, seconds = self._decoder.counters, self._settings.patience_s
        if not counters.bytes:
            return f"nothing came in {seconds:g} s; is the device on, and is this its port?"
        if not counters.frames:
            pieces = counters.rejected + counters.unknown_type
            return (
                f"{counters.bytes} bytes in {seconds:g} s and no PBF frame among them ({pieces} pieces rejected); "
                f"check ?baud= (now {self._settings.baud}) and that the device speaks PBF v1"
            )
        streams = sorted({frame.stream for frame, _ in self._early if frame.type is FrameType.DATA})
        if not streams:
            return f"the device answers but sent no samples in {seconds:g} s: sensor fault"
        wanted = "stream" if self._stream is None else f"stream {self._stream:#04x}"
        present = ", ".join(f"{stream:#04x}" for stream in streams)
        return f"no {self._signal} {wanted}; it sends {present} (choose one with ?stream=)"


def _ask_for_info() -> bytes:
    # A delimiter first: the device may have heard half of something before.
    return b"\0" + Frame(FrameType.COMMAND, payload=REQUEST_INFO).encode()


def _notice(kind: Kind, text: str) -> Notice:
    return Notice(kind, text, time.monotonic_ns())


def open_source(uri: SourceUri, signal: Signal) -> SerialSource:
    """Open a port and wait for its sensor; see the module's text. Raises :class:`BadInput`."""
    return SerialSource(Settings.read(uri), signal)
