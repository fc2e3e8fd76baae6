"""Logistic heads: probability from a few named features, in their own units."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bundle import LogisticModel
from trainer.bootstrap import Interval, over_people

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Features (n, d), labels (n,), and each example's person."""

    features: F64
    labels: NDArray[np.bool_]
    people: NDArray[np.str_]

    @classmethod
    def of(
        cls, rows: Sequence[Sequence[float]], labels: Sequence[bool], people: Sequence[str], width: int
    ) -> "Examples":
        """From lists, which may be empty."""
        return cls(np.array(rows, np.float64).reshape(-1, width), np.array(labels, bool), np.array(people, np.str_))

    def __len__(self) -> int:
        return len(self.labels)


def joined(*parts: Examples) -> tuple[Examples, F64]:
    """Several sets as one, and weights that give each set the same say."""
    weights = [np.full(len(part), 1 / max(1, len(part))) for part in parts]
    whole = Examples(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.people for part in parts]),
    )
    return whole, np.concatenate(weights) * len(whole) / len(parts)


def fit(examples: Examples, names: tuple[str, ...], calibrated_on: str, weights: F64 | None = None) -> LogisticModel:
    """Logistic regression on standardised features, written back in the features' own units."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = examples.features.mean(0), examples.features.std(0) + 1e-12
    model = LogisticRegression().fit((examples.features - mean) / spread, examples.labels, weights)
    slopes = model.coef_[0] / spread
    bias = float(model.intercept_[0] - slopes @ mean)
    return LogisticModel({n: float(w) for n, w in zip(names, slopes, strict=True)}, bias, calibrated_on)


def probabilities(model: LogisticModel, examples: Examples, names: tuple[str, ...]) -> F64:
    """What the device would say, (n,)."""
    z = examples.features @ np.array([model.weights[name] for name in names]) + model.bias
    return np.asarray(1 / (1 + np.exp(-np.clip(z, -60, 60))))


def auroc(scores: F64, labels: NDArray[np.bool_], people: NDArray[np.str_]) -> Interval:
    """With its interval over people."""
    from sklearn.metrics import roc_auc_score

    def area(rows: NDArray[np.int64]) -> float:
        return float(roc_auc_score(labels[rows], scores[rows])) if 0 < labels[rows].mean() < 1 else float("nan")

    return over_people(area, people)


def by_person(scores: F64, labels: NDArray[np.bool_], people: NDArray[np.str_]) -> Interval:
    """AUROC of the persons' mean scores."""
    persons, first = np.unique(people, return_index=True)
    return auroc(np.array([scores[people == person].mean() for person in persons]), labels[first], persons)
