"""Breathing that is put into a pulse wave is found again; streaming, gaps and snapshots change nothing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle import LogisticModel, RespirationModel, load_bundle
from edge.engines import open_engine
from edge.frontend import F64
from edge.grid import Hop
from edge.messages import RespirationLine, encode, outcome_lines
from edge.modulations import MODULATIONS, Modulations, ModulationState
from edge.pipeline import Pipeline
from edge.respiration import (
    CANDIDATES,
    FEATURES,
    ForwardFilter,
    Respiration,
    RespirationTracker,
    Spectra,
    quantiles,
    smart_fusion,
)
from edge.vitals import Vitals, VitalsState
from firmware_bridge.block import Flag, StreamInfo
from firmware_bridge.errors import BadInput
from firmware_bridge.virtual.body import Body
from firmware_bridge.virtual.rhythm import Oscillation
from firmware_bridge.virtual.scenario import Scenario
from trainer.windows import WindowConfig

CONFIG = WindowConfig().frontend("ppg")
INFO = StreamInfo("ppg", "ir", 8_000_000)


def model(**changes: float) -> RespirationModel:
    """Believes where the mean of the modulations' spectra has its power; nothing else."""
    hidden = np.zeros((1, len(FEATURES)))
    hidden[0, FEATURES.index("mean")] = 0.3
    settings = {"evidence": 0.5, "drift": 0.05, "leak": 0.02, "reach": 1.0, "max_error": 2.0, **changes}
    return RespirationModel(hidden.tolist(), [0.0], [4.0], calibrated_on="nobody", **settings)


def pulses(seconds: float, breaths: float, rate: float = 125.0, pulse: float = 78.0) -> F64:
    """A pulse wave whose baseline, amplitude and intervals breathe ``breaths`` times a minute."""
    t = np.arange(round(seconds * rate)) / rate
    breath = np.sin(2 * np.pi * breaths / 60 * t)
    phase = np.cumsum(pulse / 60 * (1 + 0.04 * breath)) / rate % 1
    beat = np.exp(-(((phase - 0.2) / 0.08) ** 2)) + 0.4 * np.exp(-(((phase - 0.5) / 0.12) ** 2))
    return 1000 * ((1 + 0.15 * breath) * beat + 0.1 * breath)


def hops(samples: F64) -> list[Hop]:
    whole = samples[: len(samples) // CONFIG.hop * CONFIG.hop].reshape(-1, CONFIG.hop)
    return [Hop(row, 0, Flag(0), i * CONFIG.hop, (i + 1) * CONFIG.hop, None) for i, row in enumerate(whole)]


def run(all_hops: list[Hop], device: Vitals, state: VitalsState | None = None) -> list[Respiration]:
    state = device.start(0) if state is None else state
    told = [device.step(state, hop).respiration for hop in all_hops]
    return [one for one in told if one is not None]


def vitals(respiration: RespirationModel | None, quality: LogisticModel | None = None) -> Vitals:
    return Vitals(CONFIG, INFO, warmup_hops=0, quality=quality, rhythm=None, respiration=respiration)


@pytest.mark.parametrize("breaths", [8.0, 14.0, 22.0, 33.0])
@pytest.mark.parametrize("learned", [True, False])
def test_breathing_is_found(breaths: float, learned: bool) -> None:
    told = run(hops(pulses(90, breaths)), vitals(model() if learned else None))
    assert all(one.rate is None for one in told[:7])  # half a minute is needed
    assert all(one.rate == pytest.approx(breaths, abs=1.0) for one in told[-5:])
    assert all(one.error is not None and one.error < 2 for one in told[-5:])


@pytest.mark.parametrize("per_minute", [10.0, 15.0, 24.0])
def test_the_virtual_body_breathes(per_minute: float) -> None:
    body = Body(Scenario.find("sinus"), rate=125.0, seed=3)
    still = Oscillation(per_minute / 60, 0.0, np.random.default_rng(0))
    body.respiration = still
    body._rhythm._respiration = still
    wave = -body.read(125 * 90).ppg.astype(np.float64)  # counts fall as blood comes
    told = run(hops(wave), vitals(model()))
    assert told[-1].rate == pytest.approx(per_minute, abs=1.0)


def test_streaming_equals_offline_and_a_snapshot_stands_alone() -> None:
    all_hops = hops(pulses(80, 17))
    device = vitals(model())
    whole = run(all_hops, device)
    state = device.start(0)
    first = run(all_hops[:97], device, state)
    kept = state.copy()
    run(hops(pulses(30, 40)), device, state)  # what happens to the original does not reach the copy
    assert first + run(all_hops[97:], device, kept) == whole


def test_what_a_gap_touches_is_masked_and_no_beat_is_bridged() -> None:
    modulations, state = Modulations(125.0, 50, 32.0), ModulationState()
    wave = pulses(40, 15, pulse=60.0)
    for i in range(100):
        beats = [(i * 50.0 - 30.0, None if i == 60 else 1.0)] if i % 5 == 0 and i else []
        # A beat every 2 s whose interval claims to be 1 s: a beat between them was lost.
        modulations.step(state, wave[i * 50 : i * 50 + 50], beats, readable=not 70 <= i < 75)
    values, known = modulations.window(state)
    assert values.shape == known.shape == (len(MODULATIONS), 160)
    assert not known[1:].any() and not known[0, 160 - 60 : 160 - 50].any()
    assert known[0].sum() == 150


def test_beats_that_follow_each_other_are_joined_up_to_the_uncountable_one() -> None:
    modulations, state = Modulations(125.0, 50, 32.0), ModulationState()
    wave = np.tile(np.exp(-(((np.arange(100) - 66) / 8) ** 2)), 50)  # steepest 60 samples into each 0.8 s
    for i in range(100):
        beats = [(i * 50.0 - 40.0, None if i == 60 else 0.8)] if i % 2 == 0 and i else []
        modulations.step(state, wave[i * 50 : i * 50 + 50], beats, readable=True)
    known = modulations.window(state)[1][1]
    # The interval before the beat of hop 60, at 2960, does not count, so the beat at 2860 was never measured: nothing
    # is known between its neighbours, at 2760 and 2960; nor after the last one whose successor came, at 4760.
    middle = np.arange(1000, 5000, 25) + 12.0
    assert np.array_equal(known, ~((middle > 2760) & (middle < 2960)) & (middle < 4760))


def test_nothing_is_told_while_too_much_is_missing_and_the_rate_comes_back() -> None:
    all_hops = hops(pulses(200, 15))
    torn = [replace(hop, missing=50) if 200 <= i < 240 else hop for i, hop in enumerate(all_hops)]
    told = run(torn, vitals(model(), LogisticModel({}, 9.0, "nobody")))
    by_hop = {10 * (i + 1): one for i, one in enumerate(told)}
    assert all(one.rate is None and not one.valid for i, one in by_hop.items() if 210 <= i < 310)
    assert all(one.valid for i, one in by_hop.items() if 130 < i <= 200 or i > 340)


@settings(max_examples=20, deadline=None)
@given(st.floats(6.5, 45.0), st.floats(0, 6.28), st.floats(1e-3, 1e6))
def test_a_spectrum_peaks_where_the_wave_does_whatever_its_unit(rate: float, phase: float, unit: float) -> None:
    t = np.arange(160) / 5.0
    wave = unit * (np.sin(2 * np.pi * rate / 60 * t + phase) + 3 + 0.02 * t)
    power = Spectra(160, 5.0)(np.tile(wave, (len(MODULATIONS), 1)), np.ones((len(MODULATIONS), 160), bool))
    told = smart_fusion(power)
    assert told is not None
    assert told[0] == pytest.approx(rate, abs=max(1.2, 0.04 * rate)) and told[1] == pytest.approx(0, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, len(CANDIDATES) - 1), st.integers(1, 30))
def test_belief_stays_a_distribution_and_follows_the_evidence(where: int, steps: int) -> None:
    filtering = ForwardFilter(1.0, 0.05, 0.02)
    belief = np.full(len(CANDIDATES), 1 / len(CANDIDATES))
    scores = np.where(np.arange(len(CANDIDATES)) == where, 6.0, 0.0)
    for _ in range(steps):
        belief = filtering.step(belief, scores)
        assert belief.sum() == pytest.approx(1) and (belief > 0).all()
    assert belief.argmax() == where
    low, middle, high = quantiles(belief, (0.16, 0.5, 0.84))
    assert low <= middle <= high
    for _ in range(400):
        belief = filtering.step(belief, None)
    assert belief.max() < 3 / len(CANDIDATES)  # what is not heard of again is forgotten


def test_a_network_of_another_shape_is_refused_in_one_line() -> None:
    wrong = RespirationModel([[1.0]], [0.0], [1.0], 0.5, 0.05, 0.02, 1.0, 2.0, "nobody")
    with pytest.raises(BadInput, match=r"respiration\.hidden must be 1 rows"):
        RespirationTracker(125.0, 50, wrong)


def test_the_lines_carry_it_every_four_seconds() -> None:
    bundle = load_bundle()
    pipeline = Pipeline(bundle, open_engine(bundle, "litert"), INFO)
    state, lines = None, []
    for hop in hops(pulses(44, 16)):
        state, outcome = pipeline.step(state, hop)
        lines += [line for line in outcome_lines(outcome) if isinstance(line, RespirationLine)]
    assert [line.t for line in lines] == pytest.approx([4.0 * i for i in range(1, 12)])
    assert lines[0].rate is None and not lines[0].valid
    assert lines[-1].rate == pytest.approx(16, abs=1) and b'"type":"respiration"' in encode(lines[-1])
