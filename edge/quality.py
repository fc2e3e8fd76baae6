"""Signal quality: can this pulse wave be believed?

The index compares each beat with the median beat of the last seconds (the template idea of Orphanidou et al., IEEE
JBHI 2015), how much the beats' sizes vary, and how far the loudest hop stands above the usual one; a small logistic
model in the bundle turns the three into a probability that the pulse rate agrees with the ECG's.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle import LinearModel, LogisticModel
from firmware_bridge.block import Flag
from firmware_bridge.errors import BadInput

WINDOW_SECONDS = 8.0
BEFORE, AFTER = 0.25, 0.35  # s of wave around a beat's steepest point
MIN_BEATS = 3
FLAT_SECONDS = 1.6
OFF_SECONDS = 10.0  # no circulation leaves a wave so flat for this long without moving its level
GOOD = 0.5

F64 = NDArray[np.float64]
State = Literal["warmup", "good", "poor", "flat", "off", "saturated", "missing"]

FEATURES = ("template", "size_variation", "loudness")


@dataclass(frozen=True, slots=True)
class Quality:
    """``sqi`` 0–1 (0 while nothing can be said); ``loudness``: log10 of this window's loudest over median hop."""

    sqi: float
    state: State
    features: dict[str, float]


@dataclass(slots=True)
class QualityState:
    """The last seconds of band-passed wave and the beats in it, by grid position."""

    wave: F64
    position: int = 0
    beats: list[float] = field(default_factory=list)
    flat_hops: int = 0
    levels: list[tuple[float, float]] = field(default_factory=list)  # least and largest raw count of recent hops

    def copy(self) -> "QualityState":
        return QualityState(self.wave.copy(), self.position, list(self.beats), self.flat_hops, list(self.levels))


def logistic(model: LogisticModel, features: dict[str, float]) -> float:
    """Probability under a bundle's logistic model; features it gives no weight are ignored."""
    z = model.bias + sum(weight * features[name] for name, weight in model.weights.items())
    return float(1 / (1 + np.exp(-np.clip(z, -60, 60))))


def check_features(model: LogisticModel | LinearModel | None, known: tuple[str, ...], head: str) -> None:
    """Refuse a bundle's model that asks for features we do not make; raises :class:`BadInput`."""
    unknown = sorted(set(model.weights) - set(known)) if model is not None else []
    if unknown:
        raise BadInput(f"bundle: {head} has weights for {', '.join(unknown)}; this version knows {', '.join(known)}")


class QualityIndex:
    """``step`` takes each hop's raw samples, band-passed wave and confirmed beats."""

    def __init__(self, rate: float, hop: int, model: LogisticModel | None) -> None:
        check_features(model, FEATURES, "quality")
        self.hop, self.model = hop, model
        self._window = round(WINDOW_SECONDS * rate / hop) * hop
        self._before, self._after = round(BEFORE * rate), round(AFTER * rate)
        self._flat_limit = int(np.ceil(FLAT_SECONDS * rate / hop))
        self._off_limit = int(np.ceil(OFF_SECONDS * rate / hop))

    def start(self) -> QualityState:
        """The state at the start of a segment."""
        return QualityState(np.zeros(0))

    def step(
        self, state: QualityState, raw: F64, filtered: F64, beats: list[float], flags: Flag, missing: int
    ) -> Quality:
        """``beats``: grid positions confirmed in this hop; updates ``state``."""
        state.wave = np.concatenate([state.wave, filtered])[-self._window :]
        state.position += self.hop
        start = state.position - len(state.wave)
        state.beats = [b for b in (*state.beats, *beats) if b >= start + self._before]
        low, high = float(raw.min()), float(raw.max())
        flat = high - low <= 1e-9 * max(1.0, abs(low))
        state.flat_hops = state.flat_hops + 1 if flat else 0
        if not flat:
            state.levels = [*state.levels, (low, high)][-self._window // self.hop :]
        features = self._features(state, start)
        sqi = logistic(self.model, features) if self.model is not None and features else 0.0
        label = self._label(state, low, sqi, flags, missing)
        return Quality(sqi if label in ("good", "poor") else 0.0, label, features)

    def _label(self, state: QualityState, level: float, sqi: float, flags: Flag, missing: int) -> State:
        if flags & Flag.NO_CONTACT:
            return "off"
        if state.flat_hops >= self._flat_limit:
            # A pulse that stopped leaves the wave near where it was; a sensor that came off leaves it at a rail.
            return "flat" if self._near_recent_levels(state, level) and state.flat_hops < self._off_limit else "off"
        if flags & Flag.SATURATED:
            return "saturated"
        if missing:
            return "missing"
        if len(state.wave) < self._window:
            return "warmup"
        return "good" if sqi >= GOOD else "poor"

    @staticmethod
    def _near_recent_levels(state: QualityState, level: float) -> bool:
        if not state.levels:
            return False
        low = min(low for low, _ in state.levels)
        high = max(high for _, high in state.levels)
        return low - (high - low) <= level <= high + (high - low)

    def _features(self, state: QualityState, start: int) -> dict[str, float]:
        at = [round(b) - start for b in state.beats]
        whole = [i for i in at if i >= self._before and i + self._after <= len(state.wave)]
        if len(whole) < MIN_BEATS:
            return {}
        cut = np.stack([state.wave[i - self._before : i + self._after] for i in whole])
        cut -= cut.mean(1, keepdims=True)
        sizes = np.linalg.norm(cut, axis=1)
        shapes = cut / np.where(sizes > 0, sizes, 1.0)[:, None]
        template = np.median(shapes, 0)
        norm = float(np.linalg.norm(template))
        hops = state.wave[len(state.wave) % self.hop :].reshape(-1, self.hop)
        energy = (hops**2).mean(1)
        usual = float(np.median(energy))
        return {
            "template": float((shapes @ template).mean()) / norm if norm > 0 else 0.0,
            "size_variation": float(sizes.std() / sizes.mean()) if sizes.mean() > 0 else 0.0,
            "loudness": float(np.log10(energy.max() / usual)) if usual > 0 else 0.0,
        }
