"""Beats for patches: cut where the beats are, streaming as offline, with their own heartbeat, and learned from."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from synthetic_recordings import RATE, SMALL, paired_signals, write_record

from edge.frontend import Frontend
from edge.grid import Grid
from edge.ring import SampleRing
from firmware_bridge.block import SampleBlock
from firmware_bridge.errors import BadInput
from trainer import beat_preparation
from trainer.alignment import DelayTrack
from trainer.beat_patches import BeatConfig, WaveOnly, causes, cut_beats, saved_beat_config
from trainer.beat_preparation import PreparedBeats, prepare_beats
from trainer.beat_probe import KNOWN_AFTER, pooled_beats
from trainer.consistency import check_consistency, load_tokenizer
from trainer.encoder import Encoder, EncoderConfig
from trainer.fitting import FitConfig
from trainer.pulse_cutter import CutterState, Pulse, PulseCutter, beat_patch, cut_pulses, seconds_of, tempo
from trainer.recordings import Recording, find_recordings
from trainer.run_folder import RunFolder
from trainer.stage2 import Augmentation
from trainer.stages import DataChoice, Prepared, check_windows, load_student, train_student, train_tokenizer
from trainer.windows import WindowConfig, run_frontend, to_grid

CONFIG = BeatConfig(samples=16, beats=9, stride=4)
STUDENT = EncoderConfig(hop=17, dim=16, layers=1, heads=2, mlp=2, context=5, codebook_size=32)
F64 = NDArray[np.float64]


@pytest.fixture(scope="module")
def beats(synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedBeats:
    choice = DataChoice(synthetic_data, tmp_path_factory.mktemp("cache"))
    return prepare_beats(choice, Console(quiet=True), CONFIG)


def _recording(folder: Path, ppg: F64, ecg: F64) -> Recording:
    write_record(folder / "one", "r", ppg, ecg)
    return find_recordings(folder).recordings[0]


def _heart(seconds: float, mean: float, seed: int, delay: float, vary: float = 0.1) -> tuple[F64, F64, F64]:
    """PPG and ECG of a heart whose intervals vary by that share, and its R peaks (s); pulses ``delay`` s later."""
    rng = np.random.default_rng(seed)
    beats = np.cumsum(mean * (1 + vary * rng.standard_normal(round(seconds / mean)).clip(-2, 2)))
    t = np.arange(round(seconds * RATE)) / RATE
    ecg = np.exp(-0.5 * ((t[:, None] - beats[None]) / 0.02) ** 2).sum(1)
    ppg = np.exp(-0.5 * ((t[:, None] - beats[None] - delay - 0.12) / 0.07) ** 2).sum(1)
    noise = rng.normal(0, 0.005, (2, len(t)))
    return ppg + noise[0], ecg + noise[1], beats


@settings(max_examples=30)
@given(
    start=st.floats(0, 40), lasts=st.floats(20, 300), samples=st.integers(4, 80), slope=st.floats(-2, 2)
)  # fmt: skip
def test_a_patch_has_the_mean_of_each_share_of_the_beat(start: float, lasts: float, samples: int, slope: float) -> None:
    wave = slope * np.arange(400.0)
    patch = beat_patch(wave, start, start + lasts, samples, RATE)
    middles = start + (np.arange(samples) + 0.5) * lasts / samples
    assert np.allclose(patch[:-1], slope * middles, rtol=1e-4, atol=1e-3)
    assert seconds_of(patch[-1:].astype(np.float64))[0] == pytest.approx(lasts / RATE, rel=1e-4)


@given(st.floats(0.25, 2.5))
def test_tempo_is_log_seconds(seconds: float) -> None:
    once, longer = tempo(np.array([seconds, 1.1 * seconds]))
    assert longer - once == pytest.approx(np.log(1.1) / 0.1)
    assert seconds_of(np.array([once]))[0] == pytest.approx(seconds)


@pytest.mark.parametrize("bpm", [45, 72, 130])
def test_steady_beats_are_cut_as_they_are(bpm: float, tmp_path: Path) -> None:
    ppg, ecg, _ = _heart(60, 60 / bpm, 0, delay=0.25, vary=0)
    found = cut_beats(_recording(tmp_path, ppg, ecg), CONFIG)
    settled = found.seconds[:, 0] > 15  # by then the detector knows this heart
    lasts = np.diff(found.seconds, axis=1)[settled, 0]
    assert np.allclose(lasts, 60 / bpm, rtol=0.01)
    assert len(lasts) >= 44 * bpm / 60 - 3
    assert found.follows[settled].all()
    assert found.paired[settled][:-2].all()
    heartbeats = found.ecg[settled][:-2].astype(np.float64)
    strongest = np.abs(heartbeats[:, :-1]).argmax(1)  # from R to R: what is strong stands at the ends
    assert ((strongest <= 1) | (strongest >= 14)).all()
    assert np.allclose(seconds_of(heartbeats[:, -1]), 60 / bpm, rtol=0.02)


def test_the_foot_is_where_the_upstroke_begins(tmp_path: Path) -> None:
    """On a steady heart of any rate, feet are one beat apart; here they also stand before the steepest point."""
    ppg, ecg, beats = _heart(60, 0.8, 0, delay=0.25)
    found = cut_beats(_recording(tmp_path, ppg, ecg), CONFIG)
    # The bell's foot by tangents is two deviations before its top; the band-pass delays and sharpens it a little.
    tops = beats + 0.25 + 0.12
    nearest = tops[np.searchsorted(tops, found.seconds[:, 0]).clip(max=len(tops) - 1)]
    lead = nearest - found.seconds[:, 0]
    assert np.median(np.abs(lead - np.median(lead))) < 0.012
    assert 0.04 < np.median(lead) < 0.20
    assert np.median(np.abs(np.diff(found.seconds[:, 0]) - np.diff(nearest))) < 0.016


def test_a_pulse_goes_with_its_own_heartbeat_though_another_is_nearer(tmp_path: Path) -> None:
    """At 120 bpm with a monitor's delay of 0.55 s the R peak just before a foot belongs to the next pulse."""
    ppg, ecg, _ = _heart(120, 0.5, 1, delay=0.55)
    found = cut_beats(_recording(tmp_path, ppg, ecg), CONFIG)
    assert found.paired.mean() > 0.9
    pulse, heart = (seconds_of(b[found.paired, -1].astype(np.float64)) for b in (found.ppg, found.ecg))
    assert np.corrcoef(pulse, heart)[0, 1] > 0.95
    neighbour = np.corrcoef(pulse[1:], heart[:-1])[0, 1]
    assert neighbour < 0.5


@settings(max_examples=30)
@given(
    true=st.lists(st.floats(0.4, 1.5), min_size=12, max_size=40), delay=st.floats(0.1, 0.7),
    lost=st.sets(st.integers(0, 11), max_size=4),
)  # fmt: skip
def test_causes_survive_lost_pulses(true: list[float], delay: float, lost: set[int]) -> None:
    peaks = np.cumsum(true)
    kept = np.array([i for i in range(len(peaks)) if i not in lost])
    track = DelayTrack(np.array([10.0]), np.array([delay]), np.array([1.0]))
    assert causes(peaks[kept] + delay + 0.03, peaks, track, 0.15).tolist() == kept.tolist()
    assert (causes(peaks[kept] + delay + 0.2 + 1e-6, peaks, track, 0.15)[:1] < 0).all()


def test_one_heartbeat_causes_one_pulse() -> None:
    track = DelayTrack(np.array([10.0]), np.array([0.3]), np.array([1.0]))
    assert causes(np.array([1.3, 1.36]), np.array([1.0, 2.0]), track, 0.15).tolist() == [0, -1]
    nobody = DelayTrack(np.array([10.0]), np.array([0.3]), np.array([0.1]))
    assert causes(np.array([1.3]), np.array([1.0, 2.0]), nobody, 0.15).tolist() == [-1]
    assert causes(np.zeros(0), np.zeros(0), track, 0.15).tolist() == []


def test_a_gap_ends_the_run_and_no_window_spans_it(tmp_path: Path) -> None:
    ppg, ecg = paired_signals(90, 75)
    ppg[round(40 * RATE) : round(40.4 * RATE)] = np.nan
    found = cut_beats(_recording(tmp_path, ppg, ecg), CONFIG)
    assert not ((found.seconds[:, 0] < 40.4) & (found.seconds[:, 1] > 40)).any()
    breaks = np.flatnonzero(~found.follows)
    assert len(breaks) == 2  # the beginning and the gap
    for start in found.starts:
        assert found.follows[start + 1 : start + CONFIG.beats].all()


def test_without_an_ecg_pulses_are_cut_but_not_learned_from(tmp_path: Path) -> None:
    ppg, ecg = paired_signals(60, 75)
    found = cut_beats(_recording(tmp_path, ppg, np.zeros_like(ecg) + 0.01), CONFIG)
    assert len(found.ppg) > 60
    assert not found.paired.any()
    assert not found.ecg.any()
    assert len(found.starts) > 5
    assert (found.verdicts != 0).all()


def _streamed(samples: F64, sizes: Iterator[int]) -> list[Pulse]:
    """As a device would: samples in bursts through ring, grid and front end, each hop cut when it is whole."""
    config = WindowConfig()
    ring = SampleRing(4000, 125)
    grid, frontend = Grid(ring, round(1e9 / RATE), RATE, config.hop), Frontend(config.frontend("ppg"))
    cutter, cut, state, hops, at = PulseCutter(RATE, 16), CutterState(), frontend.start(), 0, 0
    pulses: list[Pulse] = []
    while at < len(samples):
        size = next(sizes)
        ring.write(SampleBlock(at, samples[at : at + size], time.monotonic_ns()))
        at += size
        while (hop := grid.next_hop()) is not None:
            filtered, patch = frontend.step(state, hop.samples)
            pulses += cutter.step(cut, filtered, patch, hop.missing == 0 and hops >= config.settle_hops)
            hops += 1
    return pulses


def _same(one: list[Pulse], other: list[Pulse]) -> bool:
    return len(one) == len(other) and all(
        a.start == b.start and a.stop == b.stop and np.array_equal(a.patch, b.patch)
        for a, b in zip(one, other, strict=True)
    )


def _offline(samples: F64) -> list[Pulse]:
    patches = run_frontend(samples, WindowConfig(), "ppg")
    return cut_pulses(patches.filtered, patches.patches, patches.valid, RATE, 16)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 99), stop=st.integers(800, 3700), burst=st.integers(1, 200))
def test_streaming_equals_offline_and_nothing_is_taken_back(seed: int, stop: int, burst: int) -> None:
    ppg = _heart(30, 0.7, seed, delay=0.2)[0]
    rng = np.random.default_rng(seed)
    whole = _offline(ppg)
    assert len(whole) > 25
    assert _same(_streamed(ppg, iter(lambda: int(rng.integers(1, burst + 1)), 0)), whole)
    begun = _offline(ppg[:stop])
    assert _same(begun, whole[: len(begun)])
    known = [pulse for pulse in whole if pulse.stop <= stop - (KNOWN_AFTER + 0.2) * RATE]
    assert len(begun) >= len(known)


def test_windows_without_overlap_share_no_beat(beats: PreparedBeats) -> None:
    assert isinstance(beats.part("train", overlap=True), type(beats.windows))
    many, few = beats.part("train", overlap=True), beats.part("train")
    assert len(few) < len(many)
    assert all(later - earlier >= CONFIG.beats for earlier, later in pairwise(few.first))
    assert few.ppg.shape == (len(few), 9, 17)
    assert (few.patients == np.sort(few.patients)).all()
    assert beats.windows.part("train", limit=3).ppg.shape == (3, 9, 17)


def test_the_books_of_beats_balance(beats: PreparedBeats) -> None:
    told = beats.describe()["beats"]["synthetic"]
    assert told["r_peaks"] >= told["pulses"] > told["consecutive"] > 0
    assert told["pulses"] >= told["paired"] >= told["in_windows"] > 0
    assert told["in_windows"] > 0.8 * told["pulses"]  # clean, steady hearts


def test_beats_are_cut_once(
    beats: PreparedBeats, synthetic_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = DataChoice(synthetic_data, tmp_path)
    first = prepare_beats(choice, Console(quiet=True), CONFIG)
    assert np.array_equal(first.windows.ppg_hops, beats.windows.ppg_hops)
    monkeypatch.setattr(beat_preparation, "cut_beats", None)
    again = prepare_beats(choice, Console(quiet=True), CONFIG)
    assert np.array_equal(again.windows.verdict, beats.windows.verdict)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(BadInput, match=r"cache .*beats-.*: cannot be read .*delete that file"):
        prepare_beats(choice, Console(quiet=True), CONFIG)


def test_the_tempo_is_not_augmented() -> None:
    torch.manual_seed(0)
    patches = torch.randn(4, 9, 17)
    disturbed = WaveOnly(Augmentation())(patches)
    assert torch.equal(disturbed[..., -1], patches[..., -1])
    assert not torch.isclose(disturbed[..., :-1], patches[..., :-1]).any(-1).all()


def test_both_stages_learn_from_beats(beats: PreparedBeats, prepared: Prepared, tmp_path: Path) -> None:
    fit = FitConfig(epochs=2, batch=8, lr=3e-3, warmup=4)
    quiet, source = Console(quiet=True), RunFolder(tmp_path / "tokenizer")
    train_tokenizer(source.path, beats, fit, quiet, resume=False, model=replace(SMALL, hop=CONFIG.hop))
    assert saved_beat_config(source.config("tokenizer")["windows"]) == CONFIG
    assert source.history()[-1]["val_ppg_r2"] > 0
    assert check_consistency(source, load_tokenizer(source), beats.part("validation")).tokens > 50
    check_windows(source, beats)
    with pytest.raises(BadInput, match="cut in another way"):
        check_windows(source, prepared)
    with pytest.raises(BadInput, match="cut in another way"):
        check_windows(source, replace(beats, config=replace(CONFIG, alike=0.2)))
    train_student(tmp_path / "ppg", source.path, "ppg", beats, fit, quiet, resume=False, model=STUDENT)
    assert load_student(RunFolder(tmp_path / "ppg"))[0].config == STUDENT


def test_probes_see_the_beats_known_at_the_end_of_a_window(beats: PreparedBeats, prepared: Prepared) -> None:
    torch.manual_seed(0)
    encoder = Encoder(replace(STUDENT, context=2)).eval()
    windows = prepared.part("validation")
    pooled = pooled_beats(encoder, beats.windows, windows, 0.4)
    assert pooled.shape == (len(windows), 32)
    assert np.isfinite(pooled).all()
    one = windows.take(slice(0, 1))
    name = one.recordings[int(one.recording[0])]["name"]
    owner = [r["name"] for r in beats.windows.recordings].index(name)
    end = (int(one.start[0]) + one.hops) * 0.4 - KNOWN_AFTER
    seconds = beats.windows.seconds
    mine = (beats.windows.owner == owner) & (seconds[:, 0] >= one.start[0] * 0.4) & (seconds[:, 1] <= end)
    with torch.no_grad():
        told = encoder(torch.tensor(beats.windows.ppg_hops[mine])[None])[1][0].numpy()
    last = told[seconds[mine, 1] > end - 10]
    assert np.allclose(pooled[0], np.concatenate([last.mean(0), last.std(0)]), atol=1e-5)


@pytest.mark.data
def test_real_beats_are_those_of_the_ecg(shared_data: Path) -> None:
    """BIDMC 36, a clear recording: nearly every R peak has one pulse, as long as its own R-R interval."""
    (recording,) = [r for r in find_recordings(shared_data / "bidmc").recordings if r.name == "bidmc36"]
    found = cut_beats(recording, BeatConfig())
    assert found.paired.mean() > 0.98
    assert abs(len(found.ppg) - found.r_peaks) <= 0.02 * found.r_peaks + 4
    pulse, heart = (seconds_of(b[found.paired, -1].astype(np.float64)) for b in (found.ppg, found.ecg))
    assert np.median(np.abs(pulse - heart)) < 0.010
    assert np.quantile(np.abs(pulse - heart), 0.95) < 0.040
    assert (found.verdicts == 0).mean() > 0.9


@pytest.mark.data
def test_real_pulses_stream_as_they_are_cut_offline(shared_data: Path) -> None:
    (recording,) = [r for r in find_recordings(shared_data / "bidmc").recordings if r.name == "bidmc01"]
    ppg = to_grid(recording.read()[0], recording.rate, RATE)[: round(120 * RATE)]
    rng = np.random.default_rng(0)
    streamed = _streamed(ppg, iter(lambda: int(rng.integers(1, 90)), 0))
    assert len(streamed) > 150
    assert _same(streamed, _offline(ppg))
