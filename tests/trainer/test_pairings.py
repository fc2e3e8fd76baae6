"""Teachers that see one signal, students of the other, and data sets that nothing may be learned from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from synthetic_recordings import SMALL

from firmware_bridge.errors import BadInput
from trainer.consistency import load_tokenizer
from trainer.encoder import EncoderConfig
from trainer.fitting import FitConfig
from trainer.run_folder import RunFolder
from trainer.stage1 import label_tokens
from trainer.stage2 import Objective
from trainer.stages import DataChoice, Prepared, load_student, train_student, train_tokenizer
from trainer.tokenizer import Tokenizer, TokenizerConfig

FIT = FitConfig(epochs=2, batch=8, lr=3e-3, warmup=2)
STUDENT = EncoderConfig(dim=16, layers=1, heads=2, mlp=2, context=5, codebook_size=32)


@pytest.mark.parametrize(("teacher", "student"), [("ppg", "ppg"), ("ecg", "ppg"), ("ecg", "ecg")])
def test_single_signal_teachers(teacher: str, student: str, prepared: Prepared, tmp_path: Path) -> None:
    console = Console(quiet=True)
    model = replace(SMALL, signals=teacher)
    train_tokenizer(tmp_path / "tokenizer", prepared, FIT, console, resume=False, model=model)
    run = RunFolder(tmp_path / "tokenizer")
    history = run.history()[-1]
    assert f"val_{teacher}_r2" in history
    assert f"val_{'ecg' if teacher == 'ppg' else 'ppg'}_r2" not in history, "what it never saw it cannot rebuild"
    tokenizer = load_tokenizer(run)
    windows = prepared.part("validation")
    other = replace(windows, **{f"{'ecg' if teacher == 'ppg' else 'ppg'}_hops": np.zeros_like(windows.ppg_hops)})
    assert np.array_equal(label_tokens(tokenizer, windows), label_tokens(tokenizer, other))
    assert (run.plots / "reconstructions.png").exists()
    objective = Objective(phases=2)
    train_student(
        tmp_path / "student",
        run.path,
        student,
        prepared,
        FIT,
        console,
        resume=False,
        model=STUDENT,
        objective=objective,
    )
    assert load_student(RunFolder(tmp_path / "student"))[1] == student


def test_the_interval_objective_teaches_the_interval(prepared: Prepared, tmp_path: Path) -> None:
    console = Console(quiet=True)
    train_tokenizer(tmp_path / "tokenizer", prepared, FIT, console, resume=False, model=SMALL)
    fit, objective = replace(FIT, epochs=14, lr=1e-2), Objective(phases=2, interval_weight=4.0)
    train_student(
        tmp_path / "student", tmp_path / "tokenizer", "ppg", prepared, fit, console, resume=False,
        model=replace(STUDENT, dropout=0.0, context=10), objective=objective,
    )  # fmt: skip
    run = RunFolder(tmp_path / "student")
    errors = [entry["val_interval_error"] for entry in run.history()]
    assert errors[-1] < 0.6 * errors[0]
    names = load_student(run)[0].state_dict()
    assert not any("interval" in name for name in names), "the head that tells it is not shipped"
    assert run.config("encoder")["objective"]["interval_weight"] == 4.0


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="joint, ppg or ecg"):
        TokenizerConfig.from_dict({**SMALL.to_dict(), "signals": "eeg"})


def test_excluded_data_sets_teach_nothing(prepared: Prepared, synthetic_data: Path) -> None:
    assert Prepared(prepared.config, prepared.windows, None, ("other",)).part("train").ok.all()
    none = Prepared(prepared.config, prepared.windows, None, ("synthetic",))
    for part in ("train", "validation"):
        with pytest.raises(BadInput, match="no usable window"):
            none.part(part)
    assert len(none.part("test")), "but they may judge"
    assert none.describe()["excluded"] == ["synthetic"]
    with pytest.raises(BadInput, match="--exclude bidmc: there is no such data set"):
        DataChoice.of(str(synthetic_data), None, None, ["bidmc"])


def test_a_tokenizer_of_one_signal_is_smaller() -> None:
    def count(config: TokenizerConfig) -> int:
        return sum(p.numel() for p in Tokenizer(config).parameters())

    torch.manual_seed(0)
    assert count(replace(SMALL, signals="ppg")) == count(replace(SMALL, signals="ecg")) < count(SMALL)
