"""Is the pulse readable? Learned as: does the pulse rate agree with the ECG's?"""

from collections.abc import Sequence

import numpy as np

from edge import quality
from trainer.heads.logistic import Examples
from trainer.heads.observe import Observed

AGREE_BPM = 5.0


def examples(some: Sequence[Observed]) -> Examples:
    """One row of :data:`edge.quality.FEATURES` every few seconds; True where the pulse rate agrees with the ECG's."""
    rows: list[list[float]] = []
    labels: list[bool] = []
    people: list[str] = []
    for observed in some:
        for sign, truth in zip(observed.signs, observed.truth, strict=True):
            if sign.quality.features and np.isfinite(truth):
                rows.append([sign.quality.features[name] for name in quality.FEATURES])
                labels.append(sign.rhythm.hr is not None and abs(sign.rhythm.hr - truth) <= AGREE_BPM)
                people.append(observed.person)
    return Examples.of(rows, labels, people, len(quality.FEATURES))
