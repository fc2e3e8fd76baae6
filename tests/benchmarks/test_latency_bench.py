"""The benchmark on a tiny bundle: real processes, real figures, and plain words where something is missing."""

import json
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_run
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import present, processes
from benchmarks.contenders import Contender, material, neurokit, random_encoder, torch_forms
from benchmarks.latency import Result, measure
from benchmarks.machine import describe
from benchmarks.timing import LEAST_FOR_P99, summarise, take_turns
from edge.bundle import Bundle
from firmware_bridge.cli import main
from firmware_bridge.errors import BadInput
from quantize.export import encoder_shape
from quantize.pack import pack


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return pack(tiny_run.outcome(), tmp_path_factory.mktemp("bench") / "tiny")


@pytest.fixture(scope="module")
def result(bundle: Bundle) -> Result:
    return measure(bundle, seconds=4, rounds=3, starts=1)


def test_every_contender_has_a_row_with_plausible_figures(result: Result) -> None:
    names = [row.name for row in result.rows]
    assert names == ["litert", "executorch", "onnx", "torch step", "torch window", "NeuroKit2"]
    assert [row.name for row in result.rows if row.missing] == ["executorch"]  # the tiny bundle does without
    for row in result.rows:
        if row.missing:
            continue
        assert row.missing == ""
        assert row.latency is not None
        assert 0 < row.latency.p50 <= row.latency.max < 10_000
        assert row.ratio == pytest.approx(row.latency.p50 / result.rows[0].latency.p50, rel=0.01, abs=0.01)  # type: ignore[union-attr]
    assert result.rows[0].ratio == 1


def test_cold_starts_are_processes_of_their_own(result: Result) -> None:
    starts = {row.name: row.cold_start for row in result.rows}
    for name in ("litert", "onnx", "torch step"):
        start = starts[name]
        assert start is not None
        assert start.ms > 30  # no Python starts faster
        if sys.platform == "linux":
            assert start.rss_mb is not None
    # This very process has torch loaded: its memory must not be taken for the child's.
    if sys.platform == "linux":
        assert starts["litert"].rss_mb < 0.6 * starts["torch step"].rss_mb  # type: ignore[union-attr, operator]
    assert starts["torch window"] is None
    assert starts["NeuroKit2"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_live_stream_is_a_real_monitor(result: Result) -> None:
    live = result.live
    assert live is not None, result.live_missing
    assert live.seconds >= 3.5
    assert 0 < live.cpu_share < 1
    assert live.tokens > 0
    assert live.engine == "litert"
    assert set(live.hop_ms) == {"p50", "p99", "max"}


def test_the_result_is_told_in_three_ways(result: Result) -> None:
    decoded = json.loads(present.as_json(result))
    assert decoded["type"] == "bench_latency"
    assert decoded["rows"][0]["latency"]["p50"] == result.rows[0].latency.p50  # type: ignore[union-attr]
    text = present.as_markdown(result)
    for row in result.rows:
        assert f"| **{row.name}**: {row.what} |" in text
    columns = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert columns == {len(present.COLUMNS) + 1}
    assert result.machine.cpu in text
    assert "random weights" in text


def test_what_is_not_installed_says_so(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("neurokit2", "torch", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None)
    found = measure(bundle, seconds=0, rounds=1, starts=0)
    missing = {row.name: row.missing for row in found.rows if row.latency is None}
    gone = dict.fromkeys(("onnx", "torch step", "torch window", "NeuroKit2"), "not installed")
    assert missing == {"executorch": "not in this bundle", **gone}
    assert found.live is None
    assert "| **NeuroKit2**: ppg_process on 10 s | not installed |" in present.as_markdown(found)
    assert "no figure (not asked for)" in present.live_line(found)


def test_a_monitor_that_fails_is_said_plainly(tmp_path: Path) -> None:
    said = processes.live_stream(tmp_path / "no-bundle", 3)
    assert isinstance(said, str)
    assert said.startswith("pulsecode monitor failed: bundle ")
    assert "Traceback" not in said


def test_a_cold_start_that_fails_is_said_plainly(tmp_path: Path) -> None:
    said = processes.cold_start("litert", tmp_path / "no-bundle", 1)
    assert said == f"bundle {tmp_path / 'no-bundle'}: no such folder or zip"


def test_the_runs_weights_are_used_where_given(bundle: Bundle, tmp_path: Path) -> None:
    patches = material(bundle).patches
    run = tiny_run.write_run(tmp_path / "run")
    assert "the run's weights" in torch_forms(bundle, patches, run)[0].what
    assert "random weights" in torch_forms(bundle, patches, None)[0].what
    assert encoder_shape(random_encoder(bundle).config) == bundle.manifest.encoder
    with pytest.raises(BadInput, match="no such folder"):
        torch_forms(bundle, patches, tmp_path / "nowhere")
    deeper = msgspec.structs.replace(bundle.manifest.encoder, layers=3)
    other = Bundle(bundle.path, msgspec.structs.replace(bundle.manifest, encoder=deeper), {})
    with pytest.raises(BadInput, match="is not of the shape of bundle"):
        torch_forms(other, patches, run)


def test_the_signal_is_the_virtual_patient_behind_the_bundles_front_end(bundle: Bundle) -> None:
    found = material(bundle)
    config = bundle.manifest.frontend
    assert len(found.raw) == 60 * config.rate
    assert found.patches.shape == (60 * config.rate // config.hop, config.hop)
    assert np.isfinite(found.patches).all()
    assert np.ptp(found.raw) > 0
    assert neurokit(bundle, found.raw).missing == ""


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=300))
def test_percentiles_are_ordered_and_p99_needs_enough_calls(seconds: list[float]) -> None:
    found = summarise(seconds)
    assert found.n == len(seconds)
    assert found.max == pytest.approx(1e3 * max(seconds), abs=1e-4)
    assert (found.p99 is None) == (len(seconds) < LEAST_FOR_P99)
    assert found.p50 <= (found.p99 if found.p99 is not None else found.max) <= found.max


def test_turns_are_taken_in_order_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def slow_once() -> None:
        if "a" not in calls:
            time.sleep(0.05)
        calls.append("a")

    contenders = [
        Contender("a", "", slow_once, 2),
        Contender("b", "", lambda: calls.append("b"), 1),
        Contender("c", "", None, missing="not installed"),
    ]
    found = take_turns(contenders, 3)
    assert "".join(calls) == "aab" * 4
    assert {name: latency.n for name, latency in found.items()} == {"a": 6, "b": 3}
    assert found["a"].max < 50


def test_the_machine_is_described() -> None:
    machine = describe()
    assert machine.cores >= 1
    assert machine.cpu
    assert "numpy" in machine.packages
    assert machine.cpu in str(machine)


def test_the_command_writes_its_files_and_prints_json(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.latency.ROUNDS", 1)
    monkeypatch.setattr("benchmarks.latency.cold_start", lambda *_: "not now")
    arguments = ["bench", "latency", "--bundle", str(bundle.path), "--seconds", "0", "--json", "--out", str(tmp_path)]
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "latency.json").read_text())
    assert printed == written
    assert printed["bundle_sha256"] == bundle.digest
    assert printed["rows"][0]["missing"] == "cold start: not now"
    assert (tmp_path / "latency.md").read_text().startswith("| ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bundle", "nowhere"], "bundle nowhere: no such folder or zip"),
        (["--run", "no-such-run"], "run 'no-such-run': no such folder"),
    ],
)
def test_bad_input_ends_in_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "latency", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
