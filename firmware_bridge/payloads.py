"""What PBF v1's control frames carry: HEARTBEAT, INFO, PONG, and the texts this project fixes for COMMAND and EVENT."""

import struct
from dataclasses import dataclass
from typing import ClassVar

import msgspec

_HEARTBEAT = struct.Struct("<IIHH")
_PONG = struct.Struct("<QQ")

# Payloads the specification leaves open and this project fixes.
REQUEST_INFO = b"info"  # COMMAND: send INFO now
END_OF_RECORDING = b"end of recording"  # EVENT: a played recording is over, the link will close for good


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Payload of HEARTBEAT: frames sent, uptime in s, frames dropped by the transmit buffer, sensor FIFO overruns."""

    SIZE: ClassVar[int] = _HEARTBEAT.size

    frames_sent: int
    uptime_s: int
    dropped: int
    overruns: int

    def pack(self) -> bytes:
        """As sent; counters wrap like the device's."""
        return _HEARTBEAT.pack(
            self.frames_sent & 0xFFFFFFFF, self.uptime_s & 0xFFFFFFFF, self.dropped & 0xFFFF, self.overruns & 0xFFFF
        )

    @classmethod
    def unpack(cls, payload: bytes) -> "Heartbeat":
        """Of a HEARTBEAT that :class:`Decoder` let through."""
        return cls(*_HEARTBEAT.unpack_from(payload))


class StreamDeclaration(msgspec.Struct, frozen=True, omit_defaults=True):
    """What INFO says about one stream; ``physical = (count - offset) * scale``, a negative ``scale`` declares counts
    that fall as blood volume rises."""

    id: int
    name: str
    unit: str = "counts"
    scale: float = 1.0
    offset: float = 0.0
    rate: float = 0.0
    channels: list[str] = []


class Info(msgspec.Struct, frozen=True):
    """Payload of INFO, UTF-8 JSON. A device with many streams sends several, each with some of them."""

    firmware: str = ""
    board: str = ""
    streams: list[StreamDeclaration] = []

    def pack(self) -> bytes:
        """As sent."""
        return msgspec.json.encode(self)

    @classmethod
    def unpack(cls, payload: bytes) -> "Info | None":
        """None where the payload is not such JSON."""
        try:
            return msgspec.json.decode(payload, type=cls)
        except msgspec.DecodeError:
            return None


def pong(ping: bytes, device_us: int) -> bytes:
    """Payload of PONG: the PING's host u64 back, and the device's clock in µs."""
    host = int.from_bytes(ping[:8].ljust(8, b"\0"), "little")
    return _PONG.pack(host, device_us)
