"""How likely is it that an ECG would agree with an alarm that is about to be raised?

A pulse wave shows no beat where the heart has paused, and also where a finger is pressed, a cuff is inflated or the
detector is fooled. What the device knows at that moment tells the one from the other: how readable the wave was, how
regular the beats before, how the wave's energy went, and whether the wave repeats itself at another period than the
beats that were found in it: at half of it (beats were missed, the pulse is not slow), or only at twice of it (two
were counted for one, the pulse is not fast). One logistic model an alarm, in the bundle, makes a probability of it,
fitted where ECGs were there to agree or not: see :mod:`trainer.heads.support_head`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from edge.bundle import SupportModel
from edge.quality import Quality, check_features, logistic
from firmware_bridge.errors import BadInput

F64 = NDArray[np.float64]

ALARMS = ("pulse_lost", "brady", "tachy")
FEATURES = (
    "doubt",
    "template",
    "size_variation",
    "bursts",
    "loudness",
    "spread",
    "change",
    "limit",
    "beyond",
    "missed",
    "echo",
    "echo_half",
    "echo_double",
    "pause_echo",
    "pause_energy",
    "suddenness",
    "scarcity",
)
TOLERANCE = 0.08  # of a period: so far off an echo is looked for
FASTEST, SLOWEST = 0.25, 3.0  # s: periods a pulse can have
SHORTEST_PAUSE = 1.0  # s of pause before an echo in it says anything
PULSE_END = 0.4  # s after a beat's steepest point, in which its own wave still moves
LAST_INTERVALS = 12
LEAST_SECONDS = 0.01
LEAST_SPREAD = 0.005  # of an interval
ENERGY_RANGE = (-4.0, 4.0)  # log10


@dataclass(frozen=True, slots=True)
class Moment:
    """What the device knows at the end of a hop. ``wave`` (samples,) at ``rate`` Hz: the last seconds, band-passed;
    ``intervals``: the last countable ones, s, oldest first; ``since_beat`` s, None before any beat; ``last_hr`` bpm
    over the last beats; ``loudness``: log10 of the last 3 s' energy over the usual."""

    wave: F64
    rate: float
    intervals: list[float]
    since_beat: float | None
    last_hr: float | None
    quality: Quality
    loudness: float


def echo(wave: F64, low: int, high: int) -> float:
    """The largest normalised autocorrelation of ``wave`` (samples,) at lags from ``low`` to ``high`` samples; 0 where
    the wave is too short or flat, or nowhere repeats itself."""
    return max((_likeness(wave, lag) for lag in range(max(1, low), min(high, len(wave) // 2) + 1)), default=0.0)


def _likeness(wave: F64, lag: int) -> float:
    before, after = wave[:-lag], wave[lag:]
    norm = math.sqrt(float(before @ before) * float(after @ after))
    return max(0.0, float(before @ after) / norm) if norm > 0 else 0.0


def any_echo(wave: F64, low: int, high: int) -> float:
    """:func:`echo` at lags at which ``wave`` has ceased to be like itself by mere slowness."""
    wave = wave - wave.mean() if len(wave) else wave
    first = next((lag for lag in range(1, len(wave) // 2 + 1) if _likeness(wave, lag) == 0), None)
    return 0.0 if first is None else echo(wave, max(low, first), high)


def support_features(alarm: str, limit: float, moment: Moment) -> dict[str, float]:
    """:data:`FEATURES` of an alarm (``limit`` in bpm or s) at a moment; dimensionless, logarithms are natural unless
    said otherwise.

    ``doubt``: 1 - ``sqi``; ``template``, ``size_variation``, ``bursts``: the quality index's own features, 0 where it
    has none; ``spread`` and ``change``: log of the intervals' median deviation and median step, as shares of their
    median; ``scarcity``: 1/√ of their number; ``limit``: its logarithm; ``beyond``: log of how far past it the rate or
    the pause is; ``missed``: log of the time since a beat over the usual interval; ``echo``, ``echo_half``,
    ``echo_double``: autocorrelation of the wave at the alarm's period, at half and at twice of it;
    ``pause_echo``: the largest of the wave since the last beat, at any period of a pulse; ``pause_energy``: log10 of
    that wave's energy over the energy before it; ``suddenness``: log of the last beats' rate over that of those before.
    """
    intervals = moment.intervals[-LAST_INTERVALS:]
    usual = median(intervals) if intervals else 1.0
    since = SLOWEST if moment.since_beat is None else max(moment.since_beat, LEAST_SECONDS)
    spread = median([abs(interval - usual) for interval in intervals]) if intervals else usual
    steps = [abs(b - a) for a, b in pairwise(intervals)]
    rate = moment.last_hr if moment.last_hr is not None else 60 / usual
    period = usual if alarm == "pulse_lost" else 60 / rate
    past = {"pulse_lost": since / limit, "brady": limit / rate, "tachy": rate / limit}[alarm]
    seen = moment.quality.features
    pause = _pause(moment, since)
    earlier = median(moment.intervals[:-5]) if len(moment.intervals) > 5 else usual
    return {
        "doubt": 1 - moment.quality.sqi,
        "template": seen.get("template", 0.0),
        "size_variation": seen.get("size_variation", 0.0),
        "bursts": seen.get("loudness", 0.0),
        "loudness": float(np.clip(moment.loudness, *ENERGY_RANGE)),
        "spread": math.log(spread / usual + LEAST_SPREAD),
        "change": math.log((median(steps) if steps else usual) / usual + LEAST_SPREAD),
        "limit": math.log(limit),
        "beyond": math.log(past),
        "missed": math.log(since / usual),
        "echo": _echo_at(moment, period),
        "echo_half": _echo_at(moment, period / 2),
        "echo_double": _echo_at(moment, period * 2),
        "pause_echo": any_echo(pause, round(FASTEST * moment.rate), round(SLOWEST * moment.rate)),
        "pause_energy": _energy(pause, moment.wave),
        "suddenness": math.log(rate * earlier / 60),
        "scarcity": 1 / math.sqrt(len(intervals) + 1),
    }


def _echo_at(moment: Moment, period: float) -> float:
    samples = period * moment.rate
    return echo(moment.wave, math.floor((1 - TOLERANCE) * samples), math.ceil((1 + TOLERANCE) * samples))


def _pause(moment: Moment, since: float) -> F64:
    """The wave since the last beat, without that beat's own; empty where it is too short."""
    count = round((since - PULSE_END) * moment.rate)
    return moment.wave[-count:] if count >= SHORTEST_PAUSE * moment.rate else moment.wave[:0]


def _energy(pause: F64, wave: F64) -> float:
    before = wave[: len(wave) - len(pause)]
    if len(pause) == 0 or len(before) == 0:
        return 0.0
    during, usual = float(pause @ pause) / len(pause), float(before @ before) / len(before)
    if not (during > 0 and usual > 0):
        return ENERGY_RANGE[0]
    return float(np.clip(math.log10(during / usual), *ENERGY_RANGE))


class Support:
    """The bundle's models; holds no state. Raises :class:`BadInput` for models that this version cannot use."""

    def __init__(self, models: Mapping[str, SupportModel]) -> None:
        unknown = sorted(set(models) - set(ALARMS))
        if unknown:
            raise BadInput(f"bundle: support is for {', '.join(unknown)}; this version knows {', '.join(ALARMS)}")
        for alarm, model in models.items():
            check_features(model.model, FEATURES, f"support.{alarm}")
        self.models = dict(models)

    def judge(self, alarm: str, limit: float, moment: Moment) -> tuple[float | None, bool]:
        """How likely an ECG agrees with ``alarm``, 0–1 (None: no model says), and whether it is enough to raise it."""
        model = self.models.get(alarm)
        if model is None:
            return None, True
        support = logistic(model.model, support_features(alarm, limit, moment))
        return support, support >= model.withhold_below
