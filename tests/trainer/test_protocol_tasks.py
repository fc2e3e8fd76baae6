"""The reference, the hand-made features and the commands, on waves whose truth is known."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from synthetic_recordings import RATE, SMALL, paired_signals, write_record
from test_train_commands import refusal

from firmware_bridge.cli import main
from trainer.encoder import Encoder, EncoderConfig
from trainer.protocols.classical import interval_rates
from trainer.protocols.ecg_reference import agreed_rate
from trainer.protocols.pulse_features import beat_positions, interval_measures, measures, template_correlation
from trainer.protocols.setting import Setting
from trainer.protocols.tasks_bidmc import breath_rates, heart_rate, monitor_rate, respiratory_rate
from trainer.run_folder import RunFolder
from trainer.stages import file_sha256
from trainer.tokenizer import Tokenizer
from trainer.windows import WindowConfig, run_frontend

TINY = EncoderConfig(dim=16, layers=1, heads=2, mlp=2, codebook_size=32)


def test_actions_import_nothing_heavy_before_they_run() -> None:
    code = (
        "import argparse, sys, trainer.evaluate_commands as e; e.EVALUATE.configure(argparse.ArgumentParser());"
        "print([m for m in ('torch', 'numpy', 'scipy', 'sklearn', 'wfdb', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_reference_needs_witnesses_that_do_not_contradict_each_other() -> None:
    nan = np.nan
    leads = np.array([[80.0, 80.0, 97.0, 100.0, nan, 70.0], [81.0, 120.0, 74.0, 100.2, nan, 90.0]])
    monitor = np.array([nan, 82.0, 80.0, 94.0, 70.0, nan])
    leads = np.concatenate([leads, [[nan, nan, 73.8, 93.8, nan, nan]]])
    rate, trusted = agreed_rate(leads, monitor)
    assert trusted.tolist() == [True, True, True, False, False, False]
    np.testing.assert_allclose(rate[:3], [80.5, 80.0, 73.9])


def test_breaths_and_the_monitors_rate_are_counted_in_their_window() -> None:
    breaths = np.arange(0.5, 100, 4.0)  # 15 a minute
    rates = breath_rates(breaths, np.array([0.0, 32.0, 95.0]), 32.0)
    np.testing.assert_allclose(rates[:2], 15.0)
    assert np.isnan(rates[2])
    monitor = np.array([0.0, 70, 72, np.nan, 80, 80, 80, 0, 0, 0])
    np.testing.assert_allclose(monitor_rate(monitor, np.array([0.0, 4.0]), 4.0), [71.0, 80.0])
    assert np.isnan(monitor_rate(monitor, np.array([7.0]), 3.0))[0]


@pytest.mark.parametrize("bpm", [48, 75, 132])
def test_a_steady_pulse_is_measured_as_it_is(bpm: float) -> None:
    ppg = run_frontend(paired_signals(30, bpm)[0], WindowConfig(), "ppg").patches[30:55]
    found = measures(ppg.ravel(), RATE)
    for name in ("rate by median", "rate by mean", "spectral rate", "autocorrelation rate"):
        assert found[name] == pytest.approx(bpm, rel=0.04), name
    assert found["rate by median"] == pytest.approx(bpm, rel=0.005)
    assert found["nRMSSD"] < 0.01 and found["template"] > 0.99
    assert interval_rates(ppg[None], RATE, beat_positions)[0] == pytest.approx(bpm, rel=0.005)


def test_irregular_intervals_stand_out_in_every_measure_of_irregularity() -> None:
    steady = interval_measures(np.full(12, 0.8) + 0.005 * np.sin(np.arange(12)))
    wild = interval_measures(np.random.default_rng(0).uniform(0.4, 1.2, 12))
    for name in ("CV", "nRMSSD", "median change", "pNN50", "range", "far from median", "sample entropy"):
        assert wild[name] > steady[name], name
    assert interval_measures(np.array([0.8, 0.8])) == {}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["noise", "flat", "spike", "step", "slow"]))
def test_any_wave_can_be_measured(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    t = np.arange(1250) / RATE
    wave = {
        "noise": rng.normal(size=1250),
        "flat": np.full(1250, rng.normal()),
        "spike": 5.0 * (np.arange(1250) == rng.integers(1250)),
        "step": np.sign(t - rng.uniform(0, 10)),
        "slow": np.sin(2 * np.pi * rng.uniform(0.01, 0.5) * t),
    }[kind]
    found = measures(wave, RATE)
    assert all(np.isfinite(value) or name == "turning points" for name, value in found.items()), found
    assert -1 <= template_correlation(wave, RATE) <= 1 + 1e-9


def fibrillating(seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pulses at random intervals, and R peaks before them."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    beats = np.cumsum(rng.uniform(0.45, 1.1, round(seconds * 2)))
    ecg, ppg = np.zeros(len(t)), np.zeros(len(t))
    for beat in beats[beats < seconds - 1]:
        ecg += np.exp(-0.5 * ((t - beat) / 0.012) ** 2)
        ppg += np.exp(-0.5 * ((t - beat - 0.3) / 0.09) ** 2)
    return ppg, ecg


def hearts(folder: Path, people: int) -> Path:
    """Half of them steady, half of them fibrillating, laid out as MIMIC PERform AF."""
    for i in range(people):
        rng = np.random.default_rng(i)
        for group, pair in (("Non_AF_wfdb", paired_signals(60, 60 + 5 * i)), ("AF_wfdb", fibrillating(60, i))):
            ppg, ecg = (signal + rng.normal(0, 0.01, len(signal)) for signal in pair)
            write_record(folder / "mimic_perform_af" / group, f"{group[:3].lower()}{i}", ppg, ecg)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with a codebook and its two students, untrained."""
    import torch

    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    tokenizer = Tokenizer(SMALL)
    tokenizer.quantizer.codebook.normal_()
    tokenizer.quantizer.counts.fill_(1.0)
    windows = json.loads(json.dumps(WindowConfig().to_dict()))
    source = RunFolder(folder / "tokenizer")
    source.start({"kind": "tokenizer", "model": SMALL.to_dict(), "windows": windows}, resume=False)
    source.save_weights("tokenizer", tokenizer)
    sha = file_sha256(source.weights("tokenizer"))
    for signal in ("ppg", "ecg"):
        run = RunFolder(folder / signal)
        config = {"kind": "encoder", "signal": signal, "model": TINY.to_dict(), "windows": windows,
                  "tokenizer_sha256": sha, "data": {"excluded": ["bidmc"]}}  # fmt: skip
        run.start(config, resume=False)
        run.save_weights("encoder", Encoder(TINY))
    return folder


def test_af_and_its_table_from_recordings_to_files(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = hearts(tmp_path / "data", 3)
    where = ("--data", str(data), "--cache", str(tmp_path / "cache"), "--folds", "2", "--seeds", "1")
    out = tmp_path / "out"
    assert main(["evaluate", "af", "--run", str(runs / "ppg"), *where, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "hand-made features → linear" in said and "of 6 people" in " ".join(said.split())
    result = json.loads((out / "af.json").read_text())["results"][0]
    scores = {row["method"]: row["scores"][0]["value"]["value"] for row in result["rows"]}
    assert scores["hand-made features → linear"] > 0.95  # irregular against steady, unmistakably
    assert scores["constant"] == 0.5
    assert (out / "af.png").read_bytes().startswith(b"\x89PNG")
    assert "left out: bidmc" in (out / "af.md").read_text()


def test_runs_that_do_not_belong_together_are_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = hearts(tmp_path / "data", 2)
    where = ("--data", str(data), "--cache", str(tmp_path / "cache"))
    line = refusal(capsys, "evaluate", "af", "--run", str(runs / "ecg"), "--ecg", str(runs / "ecg"), *where)
    assert "reads ecg; a run that reads ppg is needed" in line
    assert "5 folds" in refusal(capsys, "evaluate", "af", "--run", str(runs / "ppg"), *where)
    assert "at least 2 folds" in refusal(capsys, "evaluate", "af", "--run", str(runs / "ppg"), "--folds", "1", *where)
    assert "holds no recordings of bidmc" in refusal(capsys, "evaluate", "bidmc", "--run", str(runs / "ppg"), *where)
    assert "run folder nowhere: no such folder" in refusal(capsys, "evaluate", "features", "--run", "nowhere", *where)
    other = json.loads((runs / "ecg" / "config.json").read_text())
    stranger = RunFolder(tmp_path / "stranger")
    stranger.start({**other, "tokenizer_sha256": "another"}, resume=False)
    stranger.save_weights("encoder", Encoder(TINY))
    pair = ("--ppg", str(runs / "ppg"), "--ecg", str(stranger.path))
    assert "was taught by another tokenizer" in refusal(capsys, "evaluate", "cross-modal", *pair, *where)


@pytest.mark.data
def test_real_heart_and_breath_labels_agree_with_the_bedside(shared_data: Path, runs: Path, tmp_path: Path) -> None:
    setting = Setting(shared_data, tmp_path, {"ppg": runs / "ppg"}, None, Console(quiet=True), people=4)
    heart, breath = heart_rate(setting), respiratory_rate(setting)
    assert len(np.unique(heart.people)) == 4 and set(heart.people) == set(breath.people)
    shares = [float(task.coverage.partition("(")[2].partition("%")[0]) for task in (heart, breath)]
    assert min(shares) > 80  # the reference decides; the pulse wave does not pick its own windows
    assert re.search(r"median 0\.\d\d bpm apart, (9\d|100)% within 5", heart.coverage)
    told = interval_rates(heart.signal("ppg"), heart.rate, beat_positions)
    assert np.nanmedian(np.abs(told - heart.labels)) < 0.5
    assert ((breath.labels > 4) & (breath.labels < 40)).all() and breath.signal("ppg").shape[1:] == (80, 50)
