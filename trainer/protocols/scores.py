"""Scores with 95 % intervals over people, and differences between methods on the same people.

Every statistic is one of weighted windows, and a bootstrap draw is a weight for each person: how often they were drawn.
All methods are scored under the same draws, so a difference between two of them is paired by construction.
"""

from collections.abc import Callable

import numpy as np

from trainer.bootstrap import Interval
from trainer.protocols.task import F64, I64, Bools, Task

DRAWS = 2000
Statistic = Callable[[F64], F64]  # weights of windows, (draws, n) → (draws,)


class Resampling:
    """Draws of the people behind a task's windows; the first is everybody once: the estimate itself."""

    def __init__(self, people: np.ndarray, draws: int = DRAWS, seed: int = 0) -> None:
        self.names, self.person = np.unique(people, return_inverse=True)
        count = len(self.names)
        self.weights = np.ones((draws + 1, count))
        self.weights[1:] = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)

    def __len__(self) -> int:
        return len(self.names)

    def windows(self, statistic: Statistic) -> F64:
        """``statistic`` of windows under every draw, (draws + 1,)."""
        return np.concatenate([statistic(part[:, self.person]) for part in np.array_split(self.weights, 8)])

    def persons(self, statistic: Statistic) -> F64:
        """``statistic`` of one value a person under every draw, (draws + 1,)."""
        return statistic(self.weights)


def interval(values: F64, people: int) -> Interval:
    """Percentile interval of a statistic under every draw; draws where it is no number are left out."""
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high), people)


def weighted_mean(values: F64) -> Statistic:
    """The mean of ``values`` (n,)."""
    return lambda weights: weights @ values / weights.sum(1)


def auroc(truth: Bools, scores: F64) -> Statistic:
    """Area under the ROC curve (ties count half): the chance that a positive's score is above a negative's."""
    _, rank = np.unique(scores, return_inverse=True)
    order = np.argsort(rank, kind="stable")
    starts = np.flatnonzero(np.diff(rank[order], prepend=-1))

    def statistic(weights: F64) -> F64:
        positive = np.add.reduceat((weights * truth)[:, order], starts, axis=1)
        negative = np.add.reduceat((weights * ~truth)[:, order], starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        with np.errstate(invalid="ignore"):
            return np.asarray((positive * below).sum(1) / (positive.sum(1) * negative.sum(1)))

    return statistic


def balanced_accuracy(truth: I64, said: I64, classes: int) -> Statistic:
    """The mean over classes of the share of their windows that were named."""

    def statistic(weights: F64) -> F64:
        with np.errstate(invalid="ignore"):
            recalls = [weights[:, of] @ (said[of] == c) / weights[:, of].sum(1)
                       for c in range(classes) if (of := np.flatnonzero(truth == c)).size]  # fmt: skip
        return np.asarray(np.mean(recalls, axis=0))

    return statistic


def _person_means(values: F64, person: I64, count: int) -> F64:
    return np.asarray(np.bincount(person, values, count) / np.bincount(person, minlength=count))


def lower_is_better(metric: str) -> bool:
    """Errors are; areas and accuracies are not."""
    return metric.startswith(("MAE", "RMSE"))


def draws_of(task: Task, predictions: F64, rows: Bools, resampling: Resampling) -> dict[str, F64]:
    """Every metric of the windows ``rows`` under every draw, averaged over the seeds: metric → (draws + 1,).

    ``predictions`` (seeds, n[, classes]); ``resampling`` of the people of ``rows``. Regression: MAE and RMSE.
    Two classes: AUROC by window and by person (of the mean log odds), and balanced accuracy at 0.5. More: one against
    the rest, macro-averaged, and balanced accuracy of the likeliest.
    """
    truth = task.labels[rows]
    found: dict[str, list[F64]] = {}
    for said in predictions[:, rows]:
        if task.kind == "regression":
            error = said - truth
            found.setdefault("MAE", []).append(resampling.windows(weighted_mean(np.abs(error))))
            found.setdefault("RMSE", []).append(np.sqrt(resampling.windows(weighted_mean(error**2))))
        else:
            for metric, values in _class_draws(truth.astype(np.int64), said, resampling).items():
                found.setdefault(metric, []).append(values)
    return {metric: np.asarray(np.mean(values, axis=0)) for metric, values in found.items()}


def _class_draws(truth: I64, said: F64, resampling: Resampling) -> dict[str, F64]:
    classes = said.shape[1]
    found = {}
    known = [c for c in ([1] if classes == 2 else range(classes)) if 0 < (truth == c).mean() < 1]
    found["AUROC"] = _mean_of([resampling.windows(auroc(truth == c, said[:, c])) for c in known])
    person_truth = _person_means(truth.astype(np.float64), resampling.person, len(resampling))
    if classes == 2 and np.isin(person_truth, (0, 1)).all():
        p = np.clip(said[:, 1], 1e-6, 1 - 1e-6)
        person_score = _person_means(np.log(p / (1 - p)), resampling.person, len(resampling))
        if 0 < person_truth.mean() < 1:
            found["AUROC by person"] = resampling.persons(auroc(person_truth == 1, person_score))
    found["balanced accuracy"] = resampling.windows(balanced_accuracy(truth, said.argmax(1), classes))
    return found


def _mean_of(values: list[F64]) -> F64:
    return np.asarray(np.mean(values, axis=0)) if values else np.full(DRAWS + 1, np.nan)
