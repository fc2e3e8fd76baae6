"""Estimates with 95 % intervals: Wilson for shares of independent cases, bootstrap over people for the rest."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from trainer.bootstrap import over_people

Z = 1.959964  # two-sided 95 %


class Estimate(msgspec.Struct, frozen=True):
    """A figure with its 95 % interval; None where there is nothing to estimate from (or nobody to resample)."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def wilson(hits: int, cases: int) -> Estimate:
    """Share of ``cases`` independent cases, with Wilson's score interval (JASA 1927), which holds for few cases."""
    if not cases:
        return Estimate()
    share = hits / cases
    centre = (share + Z**2 / (2 * cases)) / (1 + Z**2 / cases)
    half = Z / (1 + Z**2 / cases) * math.sqrt(share * (1 - share) / cases + Z**2 / (4 * cases**2))
    return Estimate(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def ratio(numerators: ArrayLike, denominators: ArrayLike, people: Sequence[str]) -> Estimate:
    """Sum over sum of one pair per record, with a bootstrap over ``people`` (each record's person)."""
    top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if not bottom.sum() > 0:
        return Estimate()

    def pooled(rows: NDArray[np.int64]) -> float:
        whole = float(bottom[rows].sum())
        return float(top[rows].sum()) / whole if whole > 0 else math.nan

    if len(set(people)) < 2:
        return Estimate(pooled(np.arange(len(top))))
    found = over_people(pooled, np.array(people))
    return Estimate(found.value, found.low, found.high)


def per_hour(counts: ArrayLike, hours: ArrayLike, people: Sequence[str]) -> Estimate:
    """Events per hour. Where nothing happened a bootstrap knows no doubt: then the exact Poisson limit is taken."""
    found = ratio(counts, hours, people)
    total = float(np.sum(np.asarray(hours, np.float64)))
    if found.value == 0:
        return Estimate(0.0, 0.0, -math.log(0.025) / total)
    return found
