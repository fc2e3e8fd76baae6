"""PBF v1, the framing between our microcontrollers and the host: ``wire = COBS(body) + 00``, all little endian.

``body`` = 24 byte header, payload, CRC-32 (zlib polynomial) of everything before it. :class:`Decoder` does no I/O
and never raises: whatever a line delivers becomes frames and counters, however it was cut into chunks.
"""

import enum
import struct
from binascii import crc32
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_bridge import cobs
from firmware_bridge.block import Flag, Signal
from firmware_bridge.payloads import Heartbeat

VERSION = 1
DELIMITER = b"\0"
MAX_PIECE = 512  # bytes between two delimiters; more than that is noise
MAX_BODY = 244  # what our senders keep to: one byte of COBS overhead, one BLE notification

_HEADER = struct.Struct("<BBBBHHQIBBH")
_CRC = struct.Struct("<I")
_OVERHEAD = _HEADER.size + _CRC.size

CONTROL_STREAM = 0x00
FIRST_STREAM: dict[Signal, int] = {"ppg": 0x10, "ecg": 0x20}


class FrameType(enum.IntEnum):
    """Second byte of a frame."""

    DATA = 0x01
    HEARTBEAT = 0x02
    INFO = 0x03
    EVENT = 0x04
    LOG = 0x05
    COMMAND = 0x20
    ACK = 0x21
    PING = 0x22
    PONG = 0x23


FLOAT = 0x10  # the bit of a sample format that says its values are floating point


class SampleFormat(enum.IntEnum):
    """Low nibble: bytes a value; high nibble: 0 unsigned, 1 float, 2 signed."""

    U8 = 0x01
    U16 = 0x02
    U24 = 0x03
    U32 = 0x04
    F16 = 0x12
    F32 = 0x14
    S8 = 0x21
    S16 = 0x22
    S24 = 0x23
    S32 = 0x24

    @property
    def width(self) -> int:
        """Bytes a value."""
        return self.value & 0x0F


_FORMATS = {int(f) for f in SampleFormat}
_FRAME_TYPES = {int(t) for t in FrameType}
_DTYPES = {
    SampleFormat.U8: "u1",
    SampleFormat.U16: "<u2",
    SampleFormat.U32: "<u4",
    SampleFormat.F16: "<f2",
    SampleFormat.F32: "<f4",
    SampleFormat.S8: "i1",
    SampleFormat.S16: "<i2",
    SampleFormat.S32: "<i4",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: the header's fields and the payload as sent.

    ``device_us`` is the device's clock at the first sample, µs since its boot. ``period_ns`` is the nominal sample
    period (0: irregular, every sample is preceded by a u32 offset in µs). ``count`` samples of each of
    ``channels`` channels in ``sample_format``; the last three are 0 where there are no samples.
    """

    type: FrameType
    stream: int = CONTROL_STREAM
    flags: Flag = Flag.NONE
    boot: int = 0
    sequence: int = 0
    device_us: int = 0
    period_ns: int = 0
    channels: int = 0
    sample_format: int = 0
    count: int = 0
    payload: bytes = b""

    def encode(self) -> bytes:
        """The frame as it goes over the wire, delimiter included."""
        head = _HEADER.pack(
            VERSION,
            self.type,
            self.stream,
            self.flags,
            self.boot,
            self.sequence,
            self.device_us,
            self.period_ns,
            self.channels,
            self.sample_format,
            self.count,
        )
        body = head + self.payload
        return cobs.encode(body + _CRC.pack(crc32(body))) + DELIMITER


def pack_samples(values: NDArray[np.int32] | NDArray[np.float64], sample_format: SampleFormat) -> bytes:
    """``values`` (samples,) or (samples, channels) in range of ``sample_format``, sample-major."""
    if sample_format in (SampleFormat.U24, SampleFormat.S24):
        return np.ascontiguousarray(values, "<i4").view("u1").reshape(-1, 4)[:, :3].tobytes()
    return np.ascontiguousarray(values, _DTYPES[sample_format]).tobytes()


def unpack_samples(frame: Frame) -> NDArray[np.int32] | NDArray[np.float64]:
    """The samples of a DATA frame, shape (count, channels): int32, or float64 for floats and u32."""
    form, raw = SampleFormat(frame.sample_format), np.frombuffer(frame.payload, np.uint8)
    rows = raw.reshape(frame.count, -1) if frame.count else raw.reshape(0, frame.channels * form.width)
    if frame.period_ns == 0:
        rows = rows[:, 4 if frame.count else 0 :]
    rows = np.ascontiguousarray(rows)
    if form in (SampleFormat.U24, SampleFormat.S24):
        # Into the upper three bytes of an s32 and back down: the shift extends the sign.
        wide = np.zeros((frame.count, frame.channels, 4), np.uint8)
        wide[..., 1:] = rows.reshape(frame.count, frame.channels, 3)
        upper = wide.view("<i4" if form is SampleFormat.S24 else "<u4")[..., 0]
        return (upper >> 8).astype(np.int32)
    values = rows.view(_DTYPES[form]).reshape(frame.count, frame.channels)
    if form in (SampleFormat.F16, SampleFormat.F32, SampleFormat.U32):
        with np.errstate(invalid="ignore"):  # a signalling NaN is a missing sample like any other
            return values.astype(np.float64)
    return values.astype(np.int32)


@dataclass(slots=True)
class Counters:
    """A decoder's books. ``first_piece``: what came before the first delimiter after opening and was damaged, as is
    to be expected, so it is no fault. ``resyncs``: returns to a good frame after rejected pieces."""

    bytes: int = 0
    frames: int = 0
    first_piece: int = 0
    rejected_cobs: int = 0
    rejected_length: int = 0
    rejected_crc: int = 0
    rejected_version: int = 0
    rejected_format: int = 0
    rejected_oversize: int = 0
    unknown_type: int = 0
    resyncs: int = 0

    @property
    def damaged(self) -> int:
        """Pieces rejected for a fault of the line or of the device."""
        return (
            self.rejected_cobs
            + self.rejected_length
            + self.rejected_crc
            + self.rejected_version
            + self.rejected_format
            + self.rejected_oversize
        )

    @property
    def rejected(self) -> int:
        """All pieces that were no frame."""
        return self.damaged + self.first_piece

    def to_dict(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


class _Rejected(Exception):
    def __init__(self, reason: str) -> None:
        self.reason = reason


def _parse(piece: bytes) -> Frame | None:
    """The frame in a piece between two delimiters; None for a frame type that is not known."""
    try:
        body = cobs.decode(piece)
    except cobs.CobsError:
        raise _Rejected("cobs") from None
    if len(body) < _OVERHEAD:
        raise _Rejected("length")
    if crc32(body[: -_CRC.size]) != _CRC.unpack_from(body, len(body) - _CRC.size)[0]:
        raise _Rejected("crc")
    version, kind, stream, flags, boot, sequence, device_us, period, channels, form, count = _HEADER.unpack_from(body)
    payload = body[_HEADER.size : -_CRC.size]
    if version != VERSION:
        raise _Rejected("version")
    if kind == FrameType.DATA:
        if form not in _FORMATS or channels == 0:
            raise _Rejected("format")
        if len(payload) != count * ((4 if period == 0 else 0) + channels * (form & 0x0F)):
            raise _Rejected("length")
    elif kind == FrameType.HEARTBEAT and len(payload) < Heartbeat.SIZE:
        raise _Rejected("length")
    if kind not in _FRAME_TYPES:
        return None
    return Frame(
        FrameType(kind), stream, Flag(flags), boot, sequence, device_us, period, channels, form, count, payload
    )


class Decoder:
    """Bytes in, frames out; see the module's text. ``counters`` only grow."""

    def __init__(self) -> None:
        self.counters = Counters()
        self._piece = bytearray()
        self._oversize = False
        self._first = True
        self._out_of_step = False

    @property
    def pending(self) -> int:
        """Bytes held back until their delimiter comes."""
        return len(self._piece)

    def reopened(self) -> None:
        """The transport was opened again: what was begun will not be completed, the next piece may be damaged."""
        self._piece.clear()
        self._oversize, self._first = False, True

    def feed(self, data: bytes) -> list[Frame]:
        """Frames that are complete with ``data``."""
        self.counters.bytes += len(data)
        frames: list[Frame] = []
        *ended, rest = data.split(DELIMITER)
        for part in ended:
            self._extend(part)
            if self._oversize:
                self._reject("oversize")
            elif self._piece:
                self._take(bytes(self._piece), frames)
            self._piece.clear()
            self._oversize = self._first = False
        self._extend(rest)
        return frames

    def _extend(self, part: bytes) -> None:
        if self._oversize or len(self._piece) + len(part) > MAX_PIECE:
            self._oversize = True
            self._piece.clear()
        else:
            self._piece += part

    def _reject(self, reason: str) -> None:
        if self._first:
            self.counters.first_piece += 1
            return
        name = f"rejected_{reason}"
        setattr(self.counters, name, getattr(self.counters, name) + 1)
        self._out_of_step = True

    def _take(self, piece: bytes, frames: list[Frame]) -> None:
        try:
            frame = _parse(piece)
        except _Rejected as rejected:
            self._reject(rejected.reason)
            return
        self.counters.resyncs += self._out_of_step
        self._out_of_step = False
        if frame is None:
            self.counters.unknown_type += 1  # a later version's business, not damage
        else:
            self.counters.frames += 1
            frames.append(frame)
