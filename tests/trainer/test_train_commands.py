"""What a person types: exit status, one clear line, and a short run on real windows."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_recordings import paired_signals, write_record

from firmware_bridge.cli import main
from trainer.bootstrap import over_people
from trainer.probe import probe_scores

NON_AF = Path("mimic_perform_af") / "Non_AF_wfdb"


def test_commands_import_nothing_heavy() -> None:
    code = "import sys, trainer.commands; print([m for m in ('torch', 'numpy', 'scipy', 'wfdb') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line that a refused command ends with."""
    capsys.readouterr()
    assert main(args) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("pulsecode: ")
    return line


def test_bad_input_ends_in_one_line(
    synthetic_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PULSECODE_DATA", raising=False)
    assert "no such folder; give --data DIR" in refusal(capsys, "train", "tokenizer", "--out", "run")
    (tmp_path / "empty").mkdir()
    assert "holds no recording" in refusal(capsys, "train", "tokenizer", "--out", "run", "--data", "empty")
    data = ("--data", str(synthetic_data))
    missing = refusal(capsys, "train", "encoder", "--tokenizer", "nowhere", "--signal", "ppg", "--out", "run", *data)
    assert "run folder nowhere: no such folder; make it with `pulsecode train tokenizer`" in missing
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    assert "already holds a run; go on with --resume" in refusal(capsys, "train", "tokenizer", "--out", "run", *data)
    assert "differs in" in refusal(capsys, "train", "tokenizer", "--out", "run", "--resume", *data)
    assert "no such folder" in refusal(capsys, "evaluate", "student", "--run", "nowhere", *data)
    few = tmp_path / "few"
    write_record(few / "set", "only", *paired_signals(65, 70))
    assert "no usable window in the" in refusal(capsys, "train", "tokenizer", "--out", "other", "--data", str(few))
    assert "--epochs: '0' is not a positive" in refusal(capsys, "train", "tokenizer", "--out", "run", "--epochs", "0")


def test_intervals_are_over_people() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(20), 50)
    values = rng.normal(size=20)[people]  # one value a person: 1000 rows are worth only 20
    interval = over_people(lambda rows: float(values[rows].mean()), people)
    assert interval.people == 20
    assert interval.value == pytest.approx(values.mean())
    standard_error = values[::50].std() / np.sqrt(20)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * standard_error, rel=0.2)


def test_the_probe_never_scores_a_person_it_learned_from() -> None:
    # Every person has a signature of their own and labels are random among people: a probe that saw a person's other
    # windows would be nearly perfect; one that did not can only guess.
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(24), 30)
    labels = (np.arange(24) % 2 == 0)[people]
    features = (rng.normal(size=(24, 64))[people] + 0.05 * rng.normal(size=(720, 64))).astype(np.float32)
    scores = probe_scores(features, labels, people)
    assert np.isfinite(scores).all()
    assert ((scores > 0) == labels).mean() < 0.8


@pytest.mark.data
def test_real_windows_from_tokenizer_to_evaluation(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few real recordings of each part through every command."""
    data = tmp_path / "data"
    for folder, names in {
        "bidmc": [f"bidmc{i:02d}" for i in (1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 16)],
        "mimic_perform_af/AF_wfdb": ["mimic_perform_af_001", "mimic_perform_af_002"],
        "mimic_perform_af/Non_AF_wfdb": [p.stem for p in sorted((shared_data / NON_AF).glob("*.hea"))[:2]],
    }.items():
        (data / folder).mkdir(parents=True)
        for name in names:
            for suffix in (".hea", ".dat"):
                (data / folder / f"{name}{suffix}").symlink_to((shared_data / folder / f"{name}{suffix}").resolve())
    where = ("--data", str(data), "--cache", str(tmp_path / "cache"), "--limit", "48")
    runs = tmp_path / "runs"
    short = ("--epochs", "1", "--batch", "16", *where)
    assert main(["train", "tokenizer", "--out", str(runs / "tokenizer"), *short]) == 0
    for signal in ("ppg", "ecg"):
        out = str(runs / signal)
        again = ["train", "encoder", "--tokenizer", str(runs / "tokenizer"), "--signal", signal, "--out", out, *short]
        assert main(again) == 0
    assert main([*again, "--resume"]) == 0
    assert "is finished already" in capsys.readouterr().err
    judge = ["evaluate", "student", "--run", str(runs / "ppg"), "--part", "validation", *where]
    assert main(judge) == 0
    assert "AF probe, trained" in " ".join(capsys.readouterr().out.split())
    result = json.loads((runs / "ppg" / "evaluation.json").read_text())
    top1 = result["student"]["ok"]["top1"]
    assert 0 <= top1["low"] <= top1["value"] <= top1["high"] <= 1
    assert set(result["af_probe"]) == {"trained", "random"}
    assert result["af_probe"]["trained"]["window_auroc"]["people"] == 4
