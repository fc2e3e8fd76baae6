"""The ring's books balance whatever comes, and what it holds is what was written."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.ring import MISSING, SampleRing
from firmware_bridge.block import Flag, SampleBlock

CAPACITY, BRIDGE = 40, 10


def block(index: int, count: int, segment: int = 0) -> SampleBlock:
    return SampleBlock(index, np.arange(index, index + count, dtype=np.int32), 0, segment=segment)


def holes(flags: np.ndarray) -> list[int]:
    """How many missing samples are held between each two that came."""
    return [int(n) - 1 for n in np.diff(np.flatnonzero(flags & MISSING == 0))]


@given(
    st.lists(
        st.tuples(
            st.integers(-15, 60),  # step from the last end: late, contiguous or after a gap
            st.integers(0, 100),  # samples
            st.integers(0, 30),  # how much the reader then uses
            st.booleans(),  # restart
        ),
        max_size=30,
    )
)
def test_books_balance_and_values_stay_true(writes: list[tuple[int, int, int, bool]]) -> None:
    ring = SampleRing(CAPACITY, BRIDGE)
    end = segment = 0
    sent: set[int] = set()
    for step, count, use, restart in writes:
        segment += restart
        start = max(0, end + step)
        ring.write(block(start, count, segment))
        # A sample that comes after its place was settled is late, never delivered.
        sent |= set(range(max(start, end), start + count))
        end = max(end, start + count)
        books = ring.books
        assert ring.head == end
        assert books.expected == end
        assert books.received + books.overwritten == len(sent)
        values, flags = ring.read(ring.tail, ring.end)
        assert len(values) == min(CAPACITY, ring.end)
        held = [int(v) for v in values[flags & MISSING == 0]]
        assert held == sorted(sent)[len(sent) - len(held) :]
        assert np.isnan(values[flags & MISSING != 0]).all()
        # Short gaps keep their length; long ones and restarts take no room but start a segment.
        for (a, b), hole in zip(itertools.pairwise(held), holes(flags), strict=True):
            assert b - a - 1 == hole or (hole == 0 and b in {s.start for s in ring.segments})
        ring.consume(ring.consumed + use)


def test_overwriting_unread_samples_is_counted_once() -> None:
    ring = SampleRing(CAPACITY, BRIDGE)
    ring.write(block(0, 30))
    ring.consume(10)
    ring.write(block(30, 30))
    assert (ring.books.received, ring.books.overwritten, ring.consumed) == (50, 10, 20)
    ring.write(block(60, 100))
    assert (ring.books.received, ring.books.overwritten, ring.books.expected) == (50, 110, 160)


def test_a_gap_names_its_reason_and_long_ones_start_a_segment() -> None:
    ring = SampleRing(CAPACITY, BRIDGE)
    assert ring.write(block(0, 5)) is None
    short = ring.write(SampleBlock(8, np.zeros(2, np.int32), 0, gap_reason="two frames lost"))
    assert short is not None and (short.index, short.missing, short.reason) == (5, 3, "two frames lost")
    assert len(ring.segments) == 1
    ring.write(block(10 + BRIDGE + 1, 5))
    assert [(s.start, s.position) for s in ring.segments] == [(0, 0), (10 + BRIDGE + 1, 10)]
    ring.write(block(26, 3, segment=1))
    assert ring.segments[-1].reason == "device restarted"


def test_a_gap_takes_no_room_however_long() -> None:
    ring = SampleRing(CAPACITY, BRIDGE)
    ring.write(block(0, 30))
    gap = ring.write(block(10**9, 5))
    assert gap is not None and gap.missing == 10**9 - 30
    assert (ring.books.received, ring.books.overwritten, ring.books.expected) == (35, 0, 10**9 + 5)
    assert [(s.start, s.position) for s in ring.segments] == [(0, 0), (10**9, 30)]


def test_declared_pieces_of_a_long_gap_are_one_long_gap() -> None:
    ring = SampleRing(CAPACITY, BRIDGE)
    ring.write(block(0, 5))
    for index in (11, 17):
        ring.write(block(index, 0))
    ring.write(block(17, 5))
    assert [s.start for s in ring.segments] == [0, 17]
    assert ring.books.missing == 12


def test_a_numpy_index_becomes_a_plain_one() -> None:
    ring = SampleRing(CAPACITY, BRIDGE)
    gap = ring.write(SampleBlock(np.int64(7), np.zeros(3, np.int32), 0))
    assert (
        gap is not None and type(gap.missing) is int and type(ring.head) is int and type(ring.segments[0].start) is int
    )


def test_an_empty_block_declares_the_end_missing() -> None:
    ring = SampleRing(CAPACITY, BRIDGE)
    ring.write(block(0, 5))
    gap = ring.write(block(9, 0))
    assert gap is not None and gap.missing == 4
    assert ring.books.expected == 9


def test_flags_travel_with_their_samples() -> None:
    ring = SampleRing(CAPACITY, BRIDGE)
    ring.write(SampleBlock(0, np.zeros(3, np.int32), 0, flags=Flag.NO_CONTACT | Flag.SYNTHETIC))
    assert set(ring.read(0, 3)[1]) == {int(Flag.NO_CONTACT | Flag.SYNTHETIC)}
