"""`pulsecode train finetune`: a run folder that says what it was, and a model that can be asked again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from firmware_bridge.errors import BadInput
from trainer.encoder import Encoder, EncoderConfig
from trainer.finetuned import judges, load_finetuned, train_finetuned
from trainer.protocols.learning import Budget
from trainer.protocols.student import Student
from trainer.protocols.task import Task
from trainer.splits import in_choosing_half, part_of
from trainer.windows import WindowConfig

CONFIG = EncoderConfig(hop=50, dim=16, layers=2, heads=2, mlp=2, context=10, codebook_size=8)
BUDGET = Budget(windows=320, batch=32, checks=4)


def student() -> Student:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = Encoder(CONFIG).eval()
    return Student(Path("runs/ppg"), "ppg", encoder, WindowConfig(), "", "digest", (), None)


def task(kind: str = "regression", people: int = 30) -> Task:
    rng = np.random.default_rng(0)
    who = np.repeat([f"bidmc/p{i}" for i in range(people)], 4)
    patches = rng.normal(0, 1, (len(who), 10, 50)).astype(np.float32)
    if kind == "regression":
        return Task("heart rate", "regression", patches, None, rng.normal(80, 10, len(who)), who, unit="bpm")
    return Task(
        "AF", "classification", patches, None, rng.integers(0, 2, len(who)).astype(float), who, classes=("no", "AF")
    )


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_a_run_is_whole_and_says_the_same_when_loaded(kind: str, tmp_path: Path) -> None:
    some = task(kind)
    out = tmp_path / "run"
    metrics = train_finetuned(out, student(), some, "tuned", BUDGET, 0, Console(quiet=True))
    saved = json.loads((out / "evaluation.json").read_text())
    assert saved["metrics"].keys() == metrics.keys()
    assert saved["people"]["judged"] + saved["people"]["learned from"] == 30
    assert (out / "plots" / "finetune.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "config.json").read_text())["kind"] == "finetune"
    found = load_finetuned(out)
    assert some.ppg is not None
    rows = judges(some.people)
    said = found.predict(some.ppg[rows])
    if kind == "regression":
        assert np.abs(said - some.labels[rows]).mean() == pytest.approx(metrics["MAE"].value, rel=1e-5)
    else:
        assert said.shape == (int(rows.sum()), 2)
    with pytest.raises(BadInput, match="already holds a run"):
        train_finetuned(out, student(), some, "tuned", BUDGET, 0, Console(quiet=True))


def test_a_damaged_run_is_refused_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_finetuned(out, student(), task(), "frozen", BUDGET, 0, Console(quiet=True))
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "target": {}}))
    with pytest.raises(BadInput, match="cannot be built"):
        load_finetuned(out)
    (out / "config.json").write_text(json.dumps({**config, "kind": "encoder"}))
    with pytest.raises(BadInput, match="not of a finetune run"):
        load_finetuned(out)


def test_nobody_left_to_judge_is_said_before_training(tmp_path: Path) -> None:
    learners = [f"bidmc/p{i}" for i in range(30) if part_of("bidmc", f"p{i}") != "test"]
    some = task()
    only = Task(some.name, some.kind, some.ppg, None, some.labels, np.resize(learners, len(some)), unit="bpm")
    with pytest.raises(BadInput, match="people to judge"):
        train_finetuned(tmp_path / "run", student(), only, "tuned", BUDGET, 0, Console(quiet=True))


def test_judges_are_the_people_the_splits_name() -> None:
    people = np.array([f"bidmc/p{i}" for i in range(40)] + [f"mimic_perform_af/s{i}" for i in range(40)])
    found = judges(people)
    assert found[:40].tolist() == [part_of("bidmc", f"p{i}") == "test" for i in range(40)]
    assert found[40:].tolist() == [not in_choosing_half(f"s{i}") for i in range(40)]
