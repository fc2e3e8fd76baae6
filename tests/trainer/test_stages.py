"""Both stages from end to end on synthetic recordings, resumed, interrupted, and refused when they must be."""

import io
import json
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from synthetic_recordings import SMALL

from firmware_bridge.errors import BadInput
from trainer.consistency import check_consistency, load_tokenizer
from trainer.encoder import EncoderConfig
from trainer.fitting import FitConfig, Interrupted
from trainer.run_folder import RunFolder
from trainer.stage1 import Stage1, label_tokens
from trainer.stages import Prepared, load_student, train_student, train_tokenizer
from trainer.tokenizer import Tokenizer

FIT = FitConfig(epochs=4, batch=8, lr=3e-3, warmup=4)
STUDENT = EncoderConfig(dim=16, layers=1, heads=2, mlp=2, context=5, codebook_size=32)


@pytest.fixture(scope="module")
def tokenizer_run(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tokenizer"
    train_tokenizer(out, prepared, FIT, Console(quiet=True), resume=False, model=SMALL)
    return out


class StopAfter(Stage1):
    """Stage 1 that is interrupted, as by Ctrl-C, in the middle of an epoch."""

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        if self.current_epoch == 2 and index == 1:
            signal.raise_signal(signal.SIGINT)
        return super().training_step(batch, index)


def test_a_run_folder_is_complete(tokenizer_run: Path) -> None:
    run = RunFolder(tokenizer_run)
    history = run.history()
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4]
    for entry in history:
        for part in ("train", "val"):
            assert 1 <= entry[f"{part}_perplexity"] <= 32
            assert 0 < entry[f"{part}_usage"] <= 1
    assert history[-1]["val_loss"] < history[0]["val_loss"]
    for name in ("losses", "codebook", "reconstructions"):
        assert (run.plots / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    config = run.config("tokenizer")
    assert config["fit"]["epochs"] == 4
    assert config["data"]["counts"]["train"]["synthetic"]["ok"] > 0


def test_the_learning_rate_warms_up_and_falls(tokenizer_run: Path) -> None:
    rates = [entry["lr"] for entry in RunFolder(tokenizer_run).history()]
    assert max(rates) <= FIT.lr
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert rates[-1] < 0.05 * FIT.lr


def test_interrupted_and_resumed_equals_uninterrupted(
    prepared: Prepared, tokenizer_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, out = Console(quiet=True), tmp_path / "again"
    with monkeypatch.context() as patch:
        patch.setattr("trainer.stages.Stage1", StopAfter)
        with pytest.raises(Interrupted, match=r"keeps 2 of 4 epochs; .*--resume"):
            train_tokenizer(out, prepared, FIT, console, resume=False, model=SMALL)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    run, whole = RunFolder(out), RunFolder(tokenizer_run)
    assert len(run.history()) == 2
    assert not run.weights("tokenizer").exists()
    with pytest.raises(BadInput, match="go on with --resume"):
        train_tokenizer(out, prepared, FIT, console, resume=False, model=SMALL)
    with pytest.raises(BadInput, match=r"config\.json differs in fit"):
        train_tokenizer(out, prepared, replace(FIT, lr=1e-4), console, resume=True, model=SMALL)
    train_tokenizer(out, prepared, FIT, console, resume=True, model=SMALL)
    assert run.history() == whole.history()
    one, other = load_file(run.weights("tokenizer")), load_file(whole.weights("tokenizer"))
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_a_student_learns_from_either_signal(prepared: Prepared, tokenizer_run: Path, tmp_path: Path) -> None:
    console = Console(record=True, file=io.StringIO(), width=200)
    out = tmp_path / "ecg"
    fit = replace(FIT, epochs=3, lr=1e-2)
    train_student(out, tokenizer_run, "ecg", prepared, fit, console, resume=False, model=STUDENT)
    assert "are stage 1's own" in console.export_text()
    run = RunFolder(out)
    history = run.history()
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert history[-1]["val_top1"] > history[0]["val_top1"] or history[0]["val_top1"] > 0.5
    assert all(entry["val_top5"] >= entry["val_top1"] for entry in history)
    encoder, which = load_student(run)
    assert which == "ecg"
    assert not encoder.training
    for name in ("losses", "accuracy"):
        assert (run.plots / f"{name}.png").exists()
    # what was kept is the best epoch's
    best = torch.load(run.checkpoints / "best.ckpt", weights_only=True)["state_dict"]
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, best[f"encoder.{name}"])


def copy_run(run: Path, to: Path) -> RunFolder:
    to.mkdir()
    for name in ("config.json", "tokenizer.safetensors", "tokens.npz"):
        (to / name).write_bytes((run / name).read_bytes())
    return RunFolder(to)


def test_consistency_accepts_stage_1s_own_tokens(prepared: Prepared, tokenizer_run: Path) -> None:
    run = RunFolder(tokenizer_run)
    validation = prepared.part("validation")
    checked = check_consistency(run, load_tokenizer(run), validation)
    assert checked.tokens == len(validation) * 50


@pytest.mark.parametrize("harm", ["remove", "zero", "nudge", "reset", "codebook"])
def test_consistency_refuses_any_other_projection(
    harm: str, prepared: Prepared, tokenizer_run: Path, tmp_path: Path
) -> None:
    run = copy_run(tokenizer_run, tmp_path / "run")
    tensors = load_file(run.weights("tokenizer"))
    weight = tensors["projection.weight"]
    if harm == "remove":
        del tensors["projection.weight"], tensors["projection.bias"]
    elif harm == "zero":
        weight.zero_()
    elif harm == "nudge":
        weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    elif harm == "reset":  # what a loader that is not strict would leave
        torch.manual_seed(0)
        tensors["projection.weight"] = torch.nn.Linear(*reversed(weight.shape)).weight.detach().clone()
    else:
        tensors["quantizer.codebook"] = tensors["quantizer.codebook"].roll(1, 0).contiguous()
    save_file(tensors, run.weights("tokenizer"))
    expected = "do not fit config.json" if harm == "remove" else "tokens .* are those stage 1 gave"
    student = tmp_path / "student"
    with pytest.raises(BadInput, match=expected) as caught:
        train_student(student, run.path, "ppg", prepared, FIT, Console(quiet=True), resume=False, model=STUDENT)
    assert caught.value.exit_status == 2
    assert not student.exists(), "nothing was begun"


def test_consistency_needs_the_same_windows(prepared: Prepared, tokenizer_run: Path, tmp_path: Path) -> None:
    run = copy_run(tokenizer_run, tmp_path / "run")
    tokenizer = load_tokenizer(run)
    with pytest.raises(BadInput, match="made from other windows"):
        check_consistency(run, tokenizer, prepared.part("test"))
    run.tokens.write_bytes(b"not a zip")
    with pytest.raises(BadInput, match=r"tokens\.npz: cannot be read"):
        check_consistency(run, tokenizer, prepared.part("validation"))
    run.tokens.unlink()
    with pytest.raises(BadInput, match=r"has no tokens\.npz"):
        check_consistency(run, tokenizer, prepared.part("validation"))


def test_run_folders_that_are_not(tokenizer_run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such folder"):
        load_tokenizer(RunFolder(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match=r"has no config\.json"):
        load_tokenizer(RunFolder(tmp_path))
    with pytest.raises(BadInput, match="not of an encoder run"):
        load_student(RunFolder(tokenizer_run))
    run = copy_run(tokenizer_run, tmp_path / "run")
    run.weights("tokenizer").write_bytes(b"garbage")
    with pytest.raises(BadInput, match=r"tokenizer\.safetensors: cannot be read"):
        load_tokenizer(run)
    run.weights("tokenizer").unlink()
    with pytest.raises(BadInput, match=r"has no tokenizer\.safetensors"):
        load_tokenizer(run)
    config = json.loads((run.path / "config.json").read_text())
    del config["model"]["bands"]
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="model cannot be built"):
        load_tokenizer(run)
    (run.path / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"config\.json: cannot be read"):
        load_tokenizer(run)


def test_tokens_are_local_and_labels_do_not_depend_on_the_batch(prepared: Prepared, tokenizer_run: Path) -> None:
    tokenizer = load_tokenizer(RunFolder(tokenizer_run))
    windows = prepared.part("validation")
    tokens = label_tokens(tokenizer, windows)
    assert (label_tokens(tokenizer, windows, batch=3) == tokens).all()
    # A token depends on `left` patches before and `right` after its own, and on nothing else.
    left, right, at = tokenizer.config.left, tokenizer.config.right, 20
    ppg, ecg = torch.tensor(windows.ppg[:2]), torch.tensor(windows.ecg[:2])
    near = slice(at - left, at + right + 1)
    with torch.no_grad():
        whole = tokenizer.vectors(ppg, ecg)[:, at]
        cut = tokenizer.vectors(ppg[:, near], ecg[:, near])[:, left]
        torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-5)
        for edge in (at - left, at + right):
            moved = ppg.clone()
            moved[:, edge] += 1
            assert (tokenizer.vectors(moved, ecg)[:, at] - whole).abs().max() > 1e-5


def test_the_tokenizer_can_learn_one_batch_by_heart(prepared: Prepared) -> None:
    torch.manual_seed(0)
    windows = prepared.part("train").take(slice(0, 4))
    ppg, ecg = torch.tensor(windows.ppg), torch.tensor(windows.ecg)
    tokenizer = Tokenizer(replace(SMALL, dim=32, quantizer=replace(SMALL.quantizer, size=128, start_after=20)))
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=3e-3)
    for _ in range(120):
        out = tokenizer(ppg, ecg)
        loss = ((out.ppg - ppg) ** 2).mean() + ((out.ecg - ecg) ** 2).mean() + out.quantized.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    out = tokenizer.eval()(ppg, ecg)
    assert ((out.ppg - ppg) ** 2).mean() < 0.15 * (ppg**2).mean()
    assert ((out.ecg - ecg) ** 2).mean() < 0.5 * (ecg**2).mean()
