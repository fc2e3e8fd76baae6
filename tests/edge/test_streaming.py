"""Streaming equals offline, bit for bit: any chunking, any snapshot, any number of engine threads."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle import load_bundle
from edge.engines import Engine, open_engine
from edge.grid import Grid, Hop
from edge.pipeline import Outcome, Pipeline
from edge.ring import SampleRing
from firmware_bridge.block import SampleBlock, StreamInfo
from firmware_bridge.source import open_source

INFO = StreamInfo("ppg", "ir", 10_000_000)
SECONDS = 70


@functools.cache
def signal() -> tuple[SampleBlock, ...]:
    """A minute of the virtual body, with a short gap, a long one and a restart."""
    blocks = [b for b in open_source(f"sim:af?seed=5&duration={SECONDS}&rate=100") if isinstance(b, SampleBlock)]
    values = np.concatenate([b.values for b in blocks])[: SECONDS * 100]
    pieces = [(0, 1500, 0), (1530, 3000, 0), (3400, 5200, 0), (5210, 7000, 1)]
    return tuple(SampleBlock(a, values[a:b], 0, segment=s) for a, b, s in pieces)


@functools.cache
def engine(name: str, threads: int = 1) -> Engine:
    return open_engine(load_bundle(), name, threads)


def run(blocks: list[SampleBlock], engine_name: str = "litert", threads: int = 1, snapshot: int = -1) -> list[tuple]:
    pipeline = Pipeline(load_bundle(), engine(engine_name, threads), INFO)
    ring = SampleRing(3000, 100)
    grid = Grid(ring, INFO.period_ns, pipeline.manifest.frontend.rate, pipeline.manifest.frontend.hop)
    state, facts = None, []

    def take(hop: Hop) -> None:
        nonlocal state
        if len(facts) == snapshot and state is not None:
            before = state
            state = state.copy()
            # Whatever happens to the original must not reach the copy.
            pipeline.step(before, hop)
        state, outcome = pipeline.step(state, hop)
        facts.append(essence(outcome))

    for block in blocks:
        ring.write(block)
        while (hop := grid.next_hop()) is not None:
            take(hop)
    while (hop := grid.next_hop(ended=True)) is not None:
        take(hop)
    assert ring.books.expected == 7000 and ring.books.missing == 440
    return facts


def essence(outcome: Outcome) -> tuple:
    """All of an outcome, down to the bit."""
    return (
        outcome.t,
        outcome.token,
        outcome.embedding.tobytes(),
        outcome.patch.tobytes(),
        tuple(outcome.beats),
        outcome.quality.sqi,
        outcome.quality.state,
        outcome.rhythm.hr,
        outcome.rate,
        outcome.rhythm.p_irregular,
        outcome.surprise,
        tuple((e.name, e.onset, e.offset) for e in outcome.events),
        outcome.missing,
    )


def cut(cuts: list[int]) -> list[SampleBlock]:
    out = []
    for block in signal():
        edges = sorted({0, len(block.values), *(c - block.index for c in cuts if block.index < c < block.end)})
        for a, b in itertools.pairwise(edges):
            out.append(SampleBlock(block.index + a, block.values[a:b], 0, segment=block.segment))
    return out


@functools.cache
def reference(engine_name: str) -> tuple:
    return tuple(run(list(signal()), engine_name))


@pytest.mark.parametrize("engine_name", ["litert", "onnx"])
@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 7000), max_size=60))
def test_any_chunking(engine_name: str, cuts: list[int]) -> None:
    assert tuple(run(cut(cuts), engine_name)) == reference(engine_name)


def test_one_sample_at_a_time() -> None:
    assert tuple(run(cut(list(range(7000))))) == reference("litert")


@settings(max_examples=12, deadline=None)
@given(at=st.integers(0, 160))
def test_any_snapshot(at: int) -> None:
    assert tuple(run(list(signal()), snapshot=at)) == reference("litert")


@pytest.mark.parametrize("engine_name", ["litert", "onnx"])
def test_thread_count(engine_name: str) -> None:
    assert tuple(run(list(signal()), engine_name, threads=2)) == reference(engine_name)


def test_after_a_restart_the_samples_alone_decide() -> None:
    """Tokens of a segment are those of the same samples as a stream of their own."""
    last = signal()[-1]
    alone = Pipeline(load_bundle(), engine("litert"), INFO)
    ring = SampleRing(3000, 100)
    grid = Grid(ring, INFO.period_ns, 125.0, alone.manifest.frontend.hop)
    ring.write(SampleBlock(0, last.values, 0))
    state, tokens = None, []
    while (hop := grid.next_hop(ended=True)) is not None:
        state, outcome = alone.step(state, hop)
        tokens.append(outcome.token and (outcome.token.id, outcome.token.p))
    after = [fact[1] and (fact[1].id, fact[1].p) for fact in reference("litert") if fact[0] > last.index / 100]
    assert tokens == after and sum(token is not None for token in tokens) > 30


def test_tokens_rest_only_on_samples_that_came() -> None:
    facts = reference("litert")
    lookahead = load_bundle().manifest.encoder.lookahead
    touched = [i for i, fact in enumerate(facts) if fact[-1] > 0]
    assert touched
    for i in touched:
        for fact in facts[i : i + lookahead + 1]:
            assert fact[1] is None
