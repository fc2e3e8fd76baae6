"""Noise is what was measured, as loud as it says, and stands in a patch as the device's own front end would put it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.signal import sosfilt, welch
from synthetic_recordings import paired_signals, write_record
from varying_heart import RATE, varying_heart

from firmware_bridge.errors import BadInput
from trainer.noise import KINDS, NoiseAugmentation, NoiseBank, NoiseConfig, NoiseMaker, disturbed
from trainer.noise_bank import is_readable, is_regular, noise_bank
from trainer.splits import part_of
from trainer.windows import WindowConfig, run_frontend

CONFIG = WindowConfig()
FRONTEND = CONFIG.frontend("ppg")
QUIET = Console(quiet=True)


def bank() -> NoiseBank:
    rng = np.random.default_rng(0)
    slope = np.linspace(2, 0, 129, dtype=np.float32)
    return NoiseBank(RATE, rng.normal(size=(3, 2500)).astype(np.float32), np.stack([slope, slope[::-1]])[:1],
                     np.ones((1, 129), np.float32), np.array([20.0], np.float32))  # fmt: skip


def band_limited(seconds: float, seed: int) -> np.ndarray:
    """Noise between 0.5 and 6 Hz: as strong as a pulse, without a pace of its own."""
    noise = np.random.default_rng(seed).normal(size=round(seconds * RATE))
    return np.asarray(sosfilt(np.array(WindowConfig(ppg_band=(0.5, 6.0)).frontend("ppg").sos), noise) * 3)


def test_drawn_spectra_are_the_measured_ones() -> None:
    raw = NoiseMaker(bank()).draw("motion", 200, 1000, torch.Generator().manual_seed(0)).numpy()
    frequency, power = welch(raw, RATE, nperseg=256, axis=1)
    found, expected = np.sqrt(power.mean(0)), np.interp(frequency, np.linspace(0, RATE / 2, 129), bank().motion[0])
    np.testing.assert_allclose(found[2:100] / found[2], expected[2:100] / expected[2], atol=0.06)
    behind = NoiseMaker(bank(), FRONTEND).draw("white", 200, 1000).numpy()
    _, power = welch(behind, RATE, nperseg=256, axis=1)
    shares = power.mean(0) / power.mean(0).max()
    assert shares[frequency > 20].max() < 0.03
    assert shares[(frequency > 1.5) & (frequency < 5)].min() > 0.75


def test_artefacts_are_drawn_as_recorded_and_go_on_without_a_seam() -> None:
    known = bank()
    drawn = NoiseMaker(known).draw("artefact", 50, 6000, torch.Generator().manual_seed(1)).numpy()
    for row in drawn:
        best = min(np.abs(np.abs(row) - np.abs(loop)).max() for loop in _loops(known, row))
        assert best == 0
    with pytest.raises(ValueError, match="'hum' is not one of"):
        NoiseMaker(known).draw("hum", 1, 100)


def _loops(known: NoiseBank, row: np.ndarray) -> list[np.ndarray]:
    """Every way a segment played forth and back could have started where ``row`` does."""
    found = []
    for segment in known.artefact:
        loop = np.concatenate([segment, segment[::-1]])
        starts = np.flatnonzero(np.abs(loop) == abs(row[0]))
        found += [np.resize(np.roll(loop, -start), len(row)) for start in starts]
    return found


@given(st.floats(-5, 20), st.sampled_from(KINDS), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_a_disturbed_patch_is_what_the_front_end_would_have_made(snr: float, kind: str, seed: int) -> None:
    pulse, _ = varying_heart(60, 70, 0.05, lambda beats: np.full(len(beats), 0.3), seed)
    noise = NoiseMaker(bank()).draw(kind, 1, len(pulse), torch.Generator().manual_seed(seed))[0].numpy().astype(float)
    sos = np.array(FRONTEND.sos)
    own = slice(500, None)  # both filters have settled
    waves = [sosfilt(sos, wave - wave[0])[own] for wave in (pulse, noise)]
    noise *= np.sqrt((waves[0] ** 2).mean() / (waves[1] ** 2).mean()) * 10 ** (-snr / 20)
    clean = torch.tensor(run_frontend(pulse, CONFIG, "ppg").patches)[None]
    filtered = torch.tensor(sosfilt(sos, noise - noise[0]), dtype=torch.float32)[: clean[0].numel()].view_as(clean)
    expected = run_frontend(pulse + noise, CONFIG, "ppg").patches[30:].ravel()
    power = clean[:, 30:].square().mean() / 10 ** (snr / 10)
    whole = 10 * torch.log10(clean.square().mean() / (filtered * (power / filtered[:, 30:].square().mean()).sqrt())
                             .square().mean())  # fmt: skip
    found = disturbed(clean, filtered, whole[None], FRONTEND)[0, 30:].numpy().ravel()
    assert np.corrcoef(expected, found)[0, 1] > 0.98
    assert found.std() / expected.std() == pytest.approx(1, abs=0.08)
    assert np.abs(found).max() <= FRONTEND.clip


def test_only_drawn_windows_change_and_a_seed_repeats_them() -> None:
    patches = torch.tensor(run_frontend(paired_signals(20, 70)[0], CONFIG, "ppg").patches).repeat(200, 1, 1)
    never = NoiseAugmentation(bank(), FRONTEND, NoiseConfig(probability=0))
    assert torch.equal(never(patches), patches)
    augment = NoiseAugmentation(bank(), FRONTEND, NoiseConfig(probability=0.3))
    torch.manual_seed(5)
    changed = augment(patches)
    torch.manual_seed(5)
    assert torch.equal(augment(patches), changed)
    touched = (changed != patches).flatten(1).any(1)
    assert 0.15 < touched.float().mean() < 0.45
    loud = NoiseAugmentation(bank(), FRONTEND, NoiseConfig(probability=1, snr=(-5, -5)))(patches)
    soft = NoiseAugmentation(bank(), FRONTEND, NoiseConfig(probability=1, snr=(20, 20)))(patches)

    def likeness(noisy: torch.Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(noisy.flatten(1), patches.flatten(1)).mean())

    assert likeness(loud) < 0.65
    assert likeness(soft) > 0.95
    with pytest.raises(ValueError, match="give positive shares"):
        NoiseAugmentation(bank(), FRONTEND, NoiseConfig(shares={"hum": 1.0}))


@given(st.floats(45, 150), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_a_pulse_is_readable_and_noise_is_not(bpm: float, seed: int) -> None:
    interval = 60 / bpm * RATE
    pulse, _ = varying_heart(20, bpm, 0.01, lambda beats: np.full(len(beats), 0.3), seed)
    assert is_readable(pulse, interval, RATE)
    assert is_readable(np.concatenate([pulse[:1250], band_limited(10, seed) * 5]), interval, RATE), "half of it is"
    steps = np.cumsum(np.full(30, interval))
    assert is_regular(steps)
    assert not is_regular(steps + np.random.default_rng(seed).normal(0, 0.2 * interval, 30))
    assert not is_regular(steps[:5])


def people(part: str, count: int) -> list[str]:
    """Names of Challenge 2015 records that belong to a part of the split."""
    names = (f"p{i}" for i in range(1000))
    return [name for name in names if part_of("challenge2015", name) == part][:count]


def test_a_bank_is_measured_once_from_one_parts_people(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "challenge2015"
    true_snr = 25.0
    for i, name in enumerate([*people("train", 3), *people("test", 1)]):
        ppg, ecg = varying_heart(105, 66 + 4 * i, 0.01, lambda beats: np.full(len(beats), 0.3), i)
        power = (sosfilt(np.array(FRONTEND.sos), ppg)[500:5000] ** 2).mean()
        white = rng.normal(size=len(ppg))
        white *= np.sqrt(power / (sosfilt(np.array(FRONTEND.sos), white) ** 2).mean()) * 10 ** (-true_snr / 20)
        ppg += white
        ppg[10000:12500] += 40 * i * band_limited(20, i + 10)  # the first person's is readable throughout
        write_record(folder, name, ppg, ecg + rng.normal(0, 0.005, len(ecg)))
    cache = tmp_path / "cache"
    found = noise_bank(tmp_path / "data", CONFIG, cache, "train", QUIET)
    assert len(found.artefact) == 2, "one segment of each of the two disturbed people"
    assert found.artefact.shape[1] == 2500
    filtered = sosfilt(np.array(FRONTEND.sos), found.artefact - found.artefact[:, :1], axis=1)[:, 250:]
    np.testing.assert_allclose((filtered**2).mean(1), 1, rtol=0.02)
    for row, seed in zip(found.artefact, (11, 12), strict=True):
        assert np.corrcoef(row, band_limited(20, seed))[0, 1] > 0.95
    np.testing.assert_allclose(found.sensor_snr, true_snr, atol=2.5)
    level = found.sensor.mean(0)
    assert level[20:120].std() / level[20:120].mean() < 0.25, "white"
    assert len(noise_bank(tmp_path / "data", CONFIG, cache, "test", QUIET).artefact) == 1
    files = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
    again = noise_bank(tmp_path / "data", CONFIG, cache, "train", QUIET)
    np.testing.assert_array_equal(again.artefact, found.artefact)
    assert {file: file.stat().st_mtime_ns for file in cache.iterdir()} == files
    assert len(files) == 2
    with pytest.raises(BadInput, match="the validation part has no unreadable PPG under a regular ECG"):
        noise_bank(tmp_path / "data", CONFIG, cache, "validation", QUIET)
    next(cache.glob("noise-train-*")).write_bytes(b"no zip")
    with pytest.raises(BadInput, match=r"npz: cannot be read .*; delete it"):
        noise_bank(tmp_path / "data", CONFIG, cache, "train", QUIET)
