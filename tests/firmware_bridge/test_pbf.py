"""PBF v1 and COBS against the specification's vectors, and against noise."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import cobs
from firmware_bridge.assembler import Assembler
from firmware_bridge.block import Flag
from firmware_bridge.payloads import Heartbeat, Info, StreamDeclaration, pong
from firmware_bridge.pbf import (
    MAX_BODY,
    MAX_PIECE,
    Decoder,
    Frame,
    FrameType,
    SampleFormat,
    pack_samples,
    unpack_samples,
)

# PROTOCOLS.md §7.3, own vectors.
DATA = bytes.fromhex(
    "04010110 09efbe01 02785634 12010101 04809698 04022304 16a08601 c0d401aa 8601b6d4 01b48601 acd401ff"
    "ffff0101 05c6720b 9400"
)
HEARTBEAT = bytes.fromhex(
    "03010201 04efbe07 01010340 12010101 01010101 01010101 03d20401 03100e01 02020201 059008fa c500"
)
DATA_515 = bytes.fromhex(
    "0d010110 01efbe03 02d84035 12010101 04809698 04022302 0dbe8601 a2d401c8 860198d4 0104a477 d400"
)
FLIPPED = DATA.replace(bytes.fromhex("c0d401aa"), bytes.fromhex("c0d405aa"))
BOOT_TEXT = b"ets Jul 29 2019 rst:0x1\r\n"
RESYNC = DATA[-39:] + b"\0" + DATA + FLIPPED + HEARTBEAT + BOOT_TEXT + b"\0" + DATA_515 + DATA[:13]


def feed_in_pieces(data: bytes, cuts: list[int]) -> tuple[Decoder, list[Frame]]:
    decoder = Decoder()
    edges = [0, *sorted({c % (len(data) + 1) for c in cuts}), len(data)]
    frames = [frame for a, b in pairwise(edges) for frame in decoder.feed(data[a:b])]
    return decoder, frames


def test_the_data_vector() -> None:
    (frame,) = Decoder().feed(DATA)
    assert frame.type is FrameType.DATA
    assert (frame.stream, frame.boot, frame.sequence) == (0x10, 0xBEEF, 513)
    assert (frame.device_us, frame.period_ns) == (0x12345678, 10_000_000)
    assert (frame.channels, frame.sample_format, frame.count) == (2, SampleFormat.S24, 4)
    values = unpack_samples(frame)
    assert values.dtype == np.int32
    assert values.tolist() == [[100_000, 120_000], [100_010, 119_990], [100_020, 119_980], [-1, 0]]
    assert frame.encode() == DATA


def test_the_heartbeat_vector() -> None:
    (frame,) = Decoder().feed(HEARTBEAT)
    assert Heartbeat.unpack(frame.payload) == Heartbeat(1234, 3600, 2, 1)
    again = Frame(
        FrameType.HEARTBEAT, boot=0xBEEF, sequence=7, device_us=0x12400000, payload=Heartbeat(1234, 3600, 2, 1).pack()
    )
    assert again.encode() == HEARTBEAT


def test_the_lost_frame_vector_is_two_missing_samples() -> None:
    assembler, decoder = Assembler(), Decoder()
    blocks = [b for frame in decoder.feed(DATA + DATA_515) for b in assembler.push(frame, 0)]
    assert [(b.index, b.values.tolist()) for b in blocks] == [
        (0, [100_000, 100_010, 100_020, -1]),
        (6, [100_030, 100_040]),
    ]
    assert blocks[1].flags == Flag.LOST_BEFORE
    assert (assembler.books.lost_frames, assembler.books.missing) == (1, 2)


@pytest.mark.parametrize("cuts", [[], list(range(len(RESYNC)))], ids=["at once", "byte by byte"])
def test_the_resync_vector(cuts: list[int]) -> None:
    decoder, frames = feed_in_pieces(RESYNC, cuts)
    assert [(f.type, f.stream, f.sequence) for f in frames] == [(1, 0x10, 513), (2, 0, 7), (1, 0x10, 515)]
    counters = decoder.counters
    assert counters.rejected == 3
    assert counters.first_piece == 1  # half a frame after opening is no fault of the line
    assert counters.rejected_crc == 1
    assert counters.resyncs == 2
    assert decoder.pending == 13
    assert counters.bytes == len(RESYNC)


@pytest.mark.parametrize(
    ("plain", "stuffed"),
    [
        ("", "01"),
        ("00", "0101"),
        ("11220033", "0311220233"),
        ("4500002C4C79000040064F37", "024501042C4C79010540064F37"),
        (bytes(range(1, 255)).hex(), "ff" + bytes(range(1, 255)).hex()),
        (bytes(range(256)).hex(), "01ff" + bytes(range(1, 255)).hex() + "02ff"),
    ],
)
def test_cobs_reference_pairs(plain: str, stuffed: str) -> None:
    assert cobs.encode(bytes.fromhex(plain)).hex() == stuffed.lower()
    assert cobs.decode(bytes.fromhex(stuffed)).hex() == plain.lower()


def test_cobs_accepts_the_other_form_of_a_full_block() -> None:
    assert cobs.decode(b"\xff" + bytes(range(1, 255)) + b"\x01") == bytes(range(1, 255))


@pytest.mark.parametrize("bad", [b"", b"\x05ab", b"\x00", b"\x03a\x00"])
def test_cobs_refuses(bad: bytes) -> None:
    with pytest.raises(cobs.CobsError):
        cobs.decode(bad)


@given(
    st.binary(max_size=800)
    | st.binary(max_size=3).map(lambda b: b * 255)
    | st.lists(st.sampled_from([0, 1, 253, 254, 255, 508]), max_size=4).map(lambda n: b"\0".join(b"x" * k for k in n))
)
def test_cobs_round_trip(data: bytes) -> None:
    stuffed = cobs.encode(data)
    assert 0 not in stuffed
    assert len(stuffed) <= len(data) + 1 + len(data) // 254
    assert cobs.decode(stuffed) == data


def in_range(form: SampleFormat) -> Iterator[int]:
    bits = 8 * form.width
    yield from (0, 1, 2 ** (bits - 1) - 1)
    yield from (2**bits - 1,) if form < 0x10 else (-(2 ** (bits - 1)), -1)


@pytest.mark.parametrize("form", SampleFormat)
def test_every_sample_format(form: SampleFormat) -> None:
    values = np.array([*in_range(form)] if form not in (0x12, 0x14) else [0, -1.5, 2.25], np.float64).reshape(-1, 1)
    values = np.hstack([values, values[::-1]])
    wide = values if form in (SampleFormat.F16, SampleFormat.F32, SampleFormat.U32) else values.astype(np.int32)
    packed = pack_samples(values.astype(np.int64) if form < 0x10 or form > 0x20 else values, form)
    frame = Frame(
        FrameType.DATA, 0x10, period_ns=1000, channels=2, sample_format=form, count=len(values), payload=packed
    )
    (back,) = Decoder().feed(frame.encode())
    out = unpack_samples(back)
    assert out.dtype == wide.dtype
    assert out.tolist() == wide.tolist()


def test_irregular_samples_carry_their_offsets() -> None:
    payload = b"\x10\0\0\0\x05\x00" + b"\x20\0\0\0\x06\x00"
    frame = Frame(FrameType.DATA, 0x40, period_ns=0, channels=1, sample_format=0x22, count=2, payload=payload)
    (back,) = Decoder().feed(frame.encode())
    assert unpack_samples(back).tolist() == [[5], [6]]


def test_info_is_json_and_short_enough_for_one_notification() -> None:
    info = Info("pulsecode 0.1.0", "virtual", [StreamDeclaration(16, "ppg", "counts", -1.0, 0.5, 100.0, ["ir", "red"])])
    frame = Frame(FrameType.INFO, payload=info.pack())
    assert len(frame.encode()) <= MAX_BODY + 2
    (back,) = Decoder().feed(frame.encode())
    assert Info.unpack(back.payload) == info
    assert Info.unpack(b'{"firmware": 3}') is None
    assert Info.unpack(b"\xff") is None


def test_pong_brings_the_ping_back() -> None:
    assert pong((2**40 + 1).to_bytes(8, "little"), 77) == (2**40 + 1).to_bytes(8, "little") + (77).to_bytes(8, "little")
    assert len(pong(b"", 0)) == 16


def damaged(**changes: int) -> bytes:
    """A frame whose body is changed in one field, with a CRC that fits."""
    fields = {"period_ns": 10_000_000, "channels": 1, "sample_format": 0x23, "count": 2} | changes
    return Frame(FrameType.DATA, 0x10, payload=bytes(6), **fields).encode()


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"\x09abc\0", "rejected_cobs"),
        (cobs.encode(bytes(27)) + b"\0", "rejected_length"),
        (FLIPPED, "rejected_crc"),
        (damaged(count=3), "rejected_length"),
        (damaged(sample_format=0x25), "rejected_format"),
        (damaged(channels=0), "rejected_format"),
        (Frame(FrameType.HEARTBEAT, payload=b"short").encode(), "rejected_length"),
        (b"x" * (MAX_PIECE + 1) + b"\0", "rejected_oversize"),
    ],
)
def test_each_kind_of_damage_has_its_counter(wire: bytes, reason: str) -> None:
    decoder = Decoder()
    assert decoder.feed(b"\0" + wire) == []
    assert getattr(decoder.counters, reason) == decoder.counters.rejected == 1
    assert [f.sequence for f in decoder.feed(DATA)] == [513]
    assert decoder.counters.resyncs == 1


def test_a_later_version_is_refused_and_a_later_frame_type_is_passed_over() -> None:
    from binascii import crc32

    body = bytearray(cobs.decode(DATA[:-1])[:-4])
    body[0] = 2
    decoder = Decoder()
    decoder.feed(b"\0" + cobs.encode(bytes(body) + crc32(body).to_bytes(4, "little")) + b"\0")
    assert decoder.counters.rejected_version == 1
    body[0], body[1] = 1, 0x30
    assert decoder.feed(cobs.encode(bytes(body) + crc32(body).to_bytes(4, "little")) + b"\0") == []
    assert (decoder.counters.unknown_type, decoder.counters.rejected) == (1, 1)


def test_a_piece_of_exactly_the_cap_is_still_looked_at() -> None:
    decoder = Decoder()
    decoder.feed(b"\0" + b"\x01" * MAX_PIECE + b"\0")
    assert (decoder.counters.rejected_oversize, decoder.counters.rejected) == (0, 1)


def test_reopening_forgets_half_a_frame() -> None:
    decoder = Decoder()
    decoder.feed(b"\0" + DATA[:20])
    decoder.reopened()
    assert len(decoder.feed(DATA[20:] + DATA)) == 1
    assert decoder.counters.damaged == 0


@settings(max_examples=200, deadline=None)
@given(
    garbage=st.lists(st.binary(max_size=700), min_size=4, max_size=4),
    cuts=st.lists(st.integers(0, 4000), max_size=30),
)
def test_chunks_do_not_matter_and_garbage_costs_only_what_it_touches(garbage: list[bytes], cuts: list[int]) -> None:
    parts = [DATA, HEARTBEAT, DATA_515]
    data = garbage[0] + b"\0" + b"".join(good + junk + b"\0" for good, junk in zip(parts, garbage[1:], strict=True))
    whole = Decoder()
    at_once = whole.feed(data)
    pieces, cut = feed_in_pieces(data, cuts)
    assert cut == at_once
    assert pieces.counters == whole.counters
    assert [f.sequence for f in at_once] == [513, 7, 515]  # 2⁻³² aside, no garbage is taken for a frame


frames_of_any_sort = st.builds(
    Frame,
    type=st.just(FrameType.DATA),
    stream=st.just(0x10),
    flags=st.integers(0, 255).map(Flag),
    boot=st.integers(0, 2),
    sequence=st.integers(0, 65535),
    device_us=st.integers(0, 2**64 - 1) | st.integers(0, 10**7),
    period_ns=st.sampled_from([0, 1, 10_000_000, 2**32 - 1]),
    channels=st.integers(1, 3),
    sample_format=st.sampled_from(sorted(SampleFormat)),
    count=st.integers(0, 5),
)


@settings(max_examples=200, deadline=None)
@given(frames=st.lists(frames_of_any_sort, max_size=30), filling=st.binary(min_size=240, max_size=240))
def test_no_valid_frame_however_absurd_upsets_the_books(frames: list[Frame], filling: bytes) -> None:
    decoder, assembler, end, received = Decoder(), Assembler(), 0, 0
    for number, frame in enumerate(frames):
        size = frame.count * ((4 if frame.period_ns == 0 else 0) + frame.channels * (frame.sample_format & 15))
        for back in decoder.feed(
            Frame(*(getattr(frame, n) for n in frame.__slots__ if n != "payload"), filling[:size]).encode()
        ):
            for block in assembler.push(back, number * 10**7):
                assert block.index >= end
                assert np.isfinite(block.values).all()
                end, received = block.end, received + len(block.values)
    assert assembler.books.received == received
    assert assembler.books.received + assembler.books.missing >= end
