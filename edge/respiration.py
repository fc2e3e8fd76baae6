"""Respiratory rate from the pulse wave, with its error.

Every few seconds the spectra of the modulations of the last half minute (:mod:`edge.modulations`) are laid over a grid
of candidate rates whose steps are equal ratios, so that the double and the half of each candidate lie on it as well. A
small network in the bundle, the same for every candidate, scores what it finds there; a forward filter over the grid
carries on what was believed, because a breathing rate drifts and seldom jumps. The rate is the median of that belief,
and its error half the width of the belief's middle 68 %, scaled to what it proved to be on people the network was not
fitted on.

Without a model in the bundle the rates of baseline, amplitude and interval are averaged where they agree (Smart Fusion,
Karlen et al., IEEE TBME 2013).
"""

from dataclasses import dataclass, field

import numpy as np

from edge.bundle import RespirationModel
from edge.modulations import F64, MODULATIONS, Mask, Modulations, ModulationState
from firmware_bridge.errors import BadInput

SECONDS = 32.0  # of wave a spectrum looks at
EVERY_SECONDS = 4.0  # between two estimates
STEPS = 16  # candidates an octave
LOWEST, OCTAVES = 4.0, 4  # /min: candidates from 4 to 64 breaths a minute
BAND = round(3.6 * STEPS)  # candidates up to 48 /min: where power is measured in units of its mean
FLOOR = 1e-3  # of that mean
MIN_KNOWN, MIN_GOOD = 0.9, 0.5  # share of the window that must be read, and believed, for a valid rate
LEAST_KNOWN = 0.3  # below this share a modulation says nothing
FUSED, AGREE = ("baseline", "amplitude", "interval"), 4.0  # Smart Fusion: at most this standard deviation, /min
DRIFT_BELOW = 6.0  # /min: there, a spectrum's largest peak is drift more often than breath

RATES = LOWEST / 2 * 2.0 ** (np.arange((OCTAVES + 2) * STEPS) / STEPS)  # half the lowest to twice the highest, /min
CANDIDATES = RATES[STEPS : (OCTAVES + 1) * STEPS]
_LOG = np.log2(CANDIDATES)
_EDGES = np.append(_LOG, _LOG[-1] + 1 / STEPS) - 0.5 / STEPS
_PARTS = ("", " double", " half")

FEATURES = (
    *(f"{name}{part}" for name in (*MODULATIONS, "mean") for part in _PARTS),
    "at the pulse",
    "above half the pulse",
    "octaves",
    "octaves squared",
)


@dataclass(frozen=True, slots=True)
class Respiration:
    """``rate`` breaths a minute and its ``error`` (one standard error, /min), None where nothing can be told;
    ``valid``: the window was read and believed, and the error is small enough."""

    rate: float | None
    error: float | None
    valid: bool


@dataclass(slots=True)
class RespirationState:
    """``belief`` (candidates,): probability of each; ``good``: the window's hops, believed or not; ``hops`` since the
    segment's start."""

    modulations: ModulationState
    belief: F64
    good: list[bool] = field(default_factory=list)
    hops: int = 0

    def copy(self) -> "RespirationState":
        """A snapshot; a belief is replaced, never written to."""
        return RespirationState(self.modulations.copy(), self.belief, list(self.good), self.hops)


class Spectra:
    """Amplitude of each modulation at :data:`RATES`, in windows of one length."""

    def __init__(self, length: int, slow_rate: float) -> None:
        self._taper = np.hanning(length + 2)[1:-1]
        t = np.linspace(-1, 1, length)
        self._trend = np.stack([np.ones(length), t, t * t], axis=1)
        turn = 2 * np.pi / 60 / slow_rate * np.outer(np.arange(length), RATES)
        self._waves = np.concatenate([np.cos(turn), np.sin(turn)], axis=1)

    def __call__(self, values: F64, known: Mask) -> F64:
        """Power (modulations, rates) of (modulations, length), a parabola taken out; 0 where too little is known."""
        weight = known * self._taper
        moments = np.einsum("ti,ct,tj->cij", self._trend, weight, self._trend) + 1e-9 * np.eye(3)
        trend = np.linalg.solve(moments, ((weight * values) @ self._trend)[..., None])[..., 0]
        waves = ((values - trend @ self._trend.T) * weight) @ self._waves
        power = waves[:, : len(RATES)] ** 2 + waves[:, len(RATES) :] ** 2
        return np.asarray(np.where(weight.sum(1, keepdims=True) > LEAST_KNOWN * self._taper.sum(), power, 0.0))


def relative_power(power: F64) -> F64:
    """Power in units of its mean over the breathing band, (…, rates); 0 stays 0."""
    mean = power[..., STEPS : STEPS + BAND].mean(-1, keepdims=True)
    return np.asarray(np.divide(power, mean, out=np.zeros_like(power), where=mean > 0))


def candidate_features(power: F64, pulse: float | None) -> F64:
    """(candidates, :data:`FEATURES`) from :class:`Spectra`'s power and the pulse rate in the same window, /min."""
    relative = relative_power(power)
    told = relative.max(1, keepdims=True) > 0
    logs = np.where(told, np.log(relative + FLOOR), 0.0)
    mean = np.log(relative.mean(0) + FLOOR)[None] if told.any() else np.zeros((1, len(RATES)))
    logs = np.concatenate([logs, mean])
    count = len(CANDIDATES)
    columns = [row[start : start + count] for row in logs for start in (STEPS, 2 * STEPS, 0)]
    near = np.full(count, -9.0) if pulse is None else _LOG - np.log2(pulse)
    octaves = _LOG - np.log2(18.0)
    columns += [np.exp(-0.5 * (near / 0.06) ** 2), np.maximum(0.0, near + 1), octaves, octaves**2]
    return np.stack(columns, axis=1)


class Network:
    """One hidden layer, the same for every candidate."""

    def __init__(self, model: RespirationModel) -> None:
        units = len(model.output)
        self._hidden, self._bias, self._output = np.array(model.hidden), np.array(model.bias), np.array(model.output)
        if self._hidden.shape != (units, len(FEATURES)) or self._bias.shape != (units,):
            raise BadInput(
                f"bundle: respiration.hidden must be {units} rows of {len(FEATURES)} and bias {units} numbers; "
                "make the bundle again with `pulsecode quantize`"
            )

    def scores(self, features: F64) -> F64:
        """Logarithm of the evidence for each candidate, (…, candidates), of (…, candidates, features)."""
        return np.asarray(np.tanh(features @ self._hidden.T + self._bias) @ self._output)


class ForwardFilter:
    """Belief over the candidates: it spreads between two estimates, and each one's evidence sharpens it."""

    def __init__(self, evidence: float, drift: float, leak: float) -> None:
        """``evidence``: how much a window adds to those it overlaps; ``drift``: octaves from one estimate to the next;
        ``leak``: the chance that the rate jumps anywhere."""
        spread = np.exp(-0.5 * ((_LOG[:, None] - _LOG[None]) / drift) ** 2)
        count = len(_LOG)
        self._spread = (1 - leak) * spread / spread.sum(0) + leak / count
        self._evidence = evidence

    def step(self, belief: F64, scores: F64 | None) -> F64:
        """``scores`` (candidates,), None where nothing could be read."""
        belief = self._spread @ belief
        if scores is not None:
            told = np.log(belief) + self._evidence * scores
            belief = np.exp(told - told.max())
        return np.asarray(belief / belief.sum())


def quantiles(belief: F64, levels: tuple[float, ...]) -> list[float]:
    """The belief's quantiles, /min."""
    return [float(2**q) for q in np.interp(levels, np.append(0.0, np.cumsum(belief)), _EDGES)]


def rate_and_width(belief: F64) -> tuple[float, float]:
    """Median of the belief and half the width of its middle 68 %, /min."""
    low, middle, high = quantiles(belief, (0.16, 0.5, 0.84))
    return middle, (high - low) / 2


def smart_fusion(power: F64) -> tuple[float, float, bool] | None:
    """Mean and standard deviation of the three rates, /min, and whether they agree; None where one is missing."""
    first = int(np.searchsorted(CANDIDATES, DRIFT_BELOW))
    rows = power[[MODULATIONS.index(name) for name in FUSED], STEPS + first : STEPS + BAND]
    if not (rows.max(1) > 0).all():
        return None
    rates = CANDIDATES[first + rows.argmax(1)]
    spread = float(rates.std(ddof=1))
    return float(rates.mean()), spread, spread <= AGREE


class Learned:
    """A bundle's model at work."""

    def __init__(self, model: RespirationModel) -> None:
        self.model, self.network = model, Network(model)
        self.filter = ForwardFilter(model.evidence, model.drift, model.leak)

    def step(self, belief: F64, power: F64 | None, pulse: float | None) -> tuple[F64, tuple[float, float, bool] | None]:
        """The new belief, and the rate, its error and whether that is small enough; ``power`` is None where too little
        was read to tell."""
        scores = None
        if power is not None and power.any():
            scores = self.network.scores(candidate_features(power, pulse))
        belief = self.filter.step(belief, scores)
        if scores is None:
            return belief, None
        rate, width = rate_and_width(belief)
        error = self.model.reach * width
        return belief, (rate, error, error <= self.model.max_error)


class RespirationTracker:
    """``step`` takes each hop; an estimate comes every :data:`EVERY_SECONDS`."""

    def __init__(self, rate: float, hop: int, model: RespirationModel | None) -> None:
        self.modulations = Modulations(rate, hop, SECONDS)
        self._spectra = Spectra(self.modulations.length, self.modulations.slow_rate)
        self._learned = None if model is None else Learned(model)
        self._every = max(1, round(EVERY_SECONDS * rate / hop))
        self._window = round(SECONDS * rate / hop)

    def start(self) -> RespirationState:
        """The state at the start of a segment."""
        return RespirationState(ModulationState(), np.full(len(CANDIDATES), 1 / len(CANDIDATES)))

    def step(
        self,
        state: RespirationState,
        samples: F64,
        beats: list[tuple[float, float | None]],
        readable: bool,
        good: bool,
    ) -> Respiration | None:
        """The new estimate, None between two. ``samples`` (hop,): raw, upright; ``beats``: position (grid samples since
        the segment's start) and interval (s, None where it does not count) of those confirmed in this hop."""
        self.modulations.step(state.modulations, samples, beats, readable)
        state.good = [*state.good, good][-self._window :]
        state.hops += 1
        if state.hops % self._every:
            return None
        values, known = self.modulations.window(state.modulations)
        power = self._spectra(values, known) if known[0].mean() >= MIN_KNOWN else None
        if self._learned is not None:
            pulse = self.modulations.pulse(state.modulations)
            state.belief, told = self._learned.step(state.belief, power, pulse)
        else:
            told = None if power is None else smart_fusion(power)
        if told is None:
            return Respiration(None, None, False)
        rate, error, sure = told
        return Respiration(rate, error, sure and sum(state.good) >= MIN_GOOD * self._window)
