"""From recordings to windows: the device's own front end, honest about what is missing."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.signal import sosfilt
from synthetic_recordings import RATE, paired_signals, write_record

from edge.frontend import Frontend
from firmware_bridge.errors import BadInput
from trainer.gating import GateConfig, HopFacts, Verdict, judge, pulse_peaks, r_peaks
from trainer.preparation import count_windows, prepare_windows
from trainer.recordings import channel_label, data_folder, find_recordings
from trainer.splits import part_of
from trainer.stages import Prepared
from trainer.windows import WindowConfig, run_frontend, to_grid

CONFIG = WindowConfig()


def test_patches_are_the_front_ends_own() -> None:
    ppg, _ = paired_signals(40, 70)
    found = run_frontend(ppg, CONFIG, "ppg")
    frontend = Frontend(CONFIG.frontend("ppg"))
    state = frontend.start()
    for i, hop in enumerate(ppg[: len(ppg) // 50 * 50].reshape(-1, 50)):
        np.testing.assert_array_equal(found.patches[i], frontend.step(state, hop)[1])
    assert list(np.flatnonzero(~found.valid)) == list(range(CONFIG.settle_hops))
    # and that front end is the Butterworth band-pass it says it is
    whole = sosfilt(np.array(CONFIG.frontend("ppg").sos), ppg - ppg[0])[: found.patches.size].reshape(-1, 50)
    gains = found.patches[1:] / whole[1:]
    assert np.median(np.ptp(gains, axis=1) / np.abs(gains).mean(1)) < 1e-4, "one gain a hop"


@given(st.integers(600, 4000), st.integers(1, 400))
@settings(max_examples=25, deadline=None)
def test_missing_samples_are_marked_and_long_gaps_restart(start: int, length: int) -> None:
    ppg, _ = paired_signals(40, 70)
    broken = ppg.copy()
    broken[start : start + length] = np.nan
    found = run_frontend(broken, CONFIG, "ppg")
    whole = run_frontend(ppg, CONFIG, "ppg")
    assert np.isfinite(found.patches).all()
    first, last = start // 50, (start + length - 1) // 50
    assert not found.valid[first : last + 1].any()
    assert found.valid[5:first].all()
    np.testing.assert_array_equal(found.patches[:first], whole.patches[:first])
    settling = CONFIG.settle_hops if length > RATE else 0
    assert not found.valid[last + 1 : last + 1 + settling].any()
    assert found.valid[last + 1 + settling :].all()


def test_other_rates_come_onto_the_grid() -> None:
    ppg, _ = paired_signals(30, 70, rate=250)
    ppg[5000:5100] = np.nan
    found = to_grid(ppg, 250, 125)
    expected, _ = paired_signals(30, 70, rate=125)
    assert len(found) == len(expected)
    assert np.isnan(found[2500:2550]).all()
    assert np.isfinite(np.delete(found, np.arange(2500, 2550))).all()
    np.testing.assert_allclose(found[200:2300], expected[200:2300], atol=0.02)


@pytest.mark.parametrize("bpm", [45, 75, 150])
def test_detectors_find_the_rate(bpm: float) -> None:
    ppg, ecg = paired_signals(60, bpm)
    p = run_frontend(ppg, CONFIG, "ppg").patches[10:].ravel()
    e = run_frontend(ecg, CONFIG, "ecg").patches[10:].ravel()
    for peaks in (pulse_peaks(p, RATE), r_peaks(e, RATE)):
        assert np.diff(peaks).mean() == pytest.approx(60 * RATE / bpm, rel=0.01)
        assert np.ptp(np.diff(peaks)) <= 3


def verdict(ppg: np.ndarray, ecg: np.ndarray) -> Verdict:
    """The gate's word on the last 50 hops."""
    p, e = run_frontend(ppg, CONFIG, "ppg"), run_frontend(ecg, CONFIG, "ecg")
    starts = np.array([len(p.valid) - 50])
    facts = HopFacts(p.valid & e.valid, p.flat, e.flat)
    return Verdict(judge(p.patches, e.patches, facts, starts, 50, RATE, CONFIG.clip, GateConfig())[0])


def test_the_gate_says_why() -> None:
    ppg, ecg = paired_signals(40, 70)
    rng = np.random.default_rng(0)
    assert verdict(ppg, ecg) is Verdict.OK
    assert verdict(ppg, paired_signals(40, 95)[1]) is Verdict.RATES_DISAGREE
    missing = ppg.copy()
    missing[-500] = np.nan
    assert verdict(missing, ecg) is Verdict.MISSING
    flat = ppg.copy()
    flat[-1000:] = flat[-1000]
    assert verdict(flat, ecg) is Verdict.FLAT
    bursts = ppg + np.repeat(rng.random(100) < 0.1, 50)[: len(ppg)] * rng.normal(0, 60, len(ppg))
    assert verdict(bursts, ecg) is Verdict.CLIPPED
    slow = np.sin(2 * np.pi * 0.05 * np.arange(len(ppg)) / RATE)
    assert verdict(slow, ecg) is Verdict.NO_RATE


def test_parts_and_cache(synthetic_data: Path, prepared: Prepared, tmp_path: Path) -> None:
    windows = prepared.windows
    people = {part: set(windows.part(part).patients) for part in ("train", "validation", "test")}
    assert all(people.values())
    assert not people["train"] & people["validation"]
    assert not (people["train"] | people["validation"]) & people["test"]
    for part, names in people.items():
        assert {part_of(*name.split("/")) for name in names} == {part}
    apart, dense = windows.part("train"), windows.part("train", overlap=True)
    assert len(dense) > len(apart) > 0
    assert apart.ppg.shape == (len(apart), 50, 50)
    assert apart.ppg.dtype == np.float32
    assert len(windows.part("train", overlap=True, limit=5)) == 5
    assert sum(counts.total() for counts in count_windows(windows).values()) == len(windows)

    messages = Console(record=True, file=io.StringIO(), width=100)
    first = prepare_windows(synthetic_data, CONFIG, tmp_path, messages)
    assert "preparing" in messages.export_text()
    again = prepare_windows(synthetic_data, CONFIG, tmp_path, messages)
    assert "preparing" not in messages.export_text()
    np.testing.assert_array_equal(first.ppg, again.ppg)
    assert len(list(tmp_path.iterdir())) == 1
    prepare_windows(synthetic_data, WindowConfig(hops=40, stride=20), tmp_path, Console(quiet=True))
    assert len(list(tmp_path.iterdir())) == 2


def test_channels_patients_and_what_is_skipped(tmp_path: Path) -> None:
    ppg, ecg = paired_signals(10, 70)
    write_record(tmp_path / "bidmc", "b1", ppg, ecg, ["MIMIC II matched wdb ID: s03386"])
    write_record(tmp_path / "mimic_perform_af" / "AF_wfdb", "m1", ppg, ecg, ["<Original Subject ID>: p000946 <x>: 1"])
    write_record(tmp_path / "other", "o1", ppg, ecg)
    text = (tmp_path / "other" / "o1.hea").read_text()
    (tmp_path / "other" / "o2.hea").write_text(text.replace("o1 2", "o2 2").replace("PLETH,", "RESP,"))
    (tmp_path / "other" / "o3.hea").write_text(text.replace("o1 2", "o3 2").replace("II,", "ABP,"))
    listing = find_recordings(tmp_path)
    found = {r.name: (r.dataset, r.group, r.patient) for r in listing.recordings}
    assert found == {
        "b1": ("bidmc", "bidmc", "s03386"),
        "m1": ("mimic_perform_af", "AF_wfdb", "p000946"),
        "o1": ("other", "other", "o1"),
    }
    assert listing.skipped == {("other", "no PPG channel"): 1, ("other", "no ECG channel"): 1}
    assert channel_label("PPG, Fingertip PPG recorded using bedside monitor") == "PPG"
    p, e = listing.recordings[0].read()
    np.testing.assert_allclose(p, ppg, atol=1e-3)
    np.testing.assert_allclose(e, ecg, atol=1e-3)


def test_bad_data_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSECODE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="nowhere: no such folder; give --data"):
        data_folder()
    with pytest.raises(BadInput, match="holds no recording"):
        find_recordings(tmp_path)
    ppg, ecg = paired_signals(10, 70)
    write_record(tmp_path / "set", "r1", ppg, ecg)
    header = tmp_path / "set" / "r1.hea"
    good = header.read_text()
    header.write_text(good.replace("PLETH,", "RESP,"))
    with pytest.raises(BadInput, match="no recording there has both a PPG"):
        find_recordings(tmp_path)
    header.write_text("not a header at all")
    with pytest.raises(BadInput, match=r"r1\.hea: not a readable WFDB header"):
        find_recordings(tmp_path)
    header.write_text(good)
    data = tmp_path / "set" / "r1.dat"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(BadInput, match=r"r1\.dat: cannot be read"):
        find_recordings(tmp_path).recordings[0].read()
