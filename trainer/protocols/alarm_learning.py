"""Telling true alarms from false ones, where the kind of alarm is known: models, thresholds and folds.

Everything that is chosen (how strongly a model is held back, and above which probability an alarm is let through) is
chosen on out-of-fold probabilities of the training records alone.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from trainer.protocols.task import F32, F64, I64, Bools

Head = Literal["linear", "boosting", "kind alone", "keep all"]
FALSE_NEGATIVE = 5.0  # what suppressing a true alarm costs in the Challenge's score
ENOUGH = 10  # true and false alarms of a kind from which it gets a threshold of its own
INNER_FOLDS = 4
INVERSE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
COMPONENTS = 48  # a wide representation is reduced to before every kind gets its copy


def challenge_score(truth: Bools, said: Bools) -> float:
    """(TP + TN) / (TP + TN + FP + 5 FN), of (n,) each; 1 is best."""
    right = float((truth == said).sum())
    false_positive, false_negative = float((~truth & said).sum()), float((truth & ~said).sum())
    return right / max(1.0, right + false_positive + FALSE_NEGATIVE * false_negative)


def best_threshold(p: F64, truth: Bools) -> float:
    """The threshold (let through at or above it) with the best score on (n,); between two records where it can be."""
    values = np.unique(p)
    candidates = np.concatenate([[0.0], (values[:-1] + values[1:]) / 2, [1.0]])
    scores = [challenge_score(truth, p >= t) for t in candidates]
    return float(candidates[int(np.argmax(scores))])


def thresholds(p: F64, truth: Bools, kinds: I64, count: int) -> F64:
    """One threshold a kind, (count,); kinds with few true or false alarms share one that is chosen on all records."""
    found = np.full(count, best_threshold(p, truth))
    for kind in range(count):
        of = kinds == kind
        if min(truth[of].sum(), (~truth[of]).sum()) >= ENOUGH:
            found[kind] = best_threshold(p[of], truth[of])
    return found


def dealt_folds(strata: I64, folds: int, seed: int) -> I64:
    """The fold of each record, (n,): every stratum is shuffled and dealt out, so that even three records of one kind
    and truth lie in three folds."""
    random = np.random.default_rng(seed)
    fold = np.empty(len(strata), np.int64)
    start = 0
    for stratum in np.unique(strata):
        rows = random.permutation(np.flatnonzero(strata == stratum))
        fold[rows] = (start + np.arange(len(rows))) % folds
        start += len(rows)
    return fold


def _by_kind(x: F64, kinds: I64, count: int) -> F64:
    """The features once for all kinds and once for each: what is common is learned from all, what is a kind's own
    beside it (Daumé III, "Frustratingly Easy Domain Adaptation", ACL 2007). (n, d) → (n, count + d + count * d)."""
    one_hot = np.eye(count)[kinds]
    return np.concatenate([one_hot, x, (one_hot[:, :, None] * x[:, None, :]).reshape(len(x), -1)], axis=1)


class _Linear:
    """Logistic regression on standardised features, (n, d), shared and by kind."""

    def __init__(self, inverse_penalty: float, count: int) -> None:
        self.inverse_penalty, self.count = inverse_penalty, count
        self._prepare: Any = None
        self._model: Any = None

    def fit(self, x: F32, kinds: I64, truth: Bools) -> "_Linear":
        from sklearn.decomposition import PCA
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        steps: list[Any] = [SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()]
        if x.shape[1] > 2 * COMPONENTS:
            steps += [PCA(COMPONENTS, svd_solver="full"), StandardScaler()]
        self._prepare = make_pipeline(*steps).fit(x)
        self._model = LogisticRegression(C=self.inverse_penalty, max_iter=2000).fit(self._design(x, kinds), truth)
        return self

    def _design(self, x: F32, kinds: I64) -> F64:
        return _by_kind(np.clip(self._prepare.transform(x), -5, 5), kinds, self.count)

    def probabilities(self, x: F32, kinds: I64) -> F64:
        return np.asarray(self._model.predict_proba(self._design(x, kinds))[:, 1], np.float64)


class _Boosting:
    """Gradient boosting on the features and the kind."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._model: Any = None

    def fit(self, x: F32, kinds: I64, truth: Bools) -> "_Boosting":
        from sklearn.ensemble import HistGradientBoostingClassifier

        self._model = HistGradientBoostingClassifier(
            max_iter=80, learning_rate=0.06, max_leaf_nodes=6, min_samples_leaf=12, l2_regularization=5.0,
            max_bins=32, early_stopping=False, random_state=0,
        ).fit(self._design(x, kinds), truth)  # fmt: skip
        return self

    def _design(self, x: F32, kinds: I64) -> F64:
        return np.concatenate([np.eye(self.count)[kinds], x], axis=1)

    def probabilities(self, x: F32, kinds: I64) -> F64:
        return np.asarray(self._model.predict_proba(self._design(x, kinds))[:, 1], np.float64)


class _Shares:
    """The share of true alarms of each kind, one of each truth added: what the signals have to beat."""

    def __init__(self, count: int) -> None:
        self.shares = np.full(count, 0.5)

    def fit(self, x: F32, kinds: I64, truth: Bools) -> "_Shares":
        total = np.bincount(kinds, minlength=len(self.shares))
        self.shares = (np.bincount(kinds, truth, len(self.shares)) + 1) / (total + 2)
        return self

    def probabilities(self, x: F32, kinds: I64) -> F64:
        return np.asarray(self.shares[kinds])


Model = _Linear | _Boosting | _Shares


def _choices(head: Head, count: int) -> list[Callable[[], Model]]:
    if head == "linear":
        return [lambda c=c: _Linear(c, count) for c in INVERSE_PENALTIES]  # type: ignore[misc]
    return [lambda: _Boosting(count)] if head == "boosting" else [lambda: _Shares(count)]


def _log_loss(p: F64, truth: Bools) -> float:
    return float(-np.log(np.clip(np.where(truth, p, 1 - p), 1e-6, 1)).mean())


def _inner(make: Callable[[], Model], x: F32, kinds: I64, truth: Bools, count: int, seed: int) -> F64:
    """Out-of-fold probabilities within the training records."""
    fold = dealt_folds(2 * kinds + truth, INNER_FOLDS, seed)
    p = np.empty(len(truth))
    for i in range(INNER_FOLDS):
        learn, ask = fold != i, fold == i
        p[ask] = make().fit(x[learn], kinds[learn], truth[learn]).probabilities(x[ask], kinds[ask])
    return p


def judge_alarms(
    x: F32, kinds: I64, truth: Bools, head: Head, count: int, folds: int, seed: int, advance: Callable[[], None]
) -> tuple[F64, Bools]:
    """Out-of-fold probability that each alarm is true, and whether it is let through, (n,) each; x (n, d)."""
    p, said = np.full(len(truth), np.nan), np.ones(len(truth), bool)
    fold = dealt_folds(2 * kinds + truth, folds, seed)
    for i in range(folds):
        learn, ask = np.flatnonzero(fold != i), np.flatnonzero(fold == i)
        if head == "keep all":
            p[ask] = 1.0
        else:
            told = x[learn], kinds[learn], truth[learn]
            inner = [(make, _inner(make, *told, count, seed)) for make in _choices(head, count)]
            make, known = min(inner, key=lambda choice: _log_loss(choice[1], told[2]))
            limits = thresholds(known, told[2], told[1], count)
            p[ask] = make().fit(*told).probabilities(x[ask], kinds[ask])
            said[ask] = p[ask] >= limits[kinds[ask]]
        advance()
    return p, said
