"""Small models on fixed features: what a representation knows, by a linear probe and by gradient boosting.

How strongly a linear probe is held back is chosen among the people it may learn from, by folds of those people.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.protocols.task import F32, F64, I64, Task

INNER_FOLDS = 4
RIDGE = np.logspace(0, 5, 11)  # penalties on standardised features
LOGISTIC = np.logspace(-4, 0, 5)  # inverse penalties
LEAST_P = 1e-6

Features = Callable[[Task], F32]
Head = Literal["linear", "boosting"]


class Standardised:
    """Features in units of their spread over the rows they were learned from; what could not be measured is their
    median there, and a feature that never varies is 0."""

    def __init__(self, features: F32) -> None:
        known = np.where(np.isfinite(features).any(0), features, 0)
        self.middle = np.nanmedian(known, axis=0)
        filled = np.where(np.isfinite(features), features, self.middle).astype(np.float64)
        self.mean, spread = filled.mean(0), filled.std(0)
        self.scale = np.where(spread > 1e-9, spread, np.inf)

    def __call__(self, features: F32) -> F64:
        return np.asarray((np.where(np.isfinite(features), features, self.middle) - self.mean) / self.scale)


def ridge_path(features: F64, labels: F64, penalties: F64) -> tuple[F64, float]:
    """Ridge regression of ``labels`` (n,) on centred ``features`` (n, d), all penalties from one decomposition:
    coefficients (penalties, d) and the intercept."""
    values, vectors = np.linalg.eigh(features.T @ features)
    target = vectors.T @ (features.T @ (labels - labels.mean()))
    shrunk = target / (np.maximum(values, 0) + penalties[:, None])
    return np.asarray(shrunk @ vectors.T), float(labels.mean())


def inner_folds(people: NDArray[np.str_], labels: F64, *, stratified: bool) -> Iterator[tuple[I64, I64]]:
    """Pairs (learn, ask) of rows, never splitting a person; fewer of them where a class has fewer people."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    kinds = [people[labels == label] for label in np.unique(labels)] if stratified else [people]
    count = min(INNER_FOLDS, *(len(np.unique(of)) for of in kinds), INNER_FOLDS)
    if count < 2:
        return  # nothing to choose by
    chosen = StratifiedGroupKFold if stratified else GroupKFold
    yield from chosen(count, shuffle=True, random_state=0).split(labels, labels, people)


class Ridge:
    """Linear regression, its penalty the one with the least absolute error in the inner folds."""

    def __init__(self, features: F32, labels: F64, people: NDArray[np.str_]) -> None:
        errors = np.zeros(len(RIDGE))
        for learn, ask in inner_folds(people, labels, stratified=False):
            scale = Standardised(features[learn])
            paths, offset = ridge_path(scale(features[learn]), labels[learn], RIDGE)
            errors += np.abs(scale(features[ask]) @ paths.T + offset - labels[ask, None]).sum(0)
        self.penalty = float(RIDGE[errors.argmin()] if errors.any() else RIDGE[len(RIDGE) // 2])
        self._scale = Standardised(features)
        paths, self._offset = ridge_path(self._scale(features), labels, np.array([self.penalty]))
        self._weights = paths[0]

    def __call__(self, features: F32) -> F64:
        return np.asarray(self._scale(features) @ self._weights + self._offset)


class Logistic:
    """Logistic regression, its penalty the one with the least log loss in the inner folds."""

    def __init__(self, features: F32, labels: F64, people: NDArray[np.str_]) -> None:
        losses = np.zeros(len(LOGISTIC))
        for learn, ask in inner_folds(people, labels, stratified=True):
            if len(np.unique(labels[learn])) < len(np.unique(labels)):
                continue  # stratification by greed may leave a class out; such a fold says nothing
            scale = Standardised(features[learn])
            known, asked = scale(features[learn]), scale(features[ask])
            for i, strength in enumerate(LOGISTIC):
                model = self._fitted(known, labels[learn], strength)
                said = model.predict_proba(asked)[np.arange(len(ask)), np.searchsorted(model.classes_, labels[ask])]
                losses[i] -= np.log(np.maximum(said, LEAST_P)).sum()
        self.strength = float(LOGISTIC[losses.argmin()] if losses.any() else LOGISTIC[len(LOGISTIC) // 2])
        self._scale = Standardised(features)
        self._model = self._fitted(self._scale(features), labels, self.strength)

    @staticmethod
    def _fitted(features: F64, labels: F64, strength: float) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=strength, max_iter=3000).fit(features, labels)

    def __call__(self, features: F32) -> F64:
        return np.asarray(self._model.predict_proba(self._scale(features)), np.float64)


def boosting(kind: str) -> Any:
    """Shallow trees, the same for every task. Without early stopping: its rows would be drawn across people."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    chosen = HistGradientBoostingRegressor if kind == "regression" else HistGradientBoostingClassifier
    return chosen(max_iter=120, learning_rate=0.08, max_leaf_nodes=12, min_samples_leaf=20, l2_regularization=1.0,
                  max_bins=32, early_stopping=False, random_state=0)  # fmt: skip


class Probe:
    """``told``: features to learn from; ``asked``: features to be asked about, where they are others (cross-modal)."""

    def __init__(self, name: str, told: Features, head: Head = "linear", asked: Features | None = None) -> None:
        self.name, self.head = name, head
        self._told, self._asked = told, asked or told
        self._says: Callable[[F32], F64] | None = None
        self._classes = np.zeros(0, np.int64)
        self._range = (-np.inf, np.inf)

    def fit(self, task: Task, rows: I64) -> None:
        """Fit on ``rows``."""
        features, labels, people = self._told(task)[rows], task.labels[rows], task.people[rows]
        self._range = (float(labels.min()), float(labels.max()))
        self._classes = np.unique(labels).astype(np.int64)
        if self.head == "boosting":
            model = boosting(task.kind).fit(features, labels)
            self._says = model.predict if task.kind == "regression" else model.predict_proba
        else:
            self._says = (Ridge if task.kind == "regression" else Logistic)(features, labels, people)

    def predict(self, task: Task, rows: I64) -> F64:
        """Values, no further out than any that was learned from, or probabilities (0 for a class never seen)."""
        if self._says is None:
            raise RuntimeError(f"{self.name}: predict before fit")
        said = self._says(self._asked(task)[rows])
        if task.kind == "regression":
            return np.clip(np.asarray(said, np.float64), *self._range)
        whole = np.zeros((len(rows), len(task.classes)))
        whole[:, self._classes] = said
        return whole
