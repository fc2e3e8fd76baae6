"""A labelled task, and what can be asked to solve it: the contract between tasks, methods and tables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Task:
    """Windows with a label each.

    ``ppg`` and ``ecg``: patches as the device's front end makes them, (n, hops, hop), or None where the data has no
    such signal. ``labels``: (n,) float64 in ``unit`` for a regression, the index into ``classes`` for a
    classification. ``people``: (n,) ``dataset/patient``; folds and intervals never split a person. ``subsets``: masks
    (n,) of windows that are scored once more by themselves (methods still learn from all of their fold).
    ``coverage`` says in words which windows there are, and how the labels came about.
    """

    name: str
    kind: Literal["regression", "classification"]
    ppg: F32 | None
    ecg: F32 | None
    labels: F64
    people: NDArray[np.str_]
    rate: float = 125.0
    classes: tuple[str, ...] = ()
    unit: str = ""
    subsets: Mapping[str, Bools] = field(default_factory=dict)
    coverage: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def signal(self, signal: Literal["ppg", "ecg"]) -> F32:
        """The patches of one signal, (n, hops, hop); ValueError where the task has none."""
        patches = self.ppg if signal == "ppg" else self.ecg
        if patches is None:
            raise ValueError(f"task {self.name} has no {signal}")
        return patches


class Method(Protocol):
    """Something that learns a task from some people and is asked about others."""

    name: str

    def fit(self, task: Task, rows: I64) -> None:
        """Learn from ``task`` at ``rows`` only (a method may split off some of these people to stop early)."""

    def predict(self, task: Task, rows: I64) -> F64:
        """Regression: the values, (len(rows),). Classification: probabilities, (len(rows), classes)."""


MakeMethod = Callable[[], Method]
