"""MIT-BIH's annotations become labels at the right place of the grid, and no person is split."""

from pathlib import Path

import numpy as np
import pytest
import wfdb

from firmware_bridge.errors import BadInput
from trainer.gating import r_peaks
from trainer.protocols.ecg_features import as_table, beat_measures, measures
from trainer.protocols.tasks_mitdb import annotated, mitdb_tasks
from trainer.windows import WindowConfig

RATE, SECONDS, BEAT = 360, 65, 0.8


def write_annotated(folder: Path, name: str, early: frozenset[int], flutter_from: float | None) -> None:
    """A beat every 0.8 s on lead MLII (not the first lead); beats ``early`` come 0.3 s before their time, wide and
    upside down, and are annotated V; rhythm turns from (N to (AFIB at ``flutter_from`` s."""
    folder.mkdir(parents=True, exist_ok=True)
    times = np.arange(0.5, SECONDS - 0.5, BEAT)
    times[sorted(early)] -= 0.3
    t = np.arange(SECONDS * RATE) / RATE
    wave = np.random.default_rng(0).normal(0, 0.01, len(t))
    for i, beat in enumerate(times):
        wide, size = (0.05, -1.2) if i in early else (0.012, 1.0)
        wave += size * np.exp(-0.5 * ((t - beat) / wide) ** 2)
    wfdb.wrsamp(name, fs=RATE, units=["mV", "mV"], sig_name=["V5", "MLII"], fmt=["16", "16"],
                p_signal=np.stack([np.zeros(len(t)), wave], 1), write_dir=str(folder))  # fmt: skip
    sample = np.concatenate([[1], np.round(times * RATE).astype(int)])
    symbol = ["+"] + ["V" if i in early else "N" for i in range(len(times))]
    aux = ["(N"] + [""] * len(times)
    if flutter_from is not None:
        at = int(np.searchsorted(sample, flutter_from * RATE))
        sample = np.insert(sample, at, round(flutter_from * RATE))
        symbol.insert(at, "+")
        aux.insert(at, "(AFIB")
    wfdb.wrann(name, "atr", sample, symbol, aux_note=aux, write_dir=str(folder))


@pytest.fixture(scope="module")
def arrhythmia(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_annotated(folder / "mitdb", "201", frozenset({20, 50}), 35.0)
    write_annotated(folder / "mitdb", "202", frozenset(), None)
    write_annotated(folder / "mitdb", "203", frozenset({31}), None)
    return folder


def test_labels_lie_where_the_annotations_are(arrhythmia: Path, tmp_path: Path) -> None:
    config = WindowConfig()
    ectopy, rhythm, fibrillation, beats = mitdb_tasks(arrhythmia, tmp_path, config)
    # Windows start after the 2 s of settling: 2-12, 12-22, … s; beats 20 and 50 lie at 16.2 and 40.2 s.
    first = ectopy.people == "mitdb/201"
    assert ectopy.labels[: len(ectopy) // 3].tolist() == [0, 1, 0, 1, 0, 0]
    assert rhythm.labels[: len(ectopy) // 3].tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(fibrillation.labels, rhythm.labels)
    assert first.sum() == 2 * len(ectopy) // 3  # 201 and 202 are one person
    assert set(beats.people) == {"mitdb/201", "mitdb/203"}
    assert (beats.labels == 2).sum() == 3
    assert "of 2 people" in beats.coverage


def test_a_beats_window_ends_with_the_hop_after_it(arrhythmia: Path, tmp_path: Path) -> None:
    config = WindowConfig()
    beats = mitdb_tasks(arrhythmia, tmp_path, config)[3]
    flat = beats.signal("ecg").reshape(len(beats), -1)
    found = [r_peaks(wave, config.rate) for wave in flat]
    # The band-pass delays and the slope's energy is broad: a quarter of a hop either way.
    margin = config.hop // 4
    inside = [((p >= len(w) - 2 * config.hop - margin) & (p < len(w) - config.hop + margin)).any()
              for p, w in zip(found, flat, strict=True)]  # fmt: skip
    assert np.mean(inside) > 0.9
    rows = [beat_measures(wave, config.rate, config.hop) for wave in flat]
    odd = beats.labels == 2
    likeness = np.array([row["likeness"] for row in rows])
    early = np.array([row["interval, share of usual"] for row in rows])
    assert likeness[odd].max() < 0.5 < np.median(likeness[~odd])
    assert early[odd].max() < 0.75 < np.median(early[~odd])


def test_lead_and_annotations_are_needed(arrhythmia: Path, tmp_path: Path) -> None:
    assert annotated(arrhythmia / "mitdb" / "203", WindowConfig()).patches.patches.std() > 0.1  # not the flat V5
    with pytest.raises(BadInput, match="holds no recordings of mitdb"):
        mitdb_tasks(tmp_path, tmp_path, WindowConfig())
    (tmp_path / "mitdb").mkdir()
    for end in (".hea", ".dat"):
        (tmp_path / "mitdb" / f"203{end}").write_bytes((arrhythmia / "mitdb" / f"203{end}").read_bytes())
    with pytest.raises(BadInput, match=r"needs an MLII lead and \.atr annotations"):
        annotated(tmp_path / "mitdb" / "203", WindowConfig())


def test_measures_of_an_ectopic_window_stand_out(arrhythmia: Path, tmp_path: Path) -> None:
    ectopy = mitdb_tasks(arrhythmia, tmp_path, WindowConfig())[0]
    rows = [measures(wave.ravel(), 125.0) for wave in ectopy.signal("ecg")]
    worst = np.array([row["least likeness"] for row in rows])
    assert worst[ectopy.labels == 1].max() < np.median(worst[ectopy.labels == 0]) - 0.2
    assert as_table(rows).shape == (len(ectopy), len(set().union(*rows)))
