"""Recordings in EDF, CSV, PulseDB and VitalDB files, written here in the layouts that are documented."""

import json
from pathlib import Path

import h5py
import numpy as np
import pyedflib
import pytest
import vitaldb
from synthetic_recordings import paired_signals, write_record

from firmware_bridge.errors import BadInput
from trainer.readers.channels import find_pair, simplified
from trainer.readers.pulsedb_file import GAP, SEGMENT
from trainer.recordings import LeftOut, Recording, find_recordings
from trainer.windows import WindowConfig, cut


def only(folder: Path) -> Recording:
    """The single recording under ``folder``."""
    (recording,) = find_recordings(folder).recordings
    return recording


def write_edf(path: Path, ppg: np.ndarray, ecg: np.ndarray, rates: tuple[int, int], code: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("Resp", "Pleth", "ECG II")
    signals = [np.zeros(len(ppg)), ppg, ecg]
    with pyedflib.EdfWriter(str(path), 3, file_type=pyedflib.FILETYPE_EDFPLUS) as writer:
        writer.setPatientCode(code)
        writer.setSignalHeaders(
            [
                {"label": name, "dimension": "mV", "sample_frequency": rate, "physical_min": -3.0, "physical_max": 3.0,
                 "digital_min": -32768, "digital_max": 32767, "transducer": "", "prefilter": ""}
                for name, rate in zip(names, (rates[0], *rates), strict=True)
            ]
        )  # fmt: skip
        writer.writeSamples(signals)


@pytest.mark.parametrize(
    ("name", "simple"),
    [("PLETH,", "pleth"), ("SNUADC/ECG_II", "ecg ii"), ("PPG [a.u.]", "ppg"), ("Time (s)", "time"), ("ECG-1", "ecg 1")],
)
def test_channel_names(name: str, simple: str) -> None:
    assert simplified(name) == simple


def test_the_preferred_lead_wins_and_quality_is_no_signal() -> None:
    assert find_pair(["V5", "ppg_quality", "BVP", "Lead II"]) == (2, 3)
    with pytest.raises(LeftOut, match="no PPG channel"):
        find_pair(["ppg_quality", "ECG"])


def test_edf_with_two_rates(tmp_path: Path) -> None:
    (ppg, _), (_, ecg) = paired_signals(40, 72, rate=125), paired_signals(40, 72, rate=250)
    write_edf(tmp_path / "sleep" / "n1.edf", ppg, ecg, (125, 250), "MCH-7")
    write_edf(tmp_path / "sleep" / "n2.EDF", ppg, ecg, (125, 250), "X")
    (tmp_path / "sleep" / "n3.edf").write_bytes(b"0       broken")
    listing = find_recordings(tmp_path)
    assert [(r.dataset, r.name, r.patient, r.rate, r.length) for r in listing.recordings] == [
        ("sleep", "n1", "MCH-7", 250.0, 10_000),
        ("sleep", "n2", "n2", 250.0, 10_000),
    ]
    ((dataset, reason),) = listing.skipped
    assert dataset == "sleep" and reason.startswith("EDF that cannot be read")
    read_ppg, read_ecg = listing.recordings[0].read()
    assert read_ppg.shape == read_ecg.shape == (10_000,)
    np.testing.assert_allclose(read_ecg, ecg, atol=1e-3)
    np.testing.assert_allclose(read_ppg[200:-200:2], ppg[100:-100], atol=0.01)  # the polyphase filter's ends


def test_edf_cut_short_is_named(tmp_path: Path) -> None:
    ppg, ecg = paired_signals(40, 72)
    write_edf(tmp_path / "s" / "n1.edf", ppg, ecg, (125, 125), "")
    recording = only(tmp_path)
    content = recording.path.read_bytes()
    recording.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match=r"recording .*n1\.edf: cannot be read"):
        recording.read()


def write_csv(path: Path, header: str, columns: list[np.ndarray], comment: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [",".join("" if np.isnan(value) else f"{value:.5f}" for value in row) for row in zip(*columns, strict=True)]
    path.write_text(comment + "\n".join([header, *rows]) + "\n")


@pytest.mark.parametrize(
    ("header", "comment", "sidecar", "patient"),
    [
        ("ppg,ecg", "# rate=125\n# patient: p9\n", None, "p9"),
        ("Pleth (NU),II", "", {"rate": 125, "patient": "p8"}, "p8"),
        ("BVP,ECG", "# fs=100\n", {"rate": 125}, "r"),  # what stands beside the file goes before what is in it
    ],
)
def test_csv_with_a_given_rate(
    tmp_path: Path, header: str, comment: str, sidecar: dict[str, object] | None, patient: str
) -> None:
    ppg, ecg = paired_signals(40, 66)
    ppg[100:130] = np.nan
    write_csv(tmp_path / "wrist" / "r.csv", header, [ppg, ecg], comment)
    if sidecar:
        (tmp_path / "wrist" / "r.json").write_text(json.dumps(sidecar))
    recording = only(tmp_path)
    assert (recording.rate, recording.length, recording.patient) == (125.0, 5000, patient)
    for read, written in zip(recording.read(), (ppg, ecg), strict=True):
        np.testing.assert_allclose(read, written, atol=1e-5)


@pytest.mark.parametrize(
    ("rate", "name", "unit"), [(360.0, "time_ms", 1e3), (64.0, "t", 1.0), (125.0, "Time [s]", 1.0)]
)
def test_csv_with_a_time_column(tmp_path: Path, rate: float, name: str, unit: float) -> None:
    ppg, ecg = paired_signals(60, 66, rate=rate)
    time = np.round(np.arange(len(ppg)) / rate, 3) + 1000
    keep = np.ones(len(ppg), bool)
    keep[2000:2300] = False  # a gap: these rows are not in the file
    write_csv(tmp_path / "set" / "r.csv", f"{name},ECG,PPG", [time[keep] * unit, ecg[keep], ppg[keep]])
    recording = only(tmp_path)
    assert (recording.rate, recording.length) == (rate, len(ppg))
    ppg[~keep] = ecg[~keep] = np.nan
    for read, written in zip(recording.read(), (ppg, ecg), strict=True):
        np.testing.assert_allclose(read, written, atol=1e-5)


def test_csv_that_cannot_be_used(tmp_path: Path) -> None:
    ppg, ecg = paired_signals(10, 66)
    time = np.arange(len(ppg)) / 125
    folder = tmp_path / "set"
    write_csv(folder / "a.csv", "ppg,ecg", [ppg, ecg])
    write_csv(folder / "b.csv", "time,ppg,ecg", [time * 1000, ppg, ecg])  # milliseconds, said to be seconds
    write_csv(folder / "c.csv", "time,ppg,abp", [time, ppg, ecg])
    write_csv(folder / "labels.csv", "record,alarm", [time, ppg])
    write_csv(folder / "d.csv", "time,ppg,ecg", [time, ppg, ecg])
    listing = find_recordings(tmp_path)
    assert [r.name for r in listing.recordings] == ["d"]
    assert listing.skipped == {
        ("set", "CSV without a time column or a rate (write it to FILE.json)"): 1,
        ("set", "CSV at 0.125 Hz: is its time column in seconds?"): 1,
        ("set", "no ECG channel"): 1,
    }
    text = (folder / "d.csv").read_text().splitlines()
    (folder / "d.csv").write_text("\n".join([*text[:300], "2.392,seven,0", *text[301:]]))
    with pytest.raises(BadInput, match=r"recording .*d\.csv: cannot be read \(.*seven"):
        listing.recordings[0].read()
    (folder / "d.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"d\.csv: cannot be read \(CSV that is not UTF-8"):
        listing.recordings[0].read()
    (folder / "d.csv").write_text("\n".join(text))
    (folder / "d.json").write_text("[1]")
    with pytest.raises(BadInput, match=r"d\.json: not a JSON object"):
        find_recordings(tmp_path)


def matlab_file(path: Path) -> h5py.File:
    path.parent.mkdir(parents=True, exist_ok=True)
    return h5py.File(path, "w", userblock_size=512)  # MATLAB v7.3 keeps its own header in front


def refer(file: h5py.File, values: list[np.ndarray]) -> np.ndarray:
    group = file.require_group("#refs#")
    made = [group.create_dataset(f"{len(group)}", data=value).ref for value in values]
    return np.array(made, dtype=h5py.ref_dtype).reshape(1, -1)


def segments(count: int, bpm: float) -> tuple[np.ndarray, np.ndarray]:
    ppg, ecg = paired_signals(10 * count, bpm)
    return ppg.reshape(count, SEGMENT), ecg.reshape(count, SEGMENT)


def test_pulsedb_segment_file(tmp_path: Path) -> None:
    ppg, ecg = segments(4, 70)
    with matlab_file(tmp_path / "PulseDB" / "PulseDB_MIMIC" / "p000160.mat") as file:
        wins = file.create_group("Subj_Wins")
        for name, rows in (("PPG_F", ppg), ("ECG_F", ecg), ("ABP_F", ppg)):
            wins[name] = refer(file, [row[None] for row in rows])
        wins["IncludeFlag"] = refer(file, [np.array([[flag]], dtype=float) for flag in (1, 0, 1, 1)])
    recording = only(tmp_path)
    assert (recording.dataset, recording.group, recording.patient) == ("PulseDB", "PulseDB_MIMIC", "p000160")
    read_ppg, read_ecg = (signal.reshape(3, SEGMENT + GAP) for signal in recording.read())
    np.testing.assert_array_equal(read_ppg[:, :SEGMENT], ppg[[0, 2, 3]])
    np.testing.assert_array_equal(read_ecg[:, :SEGMENT], ecg[[0, 2, 3]])
    assert np.isnan(read_ppg[:, SEGMENT:]).all() and np.isnan(read_ecg[:, SEGMENT:]).all()
    assert recording.length == read_ppg.size
    # As the docstring says: no window of the default length fits, and one of 16 hops fits in each segment.
    windows = cut(recording, WindowConfig(hops=16, stride=4))
    assert (windows.verdicts == 0).sum() >= 3
    inside = windows.starts[windows.verdicts == 0] % 28
    assert ((inside >= 5) & (inside + 16 <= 25)).all()
    assert not (cut(recording, WindowConfig()).verdicts == 0).any()


def test_pulsedb_subset_file(tmp_path: Path) -> None:
    ppg, ecg = segments(3, 70)
    names = ["p000160_0", "p003456_1", "p000160_0"]
    with matlab_file(tmp_path / "PulseDB" / "Train_Subset.mat") as file:
        subset = file.create_group("Subset")
        subset["Signals"] = np.stack([ecg, ppg, ppg], 1).transpose(2, 1, 0)  # (n, 3, 1250) in MATLAB's order
        subset["Subject"] = refer(file, [np.array([[ord(letter)] for letter in name], np.uint16) for name in names])
    listing = find_recordings(tmp_path)
    assert [(r.name, r.patient) for r in listing.recordings] == [("p000160_0", "p000160"), ("p003456_1", "p003456")]
    for recording, rows in zip(listing.recordings, ([0, 2], [1]), strict=True):
        for read, written in zip(recording.read(), (ppg, ecg), strict=True):
            np.testing.assert_array_equal(read.reshape(-1, SEGMENT + GAP)[:, :SEGMENT], written[rows])


def test_other_mat_files_are_not_recordings(tmp_path: Path) -> None:
    ppg, ecg = paired_signals(10, 70)
    write_record(tmp_path / "bidmc", "b1", ppg, ecg)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "old.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(600))
    with matlab_file(tmp_path / "other" / "info.mat") as file:
        file["x"] = [1.0]
    (tmp_path / "other" / "torn.mat").write_bytes((tmp_path / "other" / "info.mat").read_bytes()[:700])
    listing = find_recordings(tmp_path)
    assert [r.name for r in listing.recordings] == ["b1"]
    ((_, reason),) = listing.skipped
    assert reason.startswith("MAT-file that cannot be read")


def write_vital(path: Path, ppg: np.ndarray, ecg: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    vital = vitaldb.VitalFile()
    vital.dtstart, vital.dtend = 1_000_000.0, 1_000_000.0 + len(ppg) / 500
    for name, signal in (("SNUADC/PLETH", ppg), ("SNUADC/ECG_II", ecg)):
        blocks = [
            {"dt": 1_000_000.0 + start / 500, "val": signal[start : start + 500].astype(np.float32)}
            for start in range(0, len(signal), 500)
        ]
        vital.add_track(name, blocks, srate=500, unit="mV", mindisp=-2, maxdisp=2)
    vital.to_vital(str(path))


def test_vital_file(tmp_path: Path) -> None:
    ppg, ecg = paired_signals(20, 70, rate=500)
    folder = tmp_path / "vitaldb"
    write_vital(folder / "vital_files" / "0017.vital", ppg, ecg)
    write_vital(folder / "vital_files" / "0018.vital", ppg, ecg)
    (folder / "vital_files" / "0019.vital").write_bytes(b"VITA")
    (folder / "clinical_data.csv").write_text("\ufeffcaseid,subjectid,age\n17,5955,77\n")
    listing = find_recordings(tmp_path)
    assert [(r.patient, r.rate, r.length) for r in listing.recordings] == [
        ("subject5955", 500.0, 10_000),
        ("case18", 500.0, 10_000),
    ]
    ((_, reason),) = listing.skipped
    assert reason.startswith("vital file that cannot be read")
    for read, written in zip(listing.recordings[0].read(), (ppg, ecg), strict=True):
        np.testing.assert_allclose(read, written, atol=1e-3)


def test_a_csv_copy_of_wfdb_records_is_not_read_twice(tmp_path: Path) -> None:
    ppg, ecg = paired_signals(10, 70)
    write_record(tmp_path / "bidmc", "bidmc01", ppg, ecg)
    write_csv(tmp_path / "bidmc" / "bidmc_csv" / "bidmc_01_Signals.csv", "Time [s],PLETH,II",
              [np.arange(len(ppg)) / 125, ppg, ecg])  # fmt: skip
    assert [r.name for r in find_recordings(tmp_path).recordings] == ["bidmc01"]
