"""Heart rate with its uncertainty: the surer of two estimates, an interval that widens with doubt, the same in a stream
as offline; and a bundle that carries it."""

import itertools
import math
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bundle import Bundle, LinearModel, LogisticModel, RateModel, ReadoutModel, load_bundle, write_bundle
from edge.engines import open_engine
from edge.messages import RhythmLine, outcome_lines
from edge.monitor import Monitor
from edge.pipeline import Outcome
from edge.quality import Quality
from edge.rate import FEATURES, RateEstimator, rate_features
from edge.readouts import Readouts, pooled
from edge.rhythm import Rhythm
from firmware_bridge.errors import BadInput
from firmware_bridge.source import open_source
from quantize.pack import npy_bytes

# One bpm of error where all is well, more with spread and disagreement; the embedding's is always 6 bpm.
BEATS = LinearModel({"spread": 0.5, "disagreement": 0.5}, 0.5 * (-math.log(0.005) - math.log(0.02)))
MODEL = RateModel(BEATS, LinearModel({}, math.log(6.0)), reach=2.0, level=0.9, widest=10.0, calibrated_on="made up")
GOOD = Quality(0.95, "good", {})


def rhythm(intervals: list[float]) -> Rhythm:
    return Rhythm(60 / float(np.median(intervals)), None, None, True, {}, intervals)


def test_even_intervals_that_the_embedding_bears_out_are_sure() -> None:
    rate = RateEstimator(MODEL)(rhythm([0.8] * 12), GOOD, math.log(75.0), warm=True)
    assert rate is not None and rate.valid
    assert (rate.bpm, rate.low, rate.high) == pytest.approx((75.0, 73.0, 77.0))


def test_where_intervals_contradict_each_other_the_embedding_speaks() -> None:
    torn = [0.8, 0.4, 0.4, 0.8, 1.2, 0.3, 0.9, 0.4]
    rate = RateEstimator(MODEL)(rhythm(torn), GOOD, math.log(75.0), warm=True)
    assert rate is not None and rate.bpm == pytest.approx(75.0)
    assert rate.high - rate.bpm == pytest.approx(12.0)
    assert not rate.valid  # twelve bpm are no rate to act on


def test_no_rate_without_intervals_and_no_belief_before_the_warm_up_or_without_a_sensor() -> None:
    estimator = RateEstimator(MODEL)
    assert estimator(Rhythm(None, None, None, False, {}), GOOD, math.log(75.0), warm=True) is None
    even = rhythm([0.8] * 12)
    for quality, warm in ((GOOD, False), (Quality(0.0, "off", {}), True), (Quality(0.0, "missing", {}), True)):
        rate = estimator(even, quality, math.log(75.0), warm=warm)
        assert rate is not None and not rate.valid


@given(
    st.lists(st.floats(0.25, 3.0), min_size=4, max_size=40),
    st.floats(math.log(20), math.log(300)),
    st.floats(0, 1),
)
def test_any_intervals_make_finite_features_and_an_interval_around_the_rate(
    intervals: list[float], log_rate: float, sqi: float
) -> None:
    quality = Quality(sqi, "good", {})
    features = rate_features(rhythm(intervals), quality, log_rate)
    assert tuple(features) == FEATURES and all(map(math.isfinite, features.values()))
    rate = RateEstimator(MODEL)(rhythm(intervals), quality, log_rate, warm=True)
    assert rate is not None and 0 <= rate.low <= rate.bpm < rate.high


@given(st.floats(0.0, 0.4), st.floats(0.0, 0.4))
def test_more_spread_is_never_surer(one: float, other: float) -> None:
    def error(spread: float) -> float:
        intervals = [0.8 * (1 + sign * spread) for sign in (-1, -0.5, 0, 0.5, 1) * 2]
        rate = RateEstimator(MODEL)(rhythm(intervals), GOOD, math.log(75.0), warm=True)
        assert rate is not None
        return rate.high - rate.bpm

    narrow, wide = sorted((one, other))
    assert error(narrow) <= error(wide) + 1e-9


def test_a_model_with_unheard_of_features_is_refused() -> None:
    with pytest.raises(BadInput, match="rate has weights for mood"):
        RateEstimator(msgspec.structs.replace(MODEL, interval_error=LinearModel({"mood": 1.0}, 0.0)))


def test_readouts_are_those_of_the_last_hops() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(1, 13)).astype(np.float32)
    embeddings = rng.normal(size=(40, 6)).astype(np.float32)
    readouts = Readouts(ReadoutModel("r.npy", ["log_rate"], 10, ""), table, 6)
    state = readouts.start()
    for i, embedding in enumerate(embeddings):
        if i == 20:
            other = state.copy()
        said = readouts.step(state, embedding)
        assert (said == {}) == (i < 9)
        if said:
            last = embeddings[i - 9 : i + 1]
            features = np.concatenate([last.mean(0), last.std(0)])
            assert said["log_rate"] == pytest.approx(float(table[0, :-1] @ features + table[0, -1]), abs=1e-4)
    for embedding in embeddings[20:]:
        again = readouts.step(other, embedding)
    assert again == said


def test_pooling_is_the_same_for_many_windows_at_once() -> None:
    many = np.random.default_rng(1).normal(size=(5, 10, 3)).astype(np.float32)
    assert np.array_equal(pooled(many), np.stack([pooled(one) for one in many]))


@pytest.mark.parametrize("table", [np.zeros((1, 12), np.float32), np.zeros((1, 13)), np.zeros((2, 13), np.float32)])
def test_a_table_of_another_shape_or_type_is_refused(table: np.ndarray) -> None:
    with pytest.raises(BadInput, match=r"r\.npy must be float32 of shape \(1, 13\)"):
        Readouts(ReadoutModel("r.npy", ["log_rate"], 10, ""), table, 6)


def bundle_with_rate(folder: Path, **changes: object) -> Bundle:
    """The shipped engine with a rate head whose readout always says 75 bpm."""
    shipped = load_bundle()
    manifest = shipped.manifest
    dim = manifest.encoder.heads * manifest.encoder.head_dim
    table = np.zeros((1, 2 * dim + 1), np.float32)
    table[0, -1] = math.log(75)
    contents = {name: shipped.read(name) for name in manifest.files if name.endswith((".tflite", ".npy"))}
    engines = {"litert": manifest.engines["litert"]}
    fields = {
        "schema": 2,
        "engines": engines,
        "readout": ReadoutModel("readouts.npy", ["log_rate"], 25, "made up"),
        "rate": MODEL,
        "quality": LogisticModel({}, 3.0, "made up"),
    }
    write_bundle(
        folder,
        msgspec.structs.replace(manifest, **{**fields, **changes}),
        contents | {"readouts.npy": npy_bytes(table)},
    )
    return load_bundle(folder)


@cache
def outcomes(folder: Path) -> list[Outcome]:
    bundle = bundle_with_rate(folder)
    monitor = Monitor(open_source("sim:sinus?hr=72&seed=3&duration=40"), bundle, open_engine(bundle), fast=True)
    return [item for item in monitor if isinstance(item, Outcome)]


def test_a_bundle_with_a_rate_head_tells_the_rate_and_its_interval(tmp_path_factory: pytest.TempPathFactory) -> None:
    found = outcomes(tmp_path_factory.mktemp("bundle") / "b")
    known = [o for o in found if o.rate is not None and o.rate.valid]
    assert len(known) > 25 and not any(o.rate and o.rate.valid for o in found[:30])
    assert all(o.rate is not None and o.rate.low < 72 < o.rate.high for o in known[5:])
    lines = [line for o in known for line in outcome_lines(o) if isinstance(line, RhythmLine)]
    assert all(line.hr_low is not None and line.hr_high is not None and line.valid for line in lines)
    assert all(line.hr_low < line.hr < line.hr_high for line in lines)  # type: ignore[operator]


def test_without_a_rate_head_the_beats_speak_and_no_interval_is_claimed(tmp_path: Path) -> None:
    bundle = bundle_with_rate(tmp_path / "b", readout=None, rate=None)
    monitor = Monitor(open_source("sim:sinus?hr=72&seed=3&duration=25"), bundle, open_engine(bundle), fast=True)
    found = [item for item in monitor if isinstance(item, Outcome)]
    assert all(o.rate is None for o in found)
    line = next(line for line in outcome_lines(found[-1]) if isinstance(line, RhythmLine))
    assert line.hr == pytest.approx(72, abs=6) and (line.hr_low, line.hr_high) == (None, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rate": msgspec.structs.replace(MODEL, reach=0.0)}, "rate.reach: expected `float` > 0"),
        ({"rate": msgspec.structs.replace(MODEL, level=1.0)}, "rate.level: expected `float` < 1"),
        ({"readout": ReadoutModel("elsewhere.npy", ["log_rate"], 25, "")}, "must be listed in files"),
        ({"readout": ReadoutModel("readouts.npy", ["log_rate"], 0, "")}, "readout.hops: expected `int` >= 1"),
        ({"schema": 4}, "has schema 4, this version reads 1 to 3; update pulsecode"),
    ],
)
def test_a_rate_head_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said.replace(".", r"\.")):
        bundle_with_rate(tmp_path / "b", **changes)


def test_the_rate_of_a_stream_goes_on_from_a_snapshot(tmp_path: Path) -> None:
    from edge.grid import Grid
    from edge.pipeline import Pipeline
    from edge.ring import SampleRing
    from firmware_bridge.block import SampleBlock

    bundle = bundle_with_rate(tmp_path / "b")
    source = open_source("sim:sinus?hr=80&seed=4&duration=30")
    pipeline = Pipeline(bundle, open_engine(bundle), source.info)
    ring = SampleRing(4000, 100)
    grid = Grid(ring, source.info.period_ns, 125.0, bundle.manifest.frontend.hop)
    hops = []
    for block in source:
        if isinstance(block, SampleBlock):
            ring.write(block)
            hops += list(iter(grid.next_hop, None))
    state, copy = None, None
    first, second = [], []
    for i, hop in enumerate(hops):
        state, outcome = pipeline.step(state, hop)
        first.append(outcome.rate)
        if i == 40:
            copy = state.copy()
    for hop in itertools.islice(hops, 41, None):
        copy, outcome = pipeline.step(copy, hop)
        second.append(outcome.rate)
    assert first[41:] == second and sum(rate is not None for rate in second) > 20
