"""Intervals over people: hops of one person are alike, so whole people are drawn."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

REDRAWS = 2000


def bootstrap(statistic: Callable[[F64], F64], people: int, *, redraws: int = REDRAWS) -> tuple[float, float]:
    """95 % percentile interval of ``statistic`` over redrawn people.

    ``statistic`` takes weights, (redraws, people): how often each person was drawn, and returns (redraws,); values
    that are not finite (a redraw without any event) are left out.
    """
    draws = np.random.default_rng(0).multinomial(people, np.full(people, 1 / people), size=redraws)
    values = statistic(draws.astype(np.float64))
    low, high = np.nanpercentile(values[np.isfinite(values)], [2.5, 97.5])
    return float(low), float(high)
