"""What Lightning does with a stage: every epoch its own order, and a resumed run goes on where it stopped."""

import signal
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from trainer.fitting import FitConfig, Interrupted, Selection, Stage, TensorRows, eval_batches, fit_stage, train_batches
from trainer.phases import PhasedRows
from trainer.run_folder import RunFolder


class Watched(Stage):
    """Remembers which rows each epoch saw; ``val_worse`` grows, so that the first epoch is the best."""

    def __init__(self, fit: FitConfig, stop_in: int | None = None) -> None:
        super().__init__(fit)
        self.weight, self.stop_in = torch.nn.Parameter(torch.ones(1)), stop_in
        self.seen: dict[int, list[int]] = {}

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        if self.current_epoch == self.stop_in and index == 1:
            signal.raise_signal(signal.SIGINT)
        self.seen.setdefault(self.current_epoch, []).extend(batch[0][:, 0, 0].int().tolist())
        return (self.weight * batch[0].mean()).sum()

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        self.note({"val_worse": float(self.current_epoch), "val_mean": batch[0].mean()}, batch=len(batch[0]))


def fit(stage: Watched, run: RunFolder, best: Selection | None = None) -> None:
    rows = PhasedRows((torch.arange(24.0 * 12).view(24, 3, 4),), range(4))
    validation = eval_batches(TensorRows(torch.arange(10.0)), 4)
    fit_stage(stage, run, train_batches(rows, stage.fit), validation, Console(quiet=True), "test", (), best)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.start({"kind": "test"}, resume=False)
    return folder


def test_every_epoch_has_an_order_and_phases_of_its_own(run: RunFolder) -> None:
    stage = Watched(FitConfig(epochs=3, batch=8))
    fit(stage, run)
    epochs = [stage.seen[epoch] for epoch in range(3)]
    for seen in epochs:
        assert sorted(first // 12 for first in seen) == list(range(24)), "each window once"
    assert len({tuple(first // 12 for first in seen) for seen in epochs}) == 3
    phases = [{first // 12: first % 12 for first in seen} for seen in epochs]
    assert sum(phases[0][window] != phases[1][window] for window in range(24)) > 8


def test_means_are_over_rows_not_batches(run: RunFolder) -> None:
    fit(Watched(FitConfig(epochs=1, batch=8)), run)
    assert run.history()[0]["val_mean"] == pytest.approx(4.5)  # of 0 to 9, in batches of 4, 4 and 2


@pytest.mark.parametrize("best", [None, Selection("val_worse", "min")], ids=["last", "best"])
def test_a_resumed_run_goes_on_after_the_last_whole_epoch(run: RunFolder, best: Selection | None) -> None:
    config = FitConfig(epochs=5, batch=8)
    with pytest.raises(Interrupted, match="keeps 3 of 5 epochs"):
        fit(Watched(config, stop_in=3), run, best)
    resumed = Watched(config)
    fit(resumed, run, best)
    assert sorted(resumed.seen) == [3, 4], "and no epoch again"
    assert [entry["epoch"] for entry in run.history()] == [1, 2, 3, 4, 5]
    kept = torch.load(run.checkpoints / ("best.ckpt" if best else "last.ckpt"), weights_only=True)
    assert kept["epoch"] == (0 if best else 4)
    assert torch.equal(resumed.weight, kept["state_dict"]["weight"])
