"""Tokenizer and student trained at once: two runs that every other command accepts, resumed, and what it optimises."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from synthetic_recordings import SMALL
from torch.nn import functional

from firmware_bridge.errors import BadInput
from trainer.consistency import check_consistency, load_tokenizer
from trainer.encoder import EncoderConfig
from trainer.fitting import FitConfig, Interrupted
from trainer.quantizers import Quantized
from trainer.run_folder import RunFolder
from trainer.single_stage import JointConfig, SingleStage, train_single_stage, unpredictability
from trainer.stage2 import Objective
from trainer.stages import Prepared, file_sha256, load_student, train_student

FIT = FitConfig(epochs=3, batch=8, lr=3e-3, warmup=4)
STUDENT = EncoderConfig(dim=16, layers=1, heads=2, mlp=2, context=5, codebook_size=32)
JOINT = JointConfig(alone=1, predictability=0.1)


def _train(out: Path, prepared: Prepared, *, resume: bool = False, joint: JointConfig = JOINT) -> None:
    train_single_stage(
        out, "ppg", prepared, FIT, Console(quiet=True), resume=resume, joint=joint, model=SMALL, student=STUDENT
    )


@pytest.fixture(scope="module")
def single_run(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "single"
    _train(out, prepared)
    return out


class StopAfter(SingleStage):
    """Interrupted, as by Ctrl-C, in the middle of an epoch."""

    def training_step(self, batch: tuple[torch.Tensor, ...], index: int) -> torch.Tensor:
        if self.current_epoch == 2 and index == 1:
            signal.raise_signal(signal.SIGINT)
        return super().training_step(batch, index)


def test_both_runs_are_whole_and_belong_together(prepared: Prepared, single_run: Path) -> None:
    source, run = RunFolder(single_run / "tokenizer"), RunFolder(single_run / "ppg")
    checked = check_consistency(source, load_tokenizer(source), prepared.part("validation"))
    assert checked.tokens > 100
    encoder, read = load_student(run)
    assert read == "ppg"
    assert encoder.config == STUDENT
    assert run.config("encoder")["tokenizer_sha256"] == file_sha256(source.weights("tokenizer"))
    assert [entry["epoch"] for entry in source.history()] == [1, 2, 3]
    assert [entry["epoch"] for entry in run.history()] == [2, 3]  # the student joined after the first
    assert {"val_ppg_r2", "val_perplexity", "val_loss"} <= source.history()[-1].keys()
    assert {"val_loss", "val_top1", "val_top5", "train_loss"} <= run.history()[-1].keys()
    for plots in (source.plots / "codebook.png", run.plots / "accuracy.png"):
        assert plots.read_bytes().startswith(b"\x89PNG"), sorted(run.plots.iterdir())


def test_both_learn(single_run: Path) -> None:
    tokenizer, student = RunFolder(single_run / "tokenizer").history(), RunFolder(single_run / "ppg").history()
    assert tokenizer[-1]["val_ppg_r2"] > tokenizer[0]["val_ppg_r2"] + 0.05
    assert student[-1]["val_top1"] > 2 / 32
    assert student[-1]["val_top5"] > student[-1]["val_top1"]


def test_stage_2_accepts_its_tokenizer(prepared: Prepared, single_run: Path, tmp_path: Path) -> None:
    fit = replace(FIT, epochs=1)
    train_student(
        tmp_path / "ecg", single_run / "tokenizer", "ecg", prepared, fit, Console(quiet=True), resume=False,
        model=STUDENT, objective=Objective(phases=2),
    )  # fmt: skip
    assert RunFolder(tmp_path / "ecg").weights("encoder").exists()


def test_interrupted_and_resumed_equals_uninterrupted(
    prepared: Prepared, single_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "again"
    with monkeypatch.context() as patch:
        patch.setattr("trainer.single_stage.SingleStage", StopAfter)
        with pytest.raises(Interrupted, match=r"keeps 2 of 3 epochs; .*--resume"):
            _train(out, prepared)
    assert not (out / "ppg").exists()
    with pytest.raises(BadInput, match="go on with --resume"):
        _train(out, prepared)
    with pytest.raises(BadInput, match=r"config\.json differs in joint"):
        _train(out, prepared, resume=True, joint=JointConfig())
    _train(out, prepared, resume=True)
    for part in ("tokenizer/tokenizer", "ppg/encoder"):
        again, whole = (load_file(folder / f"{part}.safetensors") for folder in (out, single_run))
        assert again.keys() == whole.keys()
        assert [name for name in whole if not torch.equal(again[name], whole[name])] == []


def test_a_finished_run_is_left_alone(prepared: Prepared, single_run: Path) -> None:
    before = (single_run / "ppg" / "encoder.safetensors").stat().st_mtime_ns
    _train(single_run, prepared, resume=True)
    assert (single_run / "ppg" / "encoder.safetensors").stat().st_mtime_ns == before


def test_the_student_needs_an_epoch_of_its_own(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--epochs 3: the student joins after epoch 3"):
        _train(tmp_path / "never", prepared, joint=JointConfig(alone=3))
    assert not (tmp_path / "never").exists()


def test_unpredictability_draws_vectors_to_the_code_the_student_expects() -> None:
    codes = functional.normalize(torch.tensor([[1.0, 0.2], [0.2, 1.0], [-1.0, 0.0]]), dim=1)
    vectors = functional.normalize(torch.tensor([[1.0, 0.9]]), dim=1).requires_grad_()
    own = codes[:1]
    values = vectors + (own - vectors).detach()
    quantized = Quantized(values, torch.tensor([0]), torch.tensor(0.1))
    log_p = torch.log(torch.tensor([[0.1, 0.8, 0.1]])).requires_grad_()
    spread = ((vectors - own) ** 2).sum().detach()
    surprise = unpredictability(quantized, codes, log_p, spread)
    surprise.backward()
    assert log_p.grad is None  # the student is not taught by it
    assert vectors.grad is not None
    moved = vectors.detach() - 0.1 * vectors.grad
    towards, away = ((moved - codes[1]) ** 2).sum(), ((vectors.detach() - codes[1]) ** 2).sum()
    assert towards < away
    # At a likely code there is less to be surprised at.
    likely = Quantized(codes[1:2].clone(), torch.tensor([1]), torch.tensor(0.1))
    assert unpredictability(likely, codes, log_p, spread) < surprise
