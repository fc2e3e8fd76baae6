"""One training run under Lightning: data order, schedule, checkpoints, progress, history, interruption and resume.

Every epoch starts from a seed of its own, for the order of windows as for dropout and noise. So a run resumed after
any whole epoch goes on exactly as if it had never stopped.
"""

import logging
import math
import signal
import sys
import warnings
from collections.abc import Iterator, Sized
from dataclasses import asdict, dataclass
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Sampler

from firmware_bridge.errors import BadInput, PulsecodeError
from trainer.phases import PhasedRows
from trainer.run_folder import RunFolder, write_json


class Interrupted(PulsecodeError):
    """Ctrl-C: the run stands at its last whole epoch."""

    exit_status = 130


@dataclass(frozen=True)
class FitConfig:
    """How long and how fast: AdamW with linear warm-up (in steps) and a cosine down to ``final_share`` of ``lr``."""

    epochs: int
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 100
    final_share: float = 0.01
    clip_norm: float = 1.0
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For a run folder's config."""
        return asdict(self)


class EpochOrder(Sampler[int]):
    """A random order of all windows, each at a random phase (:class:`trainer.phases.PhasedRows`), that depends on the
    seed and the epoch alone; Lightning calls ``set_epoch``."""

    def __init__(self, data: Sized, phases: int, seed: int) -> None:
        self.data, self.phases, self.seed, self.epoch = data, phases, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.data), generator=generator)
        phase = torch.randint(self.phases, (len(self.data),), generator=generator)
        yield from (order + phase * len(self.data)).tolist()


class TensorRows:
    """A data set of equally long tensors that yields whole batches at once (one copy, no collating)."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, ...]:
        return tuple(tensor[rows] for tensor in self.tensors)


Batches = DataLoader[tuple[Tensor, ...]]


def train_batches(rows: PhasedRows, config: FitConfig) -> Batches:
    """Shuffled batches; the last, smaller one of an epoch is left out unless it is the only one."""
    order = EpochOrder(rows, rows.phases, config.seed)
    sampler = BatchSampler(order, config.batch, drop_last=len(rows) >= config.batch)
    return DataLoader(rows, sampler=sampler, batch_size=None)  # type: ignore[arg-type]


def eval_batches(rows: TensorRows, batch: int) -> Batches:
    """Batches in order, all of them."""
    sampler = BatchSampler(range(len(rows)), batch, drop_last=False)
    return DataLoader(rows, sampler=sampler, batch_size=None)  # type: ignore[arg-type]


class Stage(pl.LightningModule):
    """What both stages share: the optimiser with its schedule, and a seed per epoch."""

    def __init__(self, fit: FitConfig) -> None:
        super().__init__()
        self.fit = fit

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(self.fit.seed * 1_000_003 + self.current_epoch)

    def configure_optimizers(self) -> Any:
        fit = self.fit
        decayed = [p for p in self.parameters() if p.requires_grad and p.ndim >= 2]
        plain = [p for p in self.parameters() if p.requires_grad and p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": fit.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=fit.lr)
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = min(fit.warmup, max(1, steps // 10))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            done = min(1.0, (step - warmup) / max(1, steps - warmup))
            return fit.final_share + (1 - fit.final_share) * 0.5 * (1 + math.cos(math.pi * done))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def note(self, values: dict[str, float | Tensor], *, batch: int) -> None:
        """Average ``values`` over the epoch, weighted by batch size, into the history."""
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=batch)


class Chronicle(Callback):
    """A progress bar while an epoch runs; one line and one entry of ``history.json`` when it is over."""

    def __init__(self, run: RunFolder, console: Console, title: str, shown: tuple[str, ...]) -> None:
        self.run, self.console, self.title, self.shown = run, console, title, shown
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.task: TaskID | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.progress.start()
        name = f"{self.title} epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.task = self.progress.add_task(name, total=int(trainer.num_training_batches))

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if self.task is not None:
            self.progress.advance(self.task)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        entry: dict[str, float] = {"epoch": trainer.current_epoch + 1}
        entry |= {name: round(float(value), 6) for name, value in sorted(trainer.callback_metrics.items())}
        entry["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        history = [old for old in self.run.history() if old["epoch"] < entry["epoch"]]
        write_json(self.run.path / "history.json", [*history, entry])
        self._clear()
        values = "  ".join(f"{name.replace('_', ' ')} {entry[name]:.4g}" for name in self.shown if name in entry)
        width = len(str(trainer.max_epochs))
        self.console.print(
            f"{self.title} epoch {trainer.current_epoch + 1:>{width}}/{trainer.max_epochs}  {values}", soft_wrap=True
        )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._clear()

    def _clear(self) -> None:
        self.progress.stop()
        if self.task is not None:
            self.progress.remove_task(self.task)
            self.task = None


@dataclass(frozen=True)
class Selection:
    """Which epoch's weights are kept beside the last one's."""

    metric: str
    mode: Literal["min", "max"]


def fit_stage(
    stage: Stage,
    run: RunFolder,
    train: Batches,
    validation: Batches,
    console: Console,
    title: str,
    shown: tuple[str, ...],
    best: Selection | None = None,
) -> None:
    """Train ``stage`` from its last checkpoint in ``run`` (if it has one) to its last epoch.

    Afterwards ``stage`` holds the weights of the last epoch, or of the best one where ``best`` is given. Raises
    :class:`Interrupted` on Ctrl-C.
    """
    # Lightning's advice on hardware, loaders and logging is about other uses than this one.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    keep = ModelCheckpoint(
        run.checkpoints, "best", monitor=best.metric if best else None, mode=best.mode if best else "min",
        save_top_k=1 if best else 0, save_last=True, enable_version_counter=False, save_on_train_epoch_end=True,
    )  # fmt: skip
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=stage.fit.epochs, gradient_clip_val=stage.fit.clip_norm, logger=False,
        callbacks=[Chronicle(run, console, title, shown), keep], enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1,
    )  # fmt: skip
    resumed = run.last_checkpoint if run.last_checkpoint.exists() else None
    before = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            for about in (".*does not have many workers.*", ".*Checkpoint directory .* exists.*", ".*LeafSpec.*"):
                warnings.filterwarnings("ignore", about)
            trainer.fit(stage, train, validation, ckpt_path=resumed, weights_only=True)
    except SystemExit:  # how Lightning ends after Ctrl-C
        signal.signal(signal.SIGINT, before)
        done = len(run.history())
        raise Interrupted(
            f"stopped; {run.path} keeps {done} of {stage.fit.epochs} epochs; the same command with --resume goes on"
        ) from None
    except RuntimeError as error:
        if resumed is None or "checkpoint" not in str(error).lower():
            raise
        raise BadInput(f"checkpoint {resumed}: cannot be resumed ({error}); start anew with another --out") from None
    if best is not None:
        chosen = torch.load(run.checkpoints / "best.ckpt", weights_only=True, map_location="cpu")
        stage.load_state_dict(chosen["state_dict"])


def progress_console() -> Console:
    """Where progress and notices go: stderr, so that results on stdout can be piped."""
    console = Console(file=sys.stderr, highlight=False)
    return console if console.is_terminal else Console(file=sys.stderr, highlight=False, width=100)
