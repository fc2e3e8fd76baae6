"""The grid: exact in time, the same for any chunking, honest about what is missing."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.grid import Grid, Hop
from edge.ring import SampleRing
from firmware_bridge.block import SampleBlock

HOP = 50


def hops_of(blocks: list[SampleBlock], period_ns: int, rate: float = 125.0, *, ended: bool = True) -> list[Hop]:
    ring = SampleRing(8000, round(1e9 / period_ns))
    grid = Grid(ring, period_ns, rate, HOP)
    found = []
    for block in blocks:
        ring.write(block)
        while (hop := grid.next_hop()) is not None:
            found.append(hop)
    while ended and (hop := grid.next_hop(ended=True)) is not None:
        found.append(hop)
    return found


def chunked(values: np.ndarray, cuts: list[int], missing: range = range(0)) -> list[SampleBlock]:
    edges = sorted({0, len(values), missing.start, missing.stop, *(c % (len(values) + 1) for c in cuts)})
    return [
        SampleBlock(a, values[a:b], 0) for a, b in itertools.pairwise(edges) if not (missing.start <= a < missing.stop)
    ]


@pytest.mark.parametrize("rate", [50.0, 64.0, 100.0, 125.0, 176.0, 250.0, 360.0])
def test_a_pulse_wave_survives_resampling(rate: float) -> None:
    period = round(1e9 / rate)
    t = np.arange(int(20 * rate)) * period / 1e9

    def wave(t: np.ndarray) -> np.ndarray:
        return np.sin(2 * np.pi * 1.3 * t) + 0.3 * np.sin(2 * np.pi * 5.1 * t + 1)

    out = np.concatenate([h.samples for h in hops_of([SampleBlock(0, wave(t), 0)], period)])
    assert len(out) >= 19 * 125
    grid = np.arange(len(out)) / 125.0
    inside = (grid > 0.5) & (grid < 19)
    assert np.abs(out - wave(grid))[inside].max() < 2e-3


def test_above_the_new_nyquist_is_removed() -> None:
    t = np.arange(7200) / 360.0
    out = np.concatenate([h.samples for h in hops_of([SampleBlock(0, np.sin(2 * np.pi * 100 * t), 0)], 2777778)])
    assert np.abs(out[200:-200]).max() < 0.01


@given(cuts=st.lists(st.integers(0, 2000), max_size=12), period=st.sampled_from([8_000_000, 10_000_000, 2_777_778]))
def test_any_chunking_gives_the_same_bits(cuts: list[int], period: int) -> None:
    values = np.random.default_rng(3).normal(size=2000)
    missing = range(700, 790)
    whole, pieces = (hops_of(chunked(values, c, missing), period) for c in ([], cuts))
    assert len(whole) == len(pieces) > 8
    for a, b in zip(whole, pieces, strict=True):
        assert np.array_equal(a.samples, b.samples)
        assert (a.missing, a.flags, a.start, a.stop, a.segment) == (b.missing, b.flags, b.start, b.stop, b.segment)


def test_missing_samples_are_counted_in_their_hops_and_bridged_straight() -> None:
    values = np.arange(500, dtype=np.int32)
    hops = hops_of(chunked(values, [], range(120, 160)), 8_000_000)
    assert [h.missing for h in hops] == [0, 0, 30, 10, 0, 0, 0, 0, 0, 0]
    assert np.allclose(np.concatenate([h.samples for h in hops]), np.arange(500))


def test_a_long_gap_starts_a_segment_on_its_first_sample() -> None:
    values = np.arange(1000, dtype=np.int32)
    hops = hops_of(chunked(values, [], range(210, 421)), 8_000_000)
    starts = [h.segment.start for h in hops if h.segment]
    assert starts == [0, 421]
    assert all(h.missing == 0 for h in hops)
    after = [h for h in hops if h.start >= 421]
    assert after[0].samples[0] == 421 and len(after) == (1000 - 421) // HOP


def test_samples_without_a_whole_hop_are_counted() -> None:
    ring = SampleRing(2000, 125)
    grid = Grid(ring, 8_000_000, 125.0, HOP)
    ring.write(SampleBlock(0, np.zeros(120), 0))
    while grid.next_hop(ended=True) is not None:
        pass
    assert grid.discarded == 20


def test_an_overwrite_starts_a_new_segment_and_loses_nothing_else() -> None:
    ring = SampleRing(500, 125)
    grid = Grid(ring, 8_000_000, 125.0, HOP)
    ring.write(SampleBlock(0, np.arange(100.0), 0))
    assert grid.next_hop() is not None
    ring.write(SampleBlock(100, np.arange(100.0, 700.0), 0))
    found = []
    while (hop := grid.next_hop(ended=True)) is not None:
        found.append(hop)
    assert found[0].segment is not None and found[0].segment.reason == "overwritten"
    assert found[0].samples[0] == ring.tail == 200
    assert ring.books.overwritten == 150
    assert ring.books.expected == 700
    assert len(found) == 10


@pytest.mark.parametrize("period", [8_000_000, 10_000_000, 4_000_000])
def test_a_gap_longer_than_the_ring_loses_nothing(period: int) -> None:
    """Even of samples that wait for their right neighbours when the gap comes."""
    ring = SampleRing(800, 125)
    grid = Grid(ring, period, 125.0, HOP)
    count = 0
    for index in (0, 100_000):
        ring.write(SampleBlock(index, np.arange(505.0), 0))
        while grid.next_hop() is not None:
            count += 1
    while grid.next_hop(ended=True) is not None:
        count += 1
    per_hop = HOP * 8_000_000 // period
    assert ring.books.overwritten == 0 and ring.books.received == 1010
    # A hop of 50 grid samples spans at least 50 - 1 steps and one sensor sample.
    assert count == 2 * len([s for s in range(0, 505, per_hop) if s + (HOP - 1) * 8_000_000 // period + 1 <= 505])


@given(at=st.integers(200, 2200), step=st.integers(1, 500))
def test_what_a_slow_reader_still_gets_is_what_was_sent(at: int, step: int) -> None:
    """After an overwrite each hop is that of the samples from its segment's start on, never a torn one."""
    values = np.cumsum(np.random.default_rng(8).normal(size=4000))
    ring = SampleRing(500, 50)
    grid = Grid(ring, 10_000_000, 125.0, HOP)
    found: list[Hop] = []
    for a, b in ((0, at), (at, at + step), (at + step, 4000)):
        ring.write(SampleBlock(a, values[a:b], 0))
        while (hop := grid.next_hop()) is not None:
            found.append(hop)
    ring.write(SampleBlock(4000, np.zeros(0), 0))
    while (hop := grid.next_hop(ended=True)) is not None:
        found.append(hop)
    starts = [i for i, hop in enumerate(found) if hop.segment]
    for first, after in itertools.pairwise([*starts, len(found)]):
        origin = found[first].start
        alone = hops_of([SampleBlock(0, values[origin:], 0)], 10_000_000)
        for mine, other in zip(found[first:after], alone, strict=False):
            if mine.stop < found[after - 1].stop - 20:  # the last one's right neighbours may belong to nobody
                assert np.array_equal(mine.samples, other.samples)
    used = sum(a.stop - a.start for a in found)
    assert ring.books.expected == 4000
    assert used <= ring.books.received + len(starts)
