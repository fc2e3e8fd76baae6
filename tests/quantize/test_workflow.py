"""Whose data serves what, how static or dynamic is chosen, and the command's refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import tiny_run
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.cli import main
from firmware_bridge.errors import BadInput
from quantize.methods.tables import write_tables
from quantize.plan import layers
from quantize.replay import hop_times, replay
from quantize.run import find_run, load_run
from quantize.streams import take_streams
from quantize.window_form import write_windows
from quantize.workflow import SLOWER_AT_MOST, Candidate, choose, gather, quantize_run, warm_up
from trainer.splits import part_of
from trainer.windows import WindowConfig


def test_each_purpose_has_people_of_its_own() -> None:
    material = gather(tiny_run.windows(), "ppg", 7, 100, 125.0)
    assert material.task is not None
    groups = [material.calibration, material.learning, material.choosing, material.judging, material.task]
    parts = [{part_of(*patient.split("/")) for patient in streams.patients.tolist()} for streams in groups]
    assert parts == [{"train"}, {"train"}, {"validation"}, {"test"}, {"held_out"}]


def test_streams_are_contiguous_and_the_context_comes_first() -> None:
    windows = tiny_run.windows()
    streams = take_streams(windows, "ppg", "test", warm=7, limit=100)
    assert streams.patches.shape[1:] == (7 + tiny_run.HOPS, tiny_models.CONFIG.hop)
    assert streams.judged == tiny_run.HOPS
    rows = [row.tobytes() for row in windows.ppg_hops]
    for patches in streams.patches:
        at = [rows.index(patch.tobytes()) for patch in patches]
        assert at == list(range(at[0], at[0] + len(at)))
        assert at[7] % tiny_run.HOPS == 0  # the judged hops are the window
        assert at[0] // (4 * tiny_run.HOPS) == at[-1] // (4 * tiny_run.HOPS)  # one recording
    # The first window of each recording has no hops before it.
    assert len(streams) == 3 * 4


def test_a_limit_spreads_over_people() -> None:
    streams = take_streams(tiny_run.windows(), "ppg", "test", warm=7, limit=4)
    assert len(streams) == 4
    assert len(np.unique(streams.patients)) == 4


def test_no_windows_is_bad_input() -> None:
    windows = tiny_run.windows()
    with pytest.raises(BadInput, match=r"no PPG window of the part 'test' .* give a --data folder"):
        take_streams(windows.take(slice(0, 0)), "ppg", "test", warm=7, limit=4)


def test_a_replay_is_the_same_hops_whatever_was_replayed_before() -> None:
    streams = take_streams(tiny_run.windows(), "ppg", "test", warm=7, limit=4)
    from edge.engines import load_engine
    from quantize.export import encoder_shape

    artefact = tiny_models.artefact("litert", "static")
    engine = load_engine("litert", artefact.model, encoder_shape(tiny_models.CONFIG), tiny_models.CONFIG.hop)
    seen: list[None] = []
    first = replay(engine, streams, lambda: seen.append(None))
    again = replay(engine, streams)
    assert len(seen) == len(streams)
    assert first.scores.shape == (4, tiny_run.HOPS, tiny_models.CONFIG.codebook_size)
    assert np.array_equal(first.scores, again.scores)
    state = engine.start()
    outputs = [engine.step(state, patch) for patch in streams.patches[2]]
    assert np.array_equal(first.embeddings[2], np.stack([out.embedding for out in outputs[7:]]))
    times = hop_times({"a": engine, "b": engine}, streams.patches[0], rounds=2, block=3)
    assert {name: spent.shape for name, spent in times.items()} == {"a": (6,), "b": (6,)}
    assert all((spent > 0).all() for spent in times.values())


FIGURES = st.tuples(st.floats(0.5, 1), st.floats(0.01, 1))


@given(static=FIGURES, dynamic=FIGURES)
def test_the_choice_is_the_rule_that_is_stated(static: tuple[float, float], dynamic: tuple[float, float]) -> None:
    candidates = [Candidate("static", *static), Candidate("dynamic", *dynamic)]
    chosen, reason = choose(candidates, "auto")
    taken = next(c for c in candidates if c.method == chosen)
    other = next(c for c in candidates if c.method != chosen)
    assert taken.ms <= SLOWER_AT_MOST * other.ms
    assert taken.agreement >= other.agreement or other.ms > SLOWER_AT_MOST * taken.ms
    assert reason.startswith(f"{chosen}: ")


def test_a_method_that_was_asked_for_is_taken() -> None:
    candidates = [Candidate("static", 0.1, 9.0), Candidate("dynamic", 0.9, 0.1)]
    assert choose(candidates, "static") == ("static", "static, as asked for")


def test_the_report_covers_every_engine_and_method_with_the_task() -> None:
    outcome = tiny_run.outcome()
    rows = {(row.engine, row.method): row for row in outcome.report.rows}
    assert set(rows) == {(e, m) for e in ("litert", "onnx") for m in ("fp32", "static", "dynamic")}
    for (_, method), row in rows.items():
        assert [head.unit for head in row.heads] == ["AUROC"]
        if method == "fp32":
            assert row.top1.value == 1
            assert row.cosine_min > 1 - 1e-6
            assert abs(row.heads[0].change.value) < 0.01
        else:
            assert row.top1.value > 0.5
            assert row.bytes > 0
    assert outcome.report.hops == outcome.report.streams * tiny_run.HOPS
    for engine, artefact in outcome.artefacts.items():
        assert outcome.reasons[engine].startswith(artefact.method)


def test_warm_up_is_settling_and_context() -> None:
    assert warm_up(tiny_run.run()) == tiny_run.CONFIG.settle_hops + tiny_models.CONFIG.context


def test_a_run_folder_is_read_back(tmp_path: Path) -> None:
    path = tiny_run.write_run(tmp_path / "runs" / "default" / "ppg")
    (path / "evaluation.json").write_text('{"top1": 0.2}')
    run = load_run(path)
    assert run.name == "default/ppg"
    assert run.evaluation == {"top1": 0.2}
    assert run.frontend == WindowConfig().frontend("ppg")
    wanted = tiny_models.encoder().state_dict()
    assert all(np.array_equal(value, wanted[name]) for name, value in run.encoder.state_dict().items())
    assert find_run("default/ppg", tmp_path / "runs") == path


def damage(folder: Path, what: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    if what == "weights missing":
        (folder / "encoder.safetensors").unlink()
    elif what == "weights damaged":
        (folder / "encoder.safetensors").write_bytes(b"\x00" * 100)
    elif what == "config damaged":
        (folder / "config.json").write_text("{")
    elif what == "evaluation damaged":
        (folder / "evaluation.json").write_text("[1]")
    elif what == "heads damaged":
        (folder / "heads.json").write_text('{"quality": 1}')
    else:
        section, key = ("windows", "gain_hops") if what == "other front end" else ("model", "hop")
        config[section][key] += 1
        (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("weights missing", "has no encoder.safetensors"),
        ("weights damaged", "encoder.safetensors: cannot be read"),
        ("config damaged", "config.json: cannot be read"),
        ("evaluation damaged", "evaluation.json: is not a JSON object"),
        ("other front end", "windows were cut in another way"),
        ("other hop", "weights"),
        ("heads damaged", "heads.json: Expected `object`"),
    ],
)
def test_a_run_that_cannot_be_used_ends_in_one_line(
    what: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_run.write_run(tmp_path / "run")
    damage(folder, what)
    assert main(["quantize", str(folder), "--out", str(tmp_path / "b")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "b").exists()


def test_bad_arguments_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tiny_run.write_run(tmp_path / "run"))
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "diary.txt").write_text("mine")
    for arguments, said in (
        (["no-such-run", "--out", "b"], "run 'no-such-run': no such folder"),
        ([run, "--out", str(taken)], "holds no bundle"),
        ([run, "--out", str(tmp_path / "b"), "--data", str(tmp_path / "nowhere")], "no such folder"),
        ([run, "--out", str(tmp_path / "b"), "--data", str(taken)], "holds no recording"),
    ):
        assert main(["quantize", *arguments, "--no-heads"]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1


def test_a_bundle_that_could_never_alarm_is_not_made_by_accident(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tiny_run.write_run(tmp_path / "run"))
    assert main(["quantize", run, "--out", str(tmp_path / "b")]) == 2
    err = capsys.readouterr().err
    assert "heads.json" in err and "pulsecode train heads" in err and len(err.splitlines()) == 1


def test_what_ships_is_written_in_the_window_form(tmp_path: Path) -> None:
    outcome = tiny_run.outcome()
    lines = write_windows(tmp_path / "windows", outcome)
    files = {path.name for path in (tmp_path / "windows").iterdir()}
    assert files == {artefact.file.replace("encoder-", "encoder-window-") for artefact in outcome.artefacts.values()}
    assert len(lines) == len(files)
    assert all("the step form's token at" in line for line in lines)


def test_the_tables_name_every_layer_and_those_kept_wide(tmp_path: Path) -> None:
    bench = tiny_run.outcome().bench
    write_tables(tmp_path / "tables", bench)
    rows = json.loads((tmp_path / "tables" / "sensitivity.json").read_text())
    names = set(layers(bench.encoder))
    for sweep in rows.values():
        assert {row["layer"] for row in sweep["rows"]} == names
        assert set(sweep["kept"]) < names
    text = (tmp_path / "tables" / "sensitivity.md").read_text()
    assert text.count("**(kept wide)**") == sum(len(sweep["kept"]) for sweep in rows.values())
    assert all(f"| {name} |" in (tmp_path / "tables" / "ranges.md").read_text() for name in names)
    assert (tmp_path / "tables" / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"--tables .*file/there: cannot be written"):
        write_tables(tmp_path / "file" / "there", bench)
    with pytest.raises(BadInput, match="none of them can ship for onnx; add dynamic"):
        quantize_run(tiny_run.run(), tiny_run.windows(), methods=("fp16",), engines=("onnx",), limit=4)
