"""One training run under Lightning: data order, schedule, checkpoints, progress, history, interruption and resume.

Every epoch starts from a seed of its own, for the order of windows as for dropout and noise. So a run resumed after
any whole epoch goes on exactly as if it had never stopped.

Under torchrun (:mod:`trainer.ranks`) each batch is shared out among the processes in equal parts, and their gradients
are averaged: the same steps as one process would make, but for the order of float sums and for dropout and noise,
which every rank draws for itself.
"""

import logging
import math
import os
import signal
import warnings
from collections.abc import Iterator, Sized
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Sampler

from firmware_bridge.errors import BadInput, PulsecodeError
from trainer import progress, ranks
from trainer.phases import PhasedRows
from trainer.run_folder import RunFolder, write_json


class Interrupted(PulsecodeError):
    """Ctrl-C: the run stands at its last whole epoch."""

    exit_status = 130


@dataclass(frozen=True)
class FitConfig:
    """How long and how fast: AdamW with linear warm-up (in steps) and a cosine down to ``final_share`` of ``lr``.

    ``batch`` is that of a step, over all processes together.
    """

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


class EpochBatches(Sampler[list[int]]):
    """Batches in a random order of all windows, each at a random phase (:class:`trainer.phases.PhasedRows`), that
    depends on the seed and the epoch alone; Lightning calls ``set_epoch``.

    The last, smaller batch is left out unless it is the only one. Each rank gets its part of every batch, in order,
    so that the ranks' parts in a row are the batch that one process would see.
    """

    def __init__(self, data: Sized, phases: int, batch: int, seed: int) -> None:
        self.data, self.phases, self.seed, self.epoch = data, phases, seed, 0
        self.batch = min(batch, len(data))
        self.part = self.batch // ranks.world_size()

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.data) // self.batch

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        order = torch.randperm(len(self.data), generator=generator)
        phase = torch.randint(self.phases, (len(self.data),), generator=generator)
        rows = order + phase * len(self.data)
        for i in range(len(self)):
            first = i * self.batch + ranks.rank() * self.part
            yield rows[first : first + self.part].tolist()


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed of its own for every epoch of a run."""
    return seed * 1_000_003 + epoch


class TensorRows:
    """A data set of equally long tensors that yields whole batches at once (one copy, no collating)."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, ...]:
        return tuple(tensor[rows] for tensor in self.tensors)


class Batches(Protocol):
    """What a stage learns from or is judged on: iterated once an epoch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]: ...


def train_batches(rows: PhasedRows, config: FitConfig) -> Batches:
    """This rank's part of shuffled batches. Raises :class:`BadInput` where they cannot be shared out evenly."""
    several = ranks.world_size()
    if config.batch % several:
        raise BadInput(f"--batch {config.batch}: cannot be shared out evenly among {several} processes")
    if len(rows) < several:
        raise BadInput(f"data folder: {len(rows)} training windows are fewer than the {several} processes")
    sampler = EpochBatches(rows, rows.phases, config.batch, config.seed)
    # A generator of its own: an iterator draws a number when it is made, which is before the epoch's seed is set in a
    # resumed run and after it in others.
    own = torch.Generator()
    return DataLoader(rows, sampler=sampler, batch_size=None, generator=own)  # type: ignore[arg-type]


def eval_batches(rows: TensorRows, batch: int) -> Batches:
    """Batches in order, all of them; every row comes to one rank."""
    several = ranks.world_size()
    if len(rows) < several:
        raise BadInput(f"data folder: {len(rows)} validation windows are fewer than the {several} processes")
    mine = range(ranks.rank(), len(rows), several)
    sampler = BatchSampler(mine, max(1, batch // several), drop_last=False)
    return DataLoader(rows, sampler=sampler, batch_size=None)  # type: ignore[arg-type]


class Stage(pl.LightningModule):
    """What both stages share: the optimiser with its schedule, a seed per epoch, and means over it."""

    def __init__(self, fit: FitConfig) -> None:
        super().__init__()
        self.fit = fit
        self._noted: dict[str, Tensor] = {}  # weighted sum and weight

    def on_train_epoch_start(self) -> None:
        # Rank 0 draws as the only process would; the others' noise must not repeat it.
        torch.manual_seed(epoch_seed(self.fit.seed, self.current_epoch) + ranks.rank() * 1_000_000_007)
        self._noted = {}

    def on_validation_epoch_end(self) -> None:  # runs after the epoch's last training batch
        for name, (total, weight) in ranks.summed_by_name(self._noted).items():
            if weight > 0:
                self.log(name, float(total) / float(weight))

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
        """Average ``values`` over the epoch and all ranks, weighted by batch size, into the history."""
        for name, value in values.items():
            new = torch.tensor([float(value) * batch, batch], dtype=torch.float64)
            self._noted[name] = self._noted.get(name, torch.zeros_like(new)) + new


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
        if not trainer.is_global_zero:
            return
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

    Afterwards ``stage`` holds, on the CPU, the weights of the last epoch, or of the best one where ``best`` is given.
    Raises :class:`Interrupted` on Ctrl-C.
    """
    # Lightning's advice on hardware, loaders and logging is about other uses than this one.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # One for each: with `save_last` Lightning writes the last epoch only where it is the best one too. The last comes
    # last, so that it knows of the best one up to its own epoch and a resumed run goes on with that.
    kept: list[Callback] = [] if best is None else [_keep(run, "best", best.metric, best.mode)]
    kept.append(_keep(run, "last"))
    trainer = pl.Trainer(
        max_epochs=stage.fit.epochs, gradient_clip_val=stage.fit.clip_norm, logger=False,
        callbacks=[Chronicle(run, console, title, shown), *kept], enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1, **_hardware(),
    )  # fmt: skip
    resumed = run.last_checkpoint if run.last_checkpoint.exists() else None
    before = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            for about in (".*does not have many workers.*", ".*Checkpoint directory .* exists.*", ".*LeafSpec.*",
                          ".*sync_dist=True.*"):  # fmt: skip
                warnings.filterwarnings("ignore", about)  # the last: what is logged is every rank's already
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
    stage.cpu()


def _keep(run: RunFolder, name: str, metric: str | None = None, mode: str = "min") -> ModelCheckpoint:
    """A checkpoint that is written over after every epoch, or with a ``metric`` after every better one."""
    return ModelCheckpoint(
        run.checkpoints, name, monitor=metric, mode=mode, enable_version_counter=False, save_on_train_epoch_end=True
    )


def _hardware() -> dict[str, Any]:
    """Where Lightning trains: the CPU, or what ``PULSECODE_ACCELERATOR`` says (``gpu``, ``auto``), with the processes
    that torchrun started."""
    found: dict[str, Any] = {"accelerator": os.environ.get("PULSECODE_ACCELERATOR", "cpu"), "devices": 1}
    if ranks.world_size() > 1:
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        found |= {"devices": here, "num_nodes": ranks.world_size() // here, "use_distributed_sampler": False}
        # The one buffer that moves in training, the codebook, moves alike on every rank by itself.
        found["strategy"] = DDPStrategy(forward_sync_buffers=False)
    return found


def progress_console() -> Console:
    """Where progress and notices go: stderr, so that results on stdout can be piped; rank 0 alone speaks."""
    return progress.progress_console(quiet=ranks.rank() > 0)
