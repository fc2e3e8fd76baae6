"""The virtual sensor's firmware without its wire: runs of samples in, PBF v1 frames out (sans-IO).

It keeps what a battery powered device keeps while nobody listens: its clock, with its error, and its sequence
numbers, so that whatever is lost on the way can be counted exactly by who receives the rest.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.block import Flag
from firmware_bridge.payloads import END_OF_RECORDING, REQUEST_INFO, Heartbeat, Info, StreamDeclaration, pong
from firmware_bridge.pbf import DELIMITER, Decoder, Frame, FrameType, SampleFormat, pack_samples

SAMPLES_PER_FRAME = 20
HEARTBEAT_S, INFO_S = 1.0, 30.0
POWER_ON_US = 1_000_000  # the clock at the first sample: booting took a second


@dataclass(frozen=True, slots=True)
class Track:
    """One stream the device sends, a single channel of signed samples."""

    stream: int
    name: str
    channel: str
    unit: str
    scale: float
    offset: float
    period_ns: int
    sample_format: SampleFormat = SampleFormat.S24
    device: str = "virtual"

    def due(self, index: int) -> float:
        """When sample ``index`` has been taken, s since the first."""
        return index * self.period_ns / 1e9


@dataclass(frozen=True, slots=True)
class Run:
    """What one DATA frame will hold: ``values`` (n,) int32 of ``track`` from sample ``index``. ``plugged``: whether
    the cable is in while it would be sent."""

    track: Track
    index: int
    values: NDArray[np.int32]
    flags: Flag = Flag.NONE
    plugged: bool = True

    @property
    def due(self) -> float:
        """When its last sample has been taken, s since the first."""
        return self.track.due(self.index + len(self.values))


class Device:
    """One boot of the device. ``skew_ppm``: how much its clock runs too fast against its sample clock."""

    def __init__(self, tracks: list[Track], boot: int, skew_ppm: float = 0.0, synthetic: bool = True) -> None:
        self.tracks = tracks
        self.dropped = 0
        self._boot = boot
        self._rate = 1 + skew_ppm / 1e6
        self._flags = Flag.SYNTHETIC if synthetic else Flag.NONE
        self._sequences: Counter[int] = Counter()
        self._lost: set[int] = set()  # streams that must tell of a loss in their next frame
        self._frames = 0
        self._next_heartbeat, self._next_info = 0.0, INFO_S
        self._host = Decoder()

    def boot(self) -> bytes:
        """What it says first: a lone delimiter, then who it is."""
        return DELIMITER + self.info(0.0)

    def housekeeping(self, now: float) -> Iterator[bytes]:
        """HEARTBEAT and INFO frames that are due up to ``now`` seconds."""
        while self._next_heartbeat <= now:
            at = self._next_heartbeat
            uptime = self._clock_us(at) // 1_000_000
            yield self._control(FrameType.HEARTBEAT, Heartbeat(self._frames, uptime, self.dropped, 0).pack(), at)
            self._next_heartbeat += HEARTBEAT_S
        while self._next_info <= now:
            yield self.info(self._next_info)
            self._next_info += INFO_S

    def data(self, run: Run) -> bytes:
        """The DATA frame of ``run``; its sequence number is spent whether it is then sent or not."""
        track, flags = run.track, self._flags | run.flags
        if track.stream in self._lost:
            self._lost.remove(track.stream)
            flags |= Flag.LOST_BEFORE
        self._frames += 1
        return Frame(
            FrameType.DATA,
            track.stream,
            flags,
            self._boot,
            self._sequence(track.stream),
            self._clock_us(track.due(run.index)),
            track.period_ns,
            1,
            track.sample_format,
            len(run.values),
            pack_samples(run.values, track.sample_format),
        ).encode()

    def overflowed(self, stream: int) -> None:
        """The transmit buffer had no room for a frame of ``stream``: it is dropped, counted and told."""
        self.dropped += 1
        self._lost.add(stream)

    def info(self, now: float) -> bytes:
        """INFO frames, one for each stream so that every body stays short."""
        frames = bytearray()
        for track in self.tracks:
            declared = StreamDeclaration(
                track.stream, track.name, track.unit, track.scale, track.offset, 1e9 / track.period_ns, [track.channel]
            )
            info = Info(f"pulsecode {version('pulsecode')}", track.device, [declared])
            frames += self._control(FrameType.INFO, info.pack(), now)
        return bytes(frames)

    def end(self, now: float) -> bytes:
        """EVENT: the recording is over."""
        return self._control(FrameType.EVENT, END_OF_RECORDING, now)

    def hear(self, data: bytes, now: float) -> bytes:
        """Answer what the host sent: INFO on request, PONG for PING, ACK for any COMMAND."""
        answer = bytearray()
        for frame in self._host.feed(data):
            if frame.type is FrameType.PING:
                answer += self._control(FrameType.PONG, pong(frame.payload, self._clock_us(now)), now)
            elif frame.type is FrameType.COMMAND:
                answer += self._control(FrameType.ACK, frame.payload, now)
                if frame.payload == REQUEST_INFO:
                    answer += self.info(now)
        return bytes(answer)

    def _clock_us(self, seconds: float) -> int:
        return POWER_ON_US + round(seconds * 1e6 * self._rate)

    def _sequence(self, stream: int) -> int:
        self._sequences[stream] += 1
        return (self._sequences[stream] - 1) % 65536

    def _control(self, kind: FrameType, payload: bytes, now: float) -> bytes:
        self._frames += 1
        return Frame(
            kind, boot=self._boot, sequence=self._sequence(0), device_us=self._clock_us(now), payload=payload
        ).encode()
