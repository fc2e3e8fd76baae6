"""Respiratory rate learned from annotated breaths of made-up people, end to end, and its references."""

import json
from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_recordings import RATE

from edge.respiration import CANDIDATES, FEATURES
from firmware_bridge.cli import main
from firmware_bridge.errors import BadInput
from trainer.recordings import find_recordings
from trainer.respiration.data import Breathing
from trainer.respiration.fit import Estimates, learnable_rows, person_folds
from trainer.respiration.judge import reliability, spectral_rates, table, valid_rates
from trainer.respiration.reference import CHANNEL_RATE, agreed_reading, annotated_rates, channel_rates
from trainer.respiration.run_file import load_respiration
from trainer.splits import part_of

SECONDS = 100.0


def breathing_record(folder: Path, name: str, breaths: float, doubted: bool = False) -> None:
    """A pulse wave that breathes, its ECG, its respiration channel and two annotators, the second ``doubted``."""
    t = np.arange(round(SECONDS * RATE)) / RATE
    breath = np.sin(2 * np.pi * breaths / 60 * t)
    phase = np.cumsum(80 / 60 * (1 + 0.03 * breath)) / RATE
    ppg = (1 + 0.15 * breath) * np.exp(-((((phase % 1) - 0.4) / 0.1) ** 2)) + 0.1 * breath
    ecg = np.exp(-0.5 * (((phase % 1) - 0.1) / 0.02) ** 2)
    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name, fs=RATE, units=["NU", "NU", "mV"], sig_name=["RESP,", "PLETH,", "II,"],
        p_signal=np.stack([breath, ppg, ecg], 1), fmt=["16"] * 3, write_dir=str(folder),
        comments=[f"MIMIC II matched wdb ID: {name}"],
    )  # fmt: skip
    marks = np.arange(0.25, SECONDS * breaths / 60, 1.0) / breaths * 60 * RATE
    for annotator, some in (("breath", marks), ("breathb", marks[:: 2 if doubted else 1])):
        wfdb.wrann(name, annotator, some.astype(np.int64), symbol=['"'] * len(some), write_dir=str(folder))


def names(part: str, count: int) -> list[str]:
    """People of one part of the split."""
    learning = part != "test"
    return [f"s{i:05d}" for i in range(200) if (part_of("bidmc", f"s{i:05d}") != "test") == learning][:count]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, breaths in zip(names("train", 5), (11.0, 14.0, 17.0, 21.0, 26.0), strict=True):
        breathing_record(folder / "bidmc", name, breaths)
    breathing_record(folder / "bidmc", names("test", 1)[0], 19.0)
    return folder


def test_references_agree_with_what_was_breathed(data: Path, tmp_path: Path) -> None:
    recording = find_recordings(data).recordings[0]
    breaths = 11.0 if recording.name == names("train", 1)[0] else 19.0
    ends = np.array([40.0, 60.0, 99.0])
    assert annotated_rates(recording, ends, 32.0) == pytest.approx(breaths, abs=0.1)
    told = channel_rates(recording, ends, 32.0)
    assert told is not None and told == pytest.approx(breaths, abs=0.5)
    breathing_record(tmp_path / "bidmc", "s00001", 18.0, doubted=True)
    doubted = find_recordings(tmp_path).recordings[0]
    assert np.isnan(annotated_rates(doubted, ends, 32.0)).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_respiration_channel_without_breaths_tells_nothing(seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal(round(32 * CHANNEL_RATE))
    assert np.isnan(agreed_reading(noise))
    assert np.isnan(agreed_reading(np.zeros(160)))


def test_learned_rates_of_a_person_who_was_not_learned_from(data: Path, tmp_path: Path) -> None:
    run, cache, out = tmp_path / "runs" / "respiration", tmp_path / "cache", tmp_path / "out"
    shared = ["--data", str(data), "--cache", str(cache), "--folds", "2"]
    assert main(["train", "respiration", "--out", str(run), *shared]) == 0
    written = load_respiration(run)
    assert np.array(written.model.hidden).shape[1] == len(FEATURES) and written.model.reach > 0
    assert written.model.calibrated_on == "BIDMC, 5 people"
    assert main(["evaluate", "respiration", "--run", str(run), "--out", str(out), *shared]) == 0
    tables = json.loads((out / "respiration_tables.json").read_text())
    assert tables == json.loads((run / "respiration_tables.json").read_text())
    test = next(one for one in tables if "test people" in one["title"])
    followed = next(row for row in test["rows"] if row["method"] == "learned, followed through time")
    assert test["people"] == 1 and followed["mae"]["value"] < 1.0 and followed["coverage"] > 0.9
    assert {"respiration.md", "respiration.png", "respiration_reliability.png"} <= {p.name for p in out.iterdir()}


def test_too_few_people_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    breathing_record(tmp_path / "data" / "bidmc", names("train", 1)[0], 15.0)
    told = ["--data", str(tmp_path / "data"), "--cache", str(tmp_path / "cache")]
    assert main(["train", "respiration", "--out", str(tmp_path / "run"), *told]) == 2
    assert "1 people of bidmc to learn from are too few for 10 folds" in capsys.readouterr().err
    with pytest.raises(BadInput, match=r"has no respiration\.json; make it with"):
        load_respiration(tmp_path)


def windows(count: int, people: int) -> Breathing:
    features = np.zeros((count, len(CANDIDATES), len(FEATURES)), np.float32)
    rates = np.linspace(10, 30, count)
    for i, rate in enumerate(rates):
        features[i, np.abs(CANDIDATES - rate).argmin(), FEATURES.index("baseline")] = 1.0
    owners = np.array([f"bidmc/p{i % people}" for i in range(count)])
    ones = np.ones(count)
    return Breathing(features, rates, ones > 0, ones, owners, owners, np.linspace(0.0, 400.0, count), ones)


def test_the_judgement_counts_what_it_is_given() -> None:
    seen = windows(60, 6)
    errors = np.where(np.arange(60) % 2 == 0, 0.5, 4.0)
    told = Estimates(seen.rates + errors, errors)
    judged = table("t", {"all": told.rates, "valid": valid_rates(told, seen, 2.0)}, seen, learnable_rows(seen))
    every, valid = judged.rows
    assert every.mae.value == pytest.approx(2.25) and every.coverage == 1 and every.within == pytest.approx(0.5)
    assert valid.mae.value == pytest.approx(0.5) and valid.coverage == pytest.approx(0.5)
    assert spectral_rates(seen, "baseline") == pytest.approx(seen.rates, rel=0.03)
    stated = reliability(told, seen, learnable_rows(seen), bins=2)
    assert np.array(stated) == pytest.approx(np.array([[0.5, 0.5, 30], [4.0, 4.0, 30]]))


@given(st.integers(2, 40), st.integers(2, 10), st.integers(0, 5))
def test_no_person_is_in_two_folds(people: int, folds: int, seed: int) -> None:
    who = np.array([f"p{i % people}" for i in range(3 * people)])
    parts = person_folds(who, folds, seed)
    assert np.array_equal(np.sum(parts, axis=0), np.ones(len(who)))
    assert all(len(set(who[part]) & set(who[~part])) == 0 for part in parts)
