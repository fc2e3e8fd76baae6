"""The ablation end to end on small synthetic data: rows, resuming, the published code's faults, the table."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from synthetic_recordings import paired_signals, write_record

from benchmarks.ablation import published
from benchmarks.ablation.budget import Budget
from benchmarks.ablation.claim import claim
from benchmarks.ablation.measure import Row, tokenizer_folder
from benchmarks.ablation.plot import draw
from benchmarks.ablation.present import markdown
from benchmarks.ablation.runner import run_all
from benchmarks.ablation.segments import by_segment
from benchmarks.ablation.table import lines, verdict
from benchmarks.ablation.variants import BASE, VARIANTS, Variant
from firmware_bridge.errors import BadInput
from trainer.stages import DataChoice, prepare

BUDGET = Budget(windows=60, epochs1=2, epochs2=2, phases=2, batch=16)
TINY = {"dim": 16, "layers": 1, "heads": 2}
SMALL = {"tokenizer": {"dim": 16, "heads": 2, "quantizer": {"size": 32, "dim": 8}}, "student": TINY}
BASIC = replace(BASE, **SMALL)


@pytest.fixture(scope="module")
def choice(tmp_path_factory: pytest.TempPathFactory) -> DataChoice:
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for i in range(12):
        ppg, ecg = paired_signals(65, 55 + 5 * i)
        noise = rng.normal(0, 0.02, (2, len(ppg)))
        write_record(folder / "synthetic", f"r{i:02d}", ppg + noise[0], ecg + noise[1])
    return DataChoice(folder, tmp_path_factory.mktemp("cache"))


def test_rows_faults_and_tables(choice: DataChoice, tmp_path: Path) -> None:
    console = Console(quiet=True)
    names = ("projection left out", "split by segment")
    faults = [BASIC, *(replace(v, **SMALL) for v in published.FAULTS if v.name in names)]
    rows = run_all(faults, [0], BUDGET, choice, tmp_path, console)
    base, tampered, segments = (row.figures for row in rows)
    assert base["agreement"] == 1
    assert tampered["agreement"] < 0.9, "a random projection gives other tokens"
    assert "apparent top1" in segments and "apparent top1" not in base
    assert (tmp_path / "base-base-s0" / "tampered" / "tokenizer.safetensors").exists() is False
    assert all(0 <= row.figures["top1"] <= row.figures["top5"] <= 1 for row in rows)
    hops = sum(sums[0] for sums in rows[0].people.values())
    assert sum(sums[1] for sums in rows[0].people.values()) == pytest.approx(base["top1"] * hops, rel=1e-3)

    stamp = (tmp_path / "base-base-s0" / "row.json").stat().st_mtime_ns
    again = run_all(faults, [0], BUDGET, choice, tmp_path, console)
    assert [row.figures for row in again] == [row.figures for row in rows]
    assert (tmp_path / "base-base-s0" / "row.json").stat().st_mtime_ns == stamp, "a finished row is not run again"
    with pytest.raises(BadInput, match="another budget"):
        run_all(faults, [0], replace(BUDGET, epochs1=3), choice, tmp_path, console)

    found = lines(faults, rows, BASIC)
    assert found[0].rate_change is None and found[1].rate_change is not None
    table = published.markdown(found, BUDGET)
    assert table.count("\n| ") == 4 and "projection left out" in table
    assert markdown(found, BUDGET, "What each choice is worth").count("\n| ") == 4
    assert draw(found).startswith(b"\x89PNG")
    json.dumps([line.to_dict() for line in found])


def test_by_segment_deals_windows_of_the_same_people(choice: DataChoice) -> None:
    prepared = prepare(choice, Console(quiet=True))
    leaky = by_segment(prepared.windows)
    train, validation = leaky.part("train", overlap=True), leaky.part("validation", overlap=True)
    assert set(train.patients) & set(validation.patients)
    assert not set(zip(train.recording, train.start, strict=True)) & set(
        zip(validation.recording, validation.start, strict=True)
    )
    assert set(train.patients) | set(validation.patients) == set(prepared.windows.part("train").patients)


def test_a_row_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "row.json").write_text('{"slug": 1}')
    with pytest.raises(BadInput, match="delete it and run again"):
        Row.read(tmp_path / "row.json")


def test_variants_have_folders_of_their_own_and_share_only_an_unchanged_tokenizer(tmp_path: Path) -> None:
    every = [*VARIANTS, *published.FAULTS[1:]]
    assert len({variant.slug for variant in every}) == len(every)
    shared = tokenizer_folder(BASE, 0, tmp_path)
    for variant in every:
        unchanged = not (variant.windows or variant.tokenizer or variant.fit1 or variant.jitter or variant.by_segment)
        assert (tokenizer_folder(variant, 0, tmp_path) == shared) == unchanged


def test_only_a_living_process_keeps_its_claim(tmp_path: Path) -> None:
    assert claim(tmp_path / "a") and claim(tmp_path / "a"), "one's own"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "running").write_text("1")
    assert not claim(tmp_path / "b")
    (tmp_path / "b" / "running").write_text("4194305")  # above the largest process id
    assert claim(tmp_path / "b")


def test_a_difference_needs_an_interval_without_zero() -> None:
    assert verdict((0.2, -0.1, 0.5)).endswith("same")
    assert verdict((0.2, 0.1, 0.5)).endswith("worse")
    assert verdict((-0.2, -0.3, -0.1)).endswith("better")
    assert Variant("a  b", "C: 1").slug == "a-b-c-1"
