"""`pulsecode evaluate noise` and `misalignment`, end to end on small runs and a few synthetic people."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from synthetic_recordings import SMALL, write_record
from varying_heart import varying_heart

from edge.frontend import Frontend
from firmware_bridge.cli import main
from trainer.alignment import estimate_delay
from trainer.encoder import EncoderConfig
from trainer.fitting import FitConfig
from trainer.noise import KINDS
from trainer.noise_bank import noise_bank
from trainer.protocols.noise_stability import LEAD, Passages, disturbance, through_frontend
from trainer.splits import PARTS, part_of
from trainer.stages import DataChoice, prepare, train_student, train_tokenizer
from trainer.windows import WindowConfig, run_frontend

QUIET = Console(quiet=True)
TINY = EncoderConfig(dim=16, layers=1, heads=2, mlp=2, codebook_size=32, dropout=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten people called Challenge 2015, 62 s each: 40 s of pulse and, in every other one, 20 s of artefact."""
    folder = tmp_path_factory.mktemp("robustness")
    rng = np.random.default_rng(0)
    names = {part: [i for i in range(60) if part_of("challenge2015", f"r{i}") == part] for part in PARTS[:3]}
    for i in [*names["train"][:5], *names["validation"][:2], *names["test"][:3]]:
        ppg, ecg = varying_heart(62, 62 + i, 0.03, lambda beats: np.full(len(beats), 0.3), i)
        if i % 2:
            ppg[5000:] += 2 * np.convolve(rng.normal(size=len(ppg) - 5000), np.ones(12) / 3, "same")
        noise = rng.normal(0, 0.01, (2, len(ppg)))
        write_record(folder / "data" / "challenge2015", f"r{i}", ppg + noise[0], ecg + noise[1])
    return folder


@pytest.fixture(scope="module")
def runs(data: Path) -> Path:
    """A student of each signal, and one whose teacher saw aligned pairs."""
    choice = DataChoice(data / "data", data / "cache")
    for name, config in (("plain", WindowConfig()), ("aligned", WindowConfig(align=True))):
        prepared = prepare(choice, QUIET, config)
        out = data / "runs" / name
        train_tokenizer(out / "tokenizer", prepared, FitConfig(1, batch=4), QUIET, resume=False, model=SMALL)
        for student in ("ppg", "ecg")[: 2 if name == "plain" else 1]:
            signal = "ecg" if student == "ecg" else "ppg"
            train_student(out / student, out / "tokenizer", signal, prepared, FitConfig(1, batch=4), QUIET,
                          resume=False, model=TINY)  # fmt: skip
    return data / "runs"


def evaluate(action: str, data: Path, *args: object) -> int:
    given = ["--data", str(data / "data"), "--cache", str(data / "cache"), *map(str, args)]
    return main(["evaluate", action, *given])


def test_noise(data: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--run", f"one={runs}/plain/ppg", "--run", f"two={runs}/aligned/ppg", "--out", tmp_path / "out")
    assert evaluate("noise", data, *given) == 0
    shown = capsys.readouterr().out
    assert "same likeliest token as on the clean wave" in shown
    result = json.loads((tmp_path / "out" / "noise.json").read_text())
    assert (tmp_path / "out" / "noise.png").read_bytes().startswith(b"\x89PNG")
    assert result["people"] >= 2
    for run in ("one", "two"):
        clean, *noisy = [p for p in result["points"] if p["run"] == run]
        assert (clean["kind"], clean["same"]["value"], clean["kl"]["value"]) == ("clean", 1, 0)
        assert [(p["kind"], p["snr"]) for p in noisy] == [(k, s) for k in KINDS for s in (20, 15, 10, 5, 0, -5)]
        for kind in KINDS:
            first, *_, last = [p for p in noisy if p["kind"] == kind]
            assert first["same"]["value"] > last["same"]["value"]
            assert first["kl"]["value"] < last["kl"]["value"]
            assert all(p["same_in_5"]["value"] >= p["same"]["value"] for p in (first, last))


def test_the_snr_is_what_it_says_and_the_front_end_is_the_devices(data: Path) -> None:
    config = WindowConfig()
    frontend = config.frontend("ppg")
    ppg, _ = varying_heart(40, 70, 0.03, lambda beats: np.full(len(beats), 0.3))
    samples = (LEAD + config.hops) * config.hop
    raw = np.stack([ppg[:samples], 3 * ppg[500 : 500 + samples]])
    passages = Passages(raw, np.arange(2), ["a@0", "b@0"], np.array(["a", "b"]))
    bank = noise_bank(data / "data", config, data / "cache", "test", QUIET)
    patches = through_frontend(raw, frontend)
    np.testing.assert_array_equal(patches[0], run_frontend(raw[0], config, "ppg").patches[LEAD:])
    for kind in KINDS:
        noise = disturbance(passages, kind, bank, frontend)
        for clean, added in zip(raw, noise, strict=True):
            powers = []
            for wave in (clean, added):
                device = Frontend(frontend)
                state = device.start()
                hops = [device.step(state, hop)[0] for hop in wave.reshape(-1, config.hop)]
                powers.append(np.square(hops[LEAD:]).mean())
            assert 10 * np.log10(powers[0] / powers[1]) == pytest.approx(0, abs=1e-6)
        np.testing.assert_array_equal(noise, disturbance(passages, kind, bank, frontend))


def test_misalignment(data: Path, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("--run", f"plain={runs}/plain/ppg", "--run", f"aligned={runs}/aligned/ppg", "--out", tmp_path / "out")
    assert evaluate("misalignment", data, *given) == 0
    assert "aligned" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "misalignment.json").read_text())
    assert (tmp_path / "out" / "misalignment.png").read_bytes().startswith(b"\x89PNG")
    assert result["trained_aligned"] == {"plain": False, "aligned": True}
    assert min(result["recovered"].values()) > 0.8
    shifts = sorted({p["shift"] for p in result["points"]})
    assert shifts == [s / 10 for s in range(-5, 6)]
    kept = {(p["run"], p["aligned"], p["shift"], p["drift"]): p["kept"]["value"] for p in result["points"]}
    for run in ("plain", "aligned"):
        for aligned in (False, True):
            assert kept[run, aligned, 0.0, 0.0] == 1
        for shift in (-0.5, -0.3, 0.3, 0.5):
            assert kept[run, True, shift, 0.0] > kept[run, False, shift, 0.0] + 0.1


def test_the_ecg_student_is_judged_on_the_shifted_ecg(data: Path, runs: Path, tmp_path: Path) -> None:
    assert evaluate("misalignment", data, "--run", runs / "plain" / "ecg", "--people", 1, "--out", tmp_path) == 0
    assert json.loads((tmp_path / "misalignment.json").read_text())["people"] == 1


@pytest.mark.parametrize(
    ("action", "args", "said"),
    [
        ("noise", ("--run", "{runs}/plain/ecg"), "is a student of ecg; the noise measured here is that of PPG"),
        ("noise", ("--run", "{runs}/nowhere"), "no such folder"),
        ("noise", ("--run", "{runs}/plain/ppg", "--tokenizer", "{runs}/aligned/tokenizer"), "by another tokenizer"),
        ("noise", ("--run", "{runs}/plain/ppg", "--run", "{runs}/plain/ppg"), "give each one as LABEL=RUN"),
        ("misalignment", ("--run", "a={runs}/plain/ppg", "--run", "b={runs}/aligned/ppg",
                          "--tokenizer", "{runs}/plain/tokenizer"), "given 1 times for 2 runs"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_ends_in_one_line(
    action: str, args: tuple[str, ...], said: str, data: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert evaluate(action, data, *(arg.format(runs=runs) for arg in args)) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.data
def test_real_people_keep_their_delay_and_shifts_are_found(shared_data: Path) -> None:
    from trainer.recordings import find_recordings

    config = WindowConfig()
    bidmc = [
        r for r in find_recordings(shared_data / "bidmc").recordings if r.name in ("bidmc01", "bidmc04", "bidmc13")
    ]
    for recording in bidmc:
        ppg, ecg = recording.read()
        wave = run_frontend(ppg, config, "ppg").patches.ravel()
        straight = estimate_delay(wave, run_frontend(ecg, config, "ecg").patches.ravel(), 125.0)
        assert straight.believed.all()
        assert 0.2 < np.median(straight.delay) < 0.8
        assert np.ptp(straight.delay) < 0.06
        later = run_frontend(np.roll(ecg, 25), config, "ecg").patches.ravel()
        np.testing.assert_allclose(estimate_delay(wave, later, 125.0).delay, straight.delay - 0.2, atol=0.02)
