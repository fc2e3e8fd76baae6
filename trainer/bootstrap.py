"""Confidence intervals over people: whole persons are drawn, because windows of one person are alike."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % percentile bootstrap interval over ``people`` persons."""

    value: float
    low: float
    high: float
    people: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def over_people(
    statistic: Callable[[NDArray[np.int64]], float], people: NDArray[np.generic], draws: int = 1000, seed: int = 0
) -> Interval:
    """95 % percentile interval of ``statistic(rows)`` where rows are those of persons drawn with replacement.

    ``people`` (n,) names each row's person. Draws for which the statistic is not a number are left out.
    """
    _, person = np.unique(people, return_inverse=True)
    rows = [np.flatnonzero(person == i) for i in range(person.max() + 1)]
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        drawn = generator.integers(len(rows), size=len(rows))
        values.append(statistic(np.concatenate([rows[i] for i in drawn])))
    finite = np.array(values)[np.isfinite(values)]
    low, high = np.quantile(finite, [0.025, 0.975]) if len(finite) else (np.nan, np.nan)
    return Interval(float(statistic(np.arange(len(people)))), float(low), float(high), len(rows))
