"""Heart rate from the embedding, and how far it and the beats' rate may be off.

The readout is a ridge regression of the logarithm of the ECG's rate. How far either rate is off at most, nine times in
ten, is told by quantile regression; data sets have an equal say, or the largest, which is mostly artefact, would speak
for all. ``reach`` stretches that bound until it holds on other people (conformalized quantile regression, Romano et
al., NeurIPS 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge import rate
from edge.bundle import LinearModel, LogisticModel, RateModel
from trainer.heads.observe import Observed, judged

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

RIDGE = 300.0  # on standardised features, some ten thousand examples
LEVEL = 0.90
WIDEST = 10.0  # bpm: an interval that reaches further is no rate to act on
LEAST_ERROR = 0.05  # bpm: an exact hit has a logarithm too
CORNER = 0.05  # of the pinball loss, in logarithms of an error
SHRINK = 1e-3
FACTORS = (1.0, 1.5, 2.0, 3.0, 1e9)  # 1e9: never
RATES = (20.0, 300.0)  # bpm: a linear readout may leave these on a window unlike any it knows


@dataclass(frozen=True)
class RateRows:
    """Every example where intervals and embedding tell a rate and the ECG a truth. ``features`` (n, d) of
    :data:`edge.rate.FEATURES`; ``beats``, ``readout`` and ``truth`` (n,) bpm; ``quality`` whether the quality index
    believes the pulse; ``dataset`` and ``people`` (n,)."""

    features: F64
    beats: F64
    readout: F64
    truth: F64
    quality: NDArray[np.bool_]
    dataset: NDArray[np.str_]
    people: NDArray[np.str_]


def fit_readout(some: Sequence[Observed], readable: LogisticModel) -> F32:
    """Weights for mean and standard deviation of the embedding and 1, (1, 2 dim + 1), from where the pulse is good."""
    rows, truth = [], []
    for observed in some:
        good = np.array([judged(sign, readable).state == "good" for sign in observed.signs], bool)
        use = good & np.isfinite(observed.truth) & np.isfinite(observed.pooled).all(1)
        rows.append(observed.pooled[use].astype(np.float64))
        truth.append(np.log(observed.truth[use]))
    x, y = np.concatenate(rows), np.concatenate(truth)
    mean, spread = x.mean(0), x.std(0) + 1e-9
    z = (x - mean) / spread
    slopes = np.linalg.solve(z.T @ z + RIDGE * np.eye(z.shape[1]), z.T @ (y - y.mean())) / spread
    return np.concatenate([slopes, [y.mean() - slopes @ mean]]).astype(np.float32)[None]


def read_out(table: F32, pooled: F32) -> F64:
    """Logarithm of the rate, (n, 2 dim) → (n,); NaN where the embedding was not there yet."""
    return np.asarray(np.clip(pooled @ table[0, :-1] + table[0, -1], *np.log(RATES)), np.float64)


def rate_rows(some: Sequence[Observed], readable: LogisticModel, table: F32) -> RateRows:
    """The examples of some recordings."""
    features: list[list[float]] = []
    values: list[tuple[float, float, float]] = []
    good: list[bool] = []
    origin: list[tuple[str, str]] = []
    for observed in some:
        logs = read_out(table, observed.pooled)
        for sign, log_rate, truth in zip(observed.signs, logs.tolist(), observed.truth.tolist(), strict=True):
            quality = judged(sign, readable)
            if not np.isfinite([truth, log_rate]).all() or quality.state not in ("good", "poor"):
                continue
            made = rate.rate_features(sign.rhythm, quality, log_rate)
            if not made or sign.rhythm.hr is None:
                continue
            features.append([made[name] for name in rate.FEATURES])
            values.append((sign.rhythm.hr, float(np.exp(log_rate)), truth))
            good.append(quality.state == "good")
            origin.append((observed.recording.dataset, observed.person))
    beats, readout, truths = np.array(values, np.float64).reshape(-1, 3).T
    dataset, people = np.array(origin, np.str_).reshape(-1, 2).T
    return RateRows(
        np.array(features, np.float64).reshape(-1, len(rate.FEATURES)),
        beats,
        readout,
        truths,
        np.array(good, bool),
        dataset,
        people,
    )


def equal_say(datasets: NDArray[np.str_]) -> F64:
    """Weights (n,), of sum 1, that give each data set the same say."""
    names, which, counts = np.unique(datasets, return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(names) * counts[which]))


def fit_bound(features: F64, errors: F64, weights: F64, level: float = LEVEL) -> LinearModel:
    """The error that is not exceeded in ``level`` of the cases like this one: quantile regression (Koenker & Bassett,
    Econometrica 1978) of the logarithm of the absolute ``errors`` (n,) bpm, linear in ``features``, with the corner of
    the pinball loss rounded."""
    from scipy.optimize import minimize

    mean = weights @ features
    spread = np.sqrt(weights @ (features - mean) ** 2) + 1e-9
    x = np.column_stack([(features - mean) / spread, np.ones(len(features))])
    y = np.log(errors + LEAST_ERROR)

    def loss(w: F64) -> tuple[float, F64]:
        short = (y - x @ w) / CORNER  # of the bound, positive where the error exceeds it
        value = CORNER * weights @ (level * short + np.logaddexp(0, -short))
        above = 1 / (1 + np.exp(-np.clip(short, -60, 60)))
        slope = x.T @ (weights * (1 - level - above))
        slope[:-1] += 2 * SHRINK * w[:-1]
        return float(value + SHRINK * w[:-1] @ w[:-1]), slope

    start = np.append(np.zeros(features.shape[1]), np.quantile(y, level))
    w = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    slopes = w[:-1] / spread
    named = {name: float(slope) for name, slope in zip(rate.FEATURES, slopes, strict=True)}
    return LinearModel(named, float(w[-1] - slopes @ mean))


def weighted_quantile(values: F64, weights: F64, level: float) -> float:
    """The smallest value that at least ``level`` of the weight does not exceed."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][min(np.searchsorted(total, level * total[-1]), len(values) - 1)])


def fit_rate(fitting: RateRows, calibrating: RateRows, calibrated_on: str) -> RateModel:
    """Bounds of the errors from ``fitting``'s people, the interval's reach from ``calibrating``'s."""
    weights = equal_say(fitting.dataset)
    model = RateModel(
        interval_error=fit_bound(fitting.features, np.abs(fitting.beats - fitting.truth), weights),
        readout_error=fit_bound(fitting.features, np.abs(fitting.readout - fitting.truth), weights),
        reach=1.0,
        level=LEVEL,
        widest=WIDEST,
        calibrated_on=calibrated_on,
    )
    model = _as_sure_as_useful(model, calibrating)
    bpm, error = chosen(model, calibrating)
    scaled = np.abs(bpm - calibrating.truth) / error
    reach = weighted_quantile(scaled, equal_say(calibrating.dataset), LEVEL)
    return msgspec.structs.replace(model, reach=reach)


def _as_sure_as_useful(model: RateModel, rows: RateRows) -> RateModel:
    """The embedding must be surer than the beats by the factor that serves other people best, which may be never."""
    weights = equal_say(rows.dataset)
    candidates = []
    for factor in FACTORS:
        error = model.readout_error
        held_back = msgspec.structs.replace(
            model, readout_error=LinearModel(error.weights, error.bias + float(np.log(factor)))
        )
        candidates.append((float(weights @ np.abs(chosen(held_back, rows)[0] - rows.truth)), held_back))
    return min(candidates, key=lambda candidate: candidate[0])[1]


def chosen(model: RateModel, rows: RateRows) -> tuple[F64, F64]:
    """The surer of the two rates and the bound of its error, bpm, (n,) each."""

    def error(linear: LinearModel) -> F64:
        log = rows.features @ np.array([linear.weights[name] for name in rate.FEATURES]) + linear.bias
        return np.asarray(np.exp(np.clip(log, *rate.LOG_ERRORS)))

    beats, readout = error(model.interval_error), error(model.readout_error)
    return np.where(readout < beats, rows.readout, rows.beats), np.minimum(readout, beats)


def of(rows: RateRows, keep: NDArray[np.bool_]) -> RateRows:
    """Some of the rows."""
    return replace(
        rows,
        features=rows.features[keep],
        beats=rows.beats[keep],
        readout=rows.readout[keep],
        truth=rows.truth[keep],
        quality=rows.quality[keep],
        dataset=rows.dataset[keep],
        people=rows.people[keep],
    )
