"""Heart rate with its uncertainty: what the beat intervals say, or what the embedding says, whichever is surer.

Each of the two comes with the error it hardly ever exceeds, told from how it came about (a linear model of the error's
logarithm, in the bundle). Intervals of a clean pulse are hard to beat; where they contradict each other, the encoder
may know better. The interval around the rate holds its share of the truths on the people it was calibrated on
(conformalized quantile regression, Romano et al., NeurIPS 2019).
"""

import math
from dataclasses import dataclass

import numpy as np

from edge.bundle import LinearModel, RateModel
from edge.quality import Quality, check_features
from edge.rhythm import Rhythm

FEATURES = ("spread", "change", "scarcity", "log_rate", "doubt", "disagreement")
# Of an interval: differences below these are not told apart. A disagreement of 1 is a rate 2.7 times the other.
LEAST_SPREAD, LEAST_DISAGREEMENT, LARGEST_DISAGREEMENT = 0.005, 0.02, 1.0
LOG_ERRORS = (-4.0, 5.0)  # e^5 bpm: nothing is known


@dataclass(frozen=True, slots=True)
class HeartRate:
    """``bpm``, and the interval ``low`` to ``high`` that holds the truth with the model's ``level``; ``valid``: narrow
    enough to be believed, and the sensor is on."""

    bpm: float
    low: float
    high: float
    valid: bool


def rate_features(rhythm: Rhythm, quality: Quality, log_rate: float) -> dict[str, float]:
    """:data:`FEATURES`, dimensionless; empty where the intervals tell no rate.

    ``spread``: median deviation of the last 10 s' intervals from their median; ``change``: of each from the one before;
    logarithms of shares of the median. ``scarcity``: 1/√ of their number. ``log_rate``: of the intervals' rate.
    ``doubt``: 1 - ``sqi``. ``disagreement``: logarithm of how far the logarithms of the two rates are apart.
    """
    if rhythm.hr is None or len(rhythm.recent) < 2:
        return {}
    usual = 60 / rhythm.hr
    recent = np.array(rhythm.recent)
    apart = min(abs(log_rate - math.log(rhythm.hr)), LARGEST_DISAGREEMENT)
    return {
        "spread": math.log(float(np.median(np.abs(recent - usual))) / usual + LEAST_SPREAD),
        "change": math.log(float(np.median(np.abs(np.diff(recent)))) / usual + LEAST_SPREAD),
        "scarcity": 1 / math.sqrt(len(recent)),
        "log_rate": math.log(rhythm.hr),
        "doubt": 1 - quality.sqi,
        "disagreement": math.log(apart + LEAST_DISAGREEMENT),
    }


def error_bound(model: LinearModel, features: dict[str, float]) -> float:
    """Absolute error, bpm, that the model's level of cases like this one do not exceed."""
    log = model.bias + sum(weight * features[name] for name, weight in model.weights.items())
    return math.exp(min(max(log, LOG_ERRORS[0]), LOG_ERRORS[1]))


class RateEstimator:
    """Gives the rate of a hop; holds no state."""

    def __init__(self, model: RateModel) -> None:
        for error in (model.interval_error, model.readout_error):
            check_features(error, FEATURES, "rate")
        self.model = model

    def __call__(self, rhythm: Rhythm, quality: Quality, log_rate: float, *, warm: bool) -> HeartRate | None:
        """``log_rate``: the embedding's; ``warm``: the warm-up is over. None where the intervals tell no rate."""
        features = rate_features(rhythm, quality, log_rate)
        if rhythm.hr is None or not features:
            return None
        bpm, error = rhythm.hr, error_bound(self.model.interval_error, features)
        other = error_bound(self.model.readout_error, features)
        if other < error:
            bpm, error = math.exp(log_rate), other
        half = self.model.reach * error
        believed = warm and quality.state in ("good", "poor") and half <= self.model.widest
        return HeartRate(bpm, max(0.0, bpm - half), bpm + half, believed)
