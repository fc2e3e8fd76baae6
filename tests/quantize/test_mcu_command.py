"""``pulsecode mcu`` from a run to a folder, a report and an exit status."""

import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_mcu
import tiny_models
import tiny_run

from firmware_bridge import cli
from quantize.mcu import boards, workflow
from quantize.mcu.boards import Board
from quantize.mcu.report import McuReport, as_json, as_markdown
from quantize.mcu.toolchain import BUILDS, CORES, Footprint
from quantize.mcu.workflow import Options, make
from quantize.progress import Steps


def test_a_run_becomes_sources_that_check_themselves_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_mcu.need("gcc", "arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm", "make")
    monkeypatch.setattr(workflow, "OTHER_SHAPES", ())
    monkeypatch.setattr(boards, "CORES", CORES[1:])
    monkeypatch.setattr(boards, "BUILDS", {"-O2, DSP": BUILDS["-O2, DSP"]})
    monkeypatch.chdir(tmp_path)
    folder, report = tmp_path / "c", tmp_path / "mcu.md"
    run, windows = tiny_run.run(), tiny_run.windows()
    with Steps() as steps:
        assert make(run, windows, Options(Path("c"), "gptq", 6, True, report, None), steps) == []
    checked = subprocess.run(["make", "-s", "check"], cwd=folder, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    results = (folder / "results.bin").read_bytes()
    (folder / "results.bin").write_bytes(results[:-1] + bytes([results[-1] ^ 1]))
    assert subprocess.run(["make", "-s", "check"], cwd=folder, check=False, capture_output=True).returncode != 0

    read = msgspec.json.decode(report.with_suffix(".json").read_bytes(), type=McuReport)
    pairs = {(a.first, a.second): a for a in read.agreements}
    assert pairs["C", "its weights in fp32"].everywhere.value > 0.99
    assert pairs["C", "fp32"].everywhere.n == 6 * tiny_run.HOPS
    assert pairs["C", "fp32"].cosine > 0.999
    sizes = msgspec.json.decode((folder / "size.json").read_bytes(), type=list[Board])
    assert read.shapes[0].boards == sizes
    text = report.read_text()
    assert f"{read.shapes[0].macs:,}" in text and "Cortex-M33" in text
    assert str(tmp_path) not in text + (folder / "README.md").read_text() + (folder / "pulsecode_model.c").read_text()


def test_other_bits_on_a_board_are_a_fault_and_stand_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_mcu.need("gcc")
    board = Board("Cortex-M4", "-O2", Footprint(100_000, 3_000, 20_000, 300), 1_000_000, 1_250_000, False)
    monkeypatch.setattr(workflow, "_on_boards", lambda *_: [board])
    with Steps() as steps:
        options = Options(tmp_path / "c", "nearest", 3, True, None, None)
        faults = make(tiny_run.run(), tiny_run.windows(), options, steps)
    assert faults == ["Cortex-M4 -O2: other bits than on this computer"]
    report = McuReport("r", "GPTQ", "", "", [], [workflow.Shape("this", 1000, [board])], "gcc", "qemu")
    assert "| NO |" in as_markdown(report)
    assert msgspec.json.decode(as_json(report), type=McuReport) == report


def test_macs_count_every_product() -> None:
    config = tiny_models.CONFIG
    weights = sum(p.numel() for n, p in tiny_models.encoder().named_parameters() if p.dim() == 2 and "norm" not in n)
    attention = 2 * config.layers * config.context * config.dim
    assert workflow.macs(config) == weights + attention
    assert np.isscalar(workflow.macs(config))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nosuch", "--out", "c"], "no such folder"),
        (["nosuch", "--out", "c", "--bundle", "b"], "give --report"),
        (["nosuch", "--out", "c", "--report", "r.txt"], "must end in .md"),
        (["nosuch", "--out", "full"], "holds no pulsecode_encoder.h"),
        (["nosuch", "--out", "file"], "is a file"),
        (["nosuch", "--out", "c", "--windows", "0"], "whole number"),
    ],
)
def test_bad_use_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    assert cli.main(["mcu", *arguments]) == 2
    said = capfd.readouterr().err
    assert message in said and said.count("\n") == 1
    assert (tmp_path / "full" / "mine.txt").read_text() == "keep"
