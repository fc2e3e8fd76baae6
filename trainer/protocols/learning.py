"""The training loop of the neural methods: one budget, one way of stopping, honest books of what was spent.

A budget is a number of windows shown, so that a result is the same on a slow machine and a fast one; what it cost
there in CPU-seconds is measured and stated beside the result. People split off the training rows choose the weights.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.protocols.task import I64, Task
from trainer.stage2 import Augmentation

STOP_SHARE = 0.15  # of the training people, at least one: they choose the weights and are never trained on
WARMUP_SHARE = 0.1
LEAST_SHARE = 0.01  # of the peak rate, at the end of the cosine

Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Budget:
    """``windows`` shown at most, in batches of ``batch``; ``checks``: how often on the way the stopping people are
    asked; training ends after ``patience`` checks without gain. ``lr`` is the peak rate of AdamW."""

    windows: int = 20_000
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    checks: int = 20
    patience: int = 7

    def to_dict(self) -> dict[str, float]:
        """For a run folder's config."""
        return asdict(self)

    def __str__(self) -> str:
        return f"at most {self.windows:,} windows shown a fit, lr {self.lr:g}"


@dataclass
class Cost:
    """What fitting took, summed over folds. ``cpu_seconds`` are the process's own, all threads."""

    parameters: int = 0
    fits: int = 0
    windows: int = 0
    epochs: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, parameters: int, fitted: "Fitted") -> None:
        """Book one fit."""
        self.parameters = parameters
        self.fits += 1
        self.windows += fitted.shown
        self.epochs += fitted.epochs
        self.cpu_seconds += fitted.cpu_seconds

    def __str__(self) -> str:
        if not self.fits:
            return "not fitted"
        each = f"{self.epochs / self.fits:.1f} epochs, {self.cpu_seconds / self.fits:.0f} CPU-s"
        return f"{self.parameters / 1e6:.2f} M parameters; {each} a fit, {self.fits} fits"


@dataclass(frozen=True)
class Target:
    """What a network is to say and what that means: the standardised value, or the log odds of each class."""

    task_kind: str
    outputs: int
    mean: float = 0.0
    spread: float = 1.0
    weights: Tensor = field(default_factory=lambda: torch.ones(1))

    @classmethod
    def of(cls, task: Task, rows: I64) -> "Target":
        """From training labels alone: their mean and spread, or weights that give every class the same say."""
        labels = task.labels[rows]
        if task.kind == "regression":
            return cls(task.kind, 1, float(labels.mean()), max(float(labels.std()), 1e-6))
        counts = np.bincount(labels.astype(np.int64), minlength=len(task.classes))
        weights = np.where(counts > 0, len(labels) / (max(1, (counts > 0).sum()) * np.maximum(counts, 1)), 0.0)
        return cls(task.kind, len(task.classes), weights=torch.tensor(weights, dtype=torch.float32))

    def encode(self, labels: NDArray[np.float64]) -> Tensor:
        """Labels (n,) as the loss wants them."""
        if self.task_kind == "regression":
            return torch.tensor((labels - self.mean) / self.spread, dtype=torch.float32)
        return torch.tensor(labels.astype(np.int64))

    def loss(self, said: Tensor, wanted: Tensor) -> Tensor:
        """Huber's loss (a few windows have a wrong reference), or weighted cross entropy; ``said`` (n, outputs)."""
        if self.task_kind == "regression":
            return nn.functional.smooth_l1_loss(said[:, 0], wanted, beta=0.25)
        return nn.functional.cross_entropy(said, wanted, weight=self.weights)

    def decode(self, said: Tensor) -> NDArray[np.float64]:
        """Network outputs → values (n,) in the task's unit, or probabilities (n, classes)."""
        if self.task_kind == "regression":
            return np.asarray(said[:, 0].double().numpy() * self.spread + self.mean)
        return np.asarray(said.double().softmax(1).numpy())


def stopping_rows(people: NDArray[np.str_], labels: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """True at the rows, (n,), of the people set aside: every k-th in the order of their mean label, so that both ends
    of the scale (or both classes) are among them. With a single person every row trains and none is set aside."""
    persons, which = np.unique(people, return_inverse=True)
    if len(persons) < 2:
        return np.zeros(len(people), dtype=bool)
    mean = np.bincount(which, weights=labels) / np.bincount(which)
    shuffled = np.random.default_rng(seed).permutation(len(persons))
    order = shuffled[np.argsort(mean[shuffled], kind="stable")]
    count = max(1, round(STOP_SHARE * len(persons)))
    chosen = order[((np.arange(count) + 0.5) * len(persons) / count).astype(np.int64)]
    return np.asarray(np.isin(which, chosen))


def augmented(x: Tensor, augmentation: Augmentation) -> Tensor:
    """``x`` (batch, signals, hops, hop) cut up to one hop later and disturbed: (batch, signals, hops - 1, hop)."""
    batch, signals, hops, hop = x.shape
    offset = int(torch.randint(hop, ()))
    cut = x.reshape(batch * signals, -1)[:, offset : offset + (hops - 1) * hop]
    return augmentation(cut.reshape(batch * signals, hops - 1, hop)).view(batch, signals, hops - 1, hop)


def said_by(network: nn.Module, x: Tensor, batch: int = 256) -> Tensor:
    """Outputs for all of ``x`` in eval mode, (n, outputs)."""
    network.eval()
    with torch.no_grad():
        return torch.cat([network(x[i : i + batch]) for i in range(0, len(x), batch)])


def _factor(step: int, steps: int) -> float:
    warmup = max(1, round(WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return LEAST_SHARE + (1 - LEAST_SHARE) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass
class Fitted:
    """``history``: the losses at each check; ``shown`` windows in ``epochs`` passes took ``cpu_seconds``."""

    history: list[dict[str, float]]
    shown: int
    epochs: float
    cpu_seconds: float


def learn(
    network: nn.Module,
    x: Tensor,
    wanted: Tensor,
    stopping: NDArray[np.bool_],
    target: Target,
    budget: Budget,
    *,
    groups: Iterable[dict[str, Any]] | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    watch: Watch | None = None,
) -> Fitted:
    """Train ``network`` on ``x`` (n, …) where not ``stopping``; it ends with the weights that served those best.

    ``groups``: parameter groups of AdamW (default: all alike), whose ``lr`` may differ; ``watch`` is told how many
    of how many windows were shown. All chance comes from torch's generator: seeded alike, trained alike.
    """
    began = time.process_time()
    train, stop = torch.tensor(np.flatnonzero(~stopping)), torch.tensor(np.flatnonzero(stopping))
    batch = min(budget.batch, len(train))
    steps = max(1, budget.windows // batch)
    optimizer = torch.optim.AdamW(
        list(groups) if groups is not None else network.parameters(), lr=budget.lr, weight_decay=budget.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(step, steps))
    keeper = _Keeper(
        network, lambda: float(target.loss(said_by(network, x[stop]), wanted[stop])) if len(stop) else None
    )
    losses: list[float] = []
    shown = 0
    for step, rows in enumerate(_orders(train, batch, steps), 1):
        network.train()
        loss = target.loss(network(augment(x[rows]) if augment is not None else x[rows]), wanted[rows])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), budget.clip_norm)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        shown += batch
        if watch is not None:
            watch(shown, steps * batch)
        if step % max(1, steps // budget.checks) == 0 or step == steps:
            keeper.check(shown / len(train), float(np.mean(losses)))
            losses.clear()
            if keeper.since >= budget.patience:
                break
    keeper.restore()
    return Fitted(keeper.history, shown, shown / len(train), time.process_time() - began)


def _orders(train: Tensor, batch: int, steps: int) -> Iterator[Tensor]:
    """``steps`` batches of rows; each pass over them in a new order, its last incomplete batch left out."""
    while steps > 0:
        order = train[torch.randperm(len(train))]
        for start in range(0, min(steps, len(train) // batch) * batch, batch):
            yield order[start : start + batch]
        steps -= len(train) // batch


class _Keeper:
    """Keeps the weights with the least loss on the stopping people, and the history of both losses."""

    def __init__(self, network: nn.Module, judge: Callable[[], float | None]) -> None:
        self.network, self.judge = network, judge
        self.best, self.since = math.inf, 0
        self.kept: dict[str, Tensor] | None = None
        self.history: list[dict[str, float]] = []

    def check(self, epoch: float, train_loss: float) -> None:
        entry = {"epoch": round(epoch, 3), "train_loss": train_loss}
        loss = self.judge()
        if loss is not None:
            entry["stop_loss"] = loss
            self.since += 1
            if loss < self.best:
                self.best, self.since, self.kept = loss, 0, deepcopy(self.network.state_dict())
        self.history.append(entry)

    def restore(self) -> None:
        if self.kept is not None:
            self.network.load_state_dict(self.kept)
        self.network.eval()
