"""A network as a :class:`trainer.protocols.task.Method`: made anew at every fit, trained by the one shared loop."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from firmware_bridge.block import Signal
from trainer.protocols.learning import Budget, Cost, Target, Watch, augmented, learn, said_by, stopping_rows
from trainer.protocols.task import F64, I64, Task
from trainer.stage2 import Augmentation

MakeNetwork = Callable[[int, int], nn.Module]
"""``(signals, outputs)`` → a network from (batch, signals, hops, hop) to (batch, outputs)."""


def stacked(task: Task, rows: I64, signals: Sequence[Signal]) -> Tensor:
    """The patches of ``signals`` at ``rows``: (rows, signals, hops, hop)."""
    return torch.from_numpy(np.stack([np.asarray(task.signal(signal)[rows], np.float32) for signal in signals], 1))


def pooled(x: Tensor) -> Tensor:
    """Mean and standard deviation over time: (batch, channels, time) → (batch, 2 * channels)."""
    variance = x.var(2, unbiased=False)
    return torch.cat([x.mean(2), (variance + 1e-5).sqrt()], 1)


class Neural:
    """Trains a new network at each ``fit``; ``history`` is the last one's. ``cost`` sums up what fits took: give
    the same one to the methods of all folds."""

    def __init__(
        self,
        name: str,
        make: MakeNetwork,
        signals: Sequence[Signal],
        budget: Budget,
        *,
        groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None,
        augmentation: Augmentation | None = None,
        cost: Cost | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.name, self.signals, self.budget, self.watch = name, tuple(signals), budget, watch
        self.cost = cost if cost is not None else Cost()
        self.history: list[dict[str, float]] = []
        self._solved: tuple[Target, nn.Module] | None = None
        self._make, self._groups = make, groups
        self._augmentation = augmentation or Augmentation()

    def fit(self, task: Task, rows: I64) -> None:
        """Learn from ``rows``; the people of some of them only choose when to stop. Chance is torch's generator's."""
        target = Target.of(task, rows)
        network = self._make(len(self.signals), target.outputs)
        labels: NDArray[np.float64] = task.labels[rows]
        fitted = learn(
            network,
            stacked(task, rows, self.signals),
            target.encode(labels),
            stopping_rows(task.people[rows], labels, int(torch.randint(2**31, ()))),
            target,
            self.budget,
            groups=self._groups(network) if self._groups is not None else None,
            augment=lambda x: augmented(x, self._augmentation),
            watch=self.watch,
        )
        self._solved, self.history = (target, network), fitted.history
        self.cost.add(sum(p.numel() for p in network.parameters()), fitted)

    def solved(self) -> tuple[Target, nn.Module]:
        """What the last ``fit`` found; raises RuntimeError before it."""
        if self._solved is None:
            raise RuntimeError(f"{self.name}: predict before fit")
        return self._solved

    def predict(self, task: Task, rows: I64) -> F64:
        """Values (rows,) or probabilities (rows, classes); ``fit`` comes first."""
        target, network = self.solved()
        return target.decode(said_by(network, stacked(task, rows, self.signals)))
