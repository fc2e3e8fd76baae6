"""Folds of people, and predictions for people that a method has not learned from."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from firmware_bridge.errors import BadInput
from trainer.protocols.task import F64, I64, MakeMethod, Task

Fold = tuple[I64, I64]


def person_folds(task: Task, folds: int, seed: int) -> list[Fold]:
    """``folds`` pairs of rows (learn, ask); every row is asked once, and no person is on both sides.

    Classification: each fold gets its share of the people of either class. Raises :class:`BadInput` where there are
    fewer people (of a class) than folds.
    """
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    kinds = [task.labels == label for label in np.unique(task.labels)] if task.kind == "classification" else [...]
    fewest = min(len(np.unique(task.people[kind])) for kind in kinds)
    if fewest < folds:
        raise BadInput(f"task {task.name}: {fewest} people (of the rarest class) are too few for {folds} folds; "
                       "give fewer --folds or more recordings")  # fmt: skip
    chosen = StratifiedGroupKFold if task.kind == "classification" else GroupKFold
    split = chosen(folds, shuffle=True, random_state=seed).split(np.zeros(len(task)), task.labels, task.people)
    return [(np.asarray(learn, np.int64), np.asarray(ask, np.int64)) for learn, ask in split]


@dataclass(frozen=True)
class OutOfFold:
    """``predictions`` (seeds, n) or, for probabilities, (seeds, n, classes); ``seconds``: processor time of fitting and
    predicting, all threads."""

    predictions: F64
    seconds: float


def out_of_fold(
    make: MakeMethod, task: Task, folds: int, seeds: int, advance: Callable[[], None] = lambda: None
) -> OutOfFold:
    """A fresh method for each fold of each seed, asked about the people it did not see; ``advance`` after each fold.

    Seed ``s`` shuffles the people into folds and starts torch's random numbers. Raises :class:`BadInput` where there
    are too few people, ValueError where the method leaves a prediction out.
    """
    import torch

    width = (len(task.classes),) if task.kind == "classification" else ()
    predictions = np.full((seeds, len(task), *width), np.nan)
    begun = time.process_time()
    for seed in range(seeds):
        for learn, ask in person_folds(task, folds, seed):
            torch.manual_seed(seed)
            method = make()
            method.fit(task, learn)
            predictions[seed, ask] = said = method.predict(task, ask)
            if not np.isfinite(said).all():
                raise ValueError(f"{method.name} left out a prediction of {task.name}")
            advance()
    return OutOfFold(predictions, time.process_time() - begun)
