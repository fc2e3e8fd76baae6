"""How likely an ECG agrees with an alarm that is about to be raised, and whether a hardly supported one is withheld.

One logistic model an alarm. There are few people with a true alarm, and many features that could tell one by chance:
so features are taken one by one, by how much they improve the probabilities of people left out, up to four; where none
clearly does, support is the share of true alarms. Whether alarms are withheld is decided on people left out, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle import LogisticModel, SupportModel
from edge.support import FEATURES
from trainer.heads.logistic import Examples, fit, probabilities
from trainer.heads.onsets import Onset, Onsets
from trainer.heads.people import kin

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]

FOLDS = 5
MOST_FEATURES = 4
SOON = 10  # hops from its onset, in which a true alarm must be raised
LEAST_WITHHELD = 0.10  # of the false ones: for fewer no true one is risked
FEWEST = 20  # people with a true one, and with a false one: with none lost, at most one person in seven is (95 %)
RIDGE, OWN_WEIGHT = 0.001, 10.0  # of the embedding's numbers; so much less for the features
MARGIN = 0.8  # of the least support that a true alarm had


@dataclass(frozen=True)
class Rows:
    """Onsets of one alarm. ``examples``: all :data:`edge.support.FEATURES` at the onset, whether the ECG agrees, and
    who; ``default`` (n,): at the device's own limit; ``onsets`` (n,)."""

    examples: Examples
    default: Bools
    onsets: list[Onset]

    def __len__(self) -> int:
        return len(self.onsets)


def rows_of(some: Sequence[Onsets], alarm: str) -> Rows:
    """Every onset of ``alarm`` in some recordings."""
    pairs = [(kin(part.recording), onset) for part in some for onset in part.found if onset.alarm == alarm]
    found = [onset for _, onset in pairs]
    people, labels = [person for person, _ in pairs], [onset.agrees for onset in found]
    examples = Examples.of([onset.features[0].tolist() for onset in found], labels, people, len(FEATURES))
    return Rows(examples, np.array([onset.default for onset in found], bool), found)


def folds(examples: Examples) -> I64:
    """Each example's fold, (n,): whole persons, those with most of the rarer label dealt out first."""
    rare = examples.labels if examples.labels.mean() < 0.5 else ~examples.labels
    people, which = np.unique(examples.people, return_inverse=True)
    order = np.argsort(-np.bincount(which, rare, len(people)), kind="stable")
    fold = np.empty(len(people), np.int64)
    fold[order] = np.arange(len(people)) % FOLDS
    return fold[which]


def fitted(examples: Examples, names: Sequence[str], calibrated_on: str) -> LogisticModel:
    """A model of the features ``names``; of none, the share of true ones."""
    if names and 0 < examples.labels.mean() < 1:
        return fit(_only(examples, names), tuple(names), calibrated_on)
    share = (examples.labels.sum() + 1) / (len(examples) + 2)
    return LogisticModel({}, float(np.log(share / (1 - share))), calibrated_on)


def out_of_fold(examples: Examples, names: Sequence[str]) -> F64:
    """Each example's probability, (n,), by a model that its person had no part in."""
    said, fold = np.empty(len(examples)), folds(examples)
    for i in np.unique(fold):
        model = fitted(_some(examples, fold != i), names, "")
        said[fold == i] = supported(model, _some(examples, fold == i))
    return said


def log_loss(said: F64, labels: Bools) -> float:
    """Mean negative log likelihood, nats."""
    return float(_losses(said, labels).mean())


def _losses(said: F64, labels: Bools) -> F64:
    return np.asarray(-np.log(np.clip(np.where(labels, said, 1 - said), 1e-9, 1)))


def choose(examples: Examples) -> tuple[str, ...]:
    """The features that a model should have: of the sets that grow by the best feature each, the smallest that is worse
    than the best set by no more than one standard error (the rule of Breiman et al., CART, 1984), on people left out.
    """
    sets: list[tuple[str, ...]] = [()]
    losses = [_losses(out_of_fold(examples, ()), examples.labels)]
    while len(sets) <= MOST_FEATURES:
        tried = {
            name: _losses(out_of_fold(examples, (*sets[-1], name)), examples.labels)
            for name in FEATURES
            if name not in sets[-1]
        }
        name = min(tried, key=lambda candidate: float(tried[candidate].mean()))
        sets.append((*sets[-1], name))
        losses.append(tried[name])
    best = min(losses, key=lambda loss: float(loss.mean()))
    return next(
        names
        for names, loss in zip(sets, losses, strict=True)
        if (loss - best).mean() <= _standard_error(loss - best, examples.people)
    )


def _standard_error(values: F64, people: NDArray[np.str_]) -> float:
    """Of the mean of ``values`` (n,), whole persons being independent."""
    _, which = np.unique(people, return_inverse=True)
    return float(np.sqrt((np.bincount(which, values - values.mean()) ** 2).sum())) / len(values)


def withhold_below(rows: Rows, names: Sequence[str]) -> float:
    """The support below which an alarm is better withheld, 0 for none.

    Judged at the device's own limits, on people left out: no true alarm may be lost or come later than
    :data:`SOON` hops, and enough of the false ones must go. Too few people with either decide nothing.
    """
    fold, people = folds(rows.examples), rows.examples.people
    labels = rows.examples.labels
    if min(len(np.unique(people[rows.default & (labels == agrees)])) for agrees in (True, False)) < FEWEST:
        return 0.0
    true: list[float] = []
    false: list[float] = []
    for i in np.unique(fold):
        model = fitted(_some(rows.examples, fold != i), names, "")
        for at in np.flatnonzero((fold == i) & rows.default):
            onset = rows.onsets[at]
            (true if onset.agrees else false).append(best_support(model, onset, SOON if onset.agrees else None))
    threshold = MARGIN * min(true)
    return threshold if np.mean(np.array(false) < threshold) >= LEAST_WITHHELD else 0.0


def best_support(model: LogisticModel, onset: Onset, hops: int | None = None) -> float:
    """The most support that an alarm has at any hop of its spell, or of the first ``hops``."""
    count = len(onset.features[:hops])
    spell = Examples.of(onset.features[:hops].tolist(), [True] * count, [""] * count, len(FEATURES))
    return float(supported(model, spell).max())


def fit_support(rows: Rows, calibrated_on: str) -> SupportModel:
    """The model of one alarm, and its threshold."""
    names = choose(rows.examples)
    return SupportModel(fitted(rows.examples, names, calibrated_on), withhold_below(rows, names))


def with_embedding(known: Rows, asked: Rows, names: Sequence[str]) -> tuple[float, float]:
    """Log loss, nats, if the model also read the embedding, pooled over its last seconds: on the people of ``known``
    left out in turn, and on those of ``asked`` by all of ``known``.

    Ridge-penalised: it has hundreds of numbers for a few people's alarms.
    """
    from sklearn.linear_model import LogisticRegression

    everybody = np.concatenate([_embedded(rows, names) for rows in (known, asked)])
    mean, spread = everybody.mean(0), everybody.std(0) + 1e-9
    weight = np.where(np.arange(everybody.shape[1]) < len(names), OWN_WEIGHT, 1.0)
    x = (everybody - mean) / spread * weight
    x, other = x[: len(known)], x[len(known) :]
    labels, fold, said = known.examples.labels, folds(known.examples), np.empty(len(known))

    def model(keep: Bools) -> Any:
        return LogisticRegression(C=RIDGE, max_iter=1000).fit(x[keep], labels[keep])

    for i in np.unique(fold):
        said[fold == i] = model(fold != i).predict_proba(x[fold == i])[:, 1]
    on_others = model(np.ones(len(x), bool)).predict_proba(other)[:, 1]
    return log_loss(said, labels), log_loss(on_others, asked.examples.labels)


def _embedded(rows: Rows, names: Sequence[str]) -> F64:
    """The named features and the pooled embedding, zeros where it was not there yet."""
    embedding = np.nan_to_num(np.stack([onset.pooled for onset in rows.onsets]).astype(np.float64))
    return np.concatenate([_only(rows.examples, names).features, embedding], axis=1)


def supported(model: LogisticModel, examples: Examples) -> F64:
    """What the device would say of examples with all features, (n,)."""
    names = tuple(model.weights)
    return probabilities(model, _only(examples, names), names)


def _only(examples: Examples, names: Sequence[str]) -> Examples:
    columns = [FEATURES.index(name) for name in names]
    return Examples(examples.features[:, columns], examples.labels, examples.people)


def _some(examples: Examples, keep: Bools) -> Examples:
    return Examples(examples.features[keep], examples.labels[keep], examples.people[keep])
