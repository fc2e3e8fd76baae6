"""Beat-aligned patches of a live pulse wave: one patch a pulse, from its foot to the next.

Causal, hop by hop, with the device's own beat detector and numpy alone, so that a student that reads beats could be
fed on the device by this very function. A pulse is known once the *next* upstroke is confirmed, one refractory time
after it, and nothing that comes later changes it.

The foot is where the tangent at the steepest point of the upstroke meets the level of the preceding minimum
("intersecting tangents": Chiu et al., Am. Heart J. 1991; the most repeatable of the usual foot points in Hemon &
Phillips, Healthc. Technol. Lett. 2016). A patch is the wave resampled to a fixed number of samples; the duration this
takes away is kept as one more input, or rhythm would be lost.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.beats import Beat, BeatDetector, BeatState

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]

SHORTEST, LONGEST = 0.25, 2.5  # s; what lies outside is no single beat
LOOK_BACK = 0.40  # s before the steepest point in which the foot is sought
TYPICAL = 0.8  # s; the duration that is told as 0
TEMPO_UNIT = 0.1  # a tenth in log seconds counts as one running RMS of the wave, in the loss as at the input


def tempo(seconds: F64) -> F64:
    """A beat's duration as the model reads it: log seconds about 0.8 s, in units of about 10 %; any shape."""
    return np.asarray(np.log(seconds / TYPICAL) / TEMPO_UNIT)


def seconds_of(tempos: F64) -> F64:
    """The inverse of :func:`tempo`."""
    return np.asarray(TYPICAL * np.exp(TEMPO_UNIT * tempos))


def beat_patch(wave: F64, start: float, stop: float, samples: int, rate: float) -> F32:
    """The beat from sample ``start`` to ``stop`` (fractional, within ``wave``): (samples + 1,) float32.

    Each sample is the mean over its share of the beat, so a long beat does not alias; the last value is the
    :func:`tempo`. The wave is taken as straight between its samples.
    """
    first, last = int(np.floor(start)), int(np.ceil(stop))
    piece = wave[first : last + 1]
    area = np.concatenate([[0.0], np.cumsum((piece[1:] + piece[:-1]) / 2)])
    edges = np.linspace(start, stop, samples + 1) - first
    whole = np.minimum(edges.astype(np.int64), len(piece) - 2)
    part = edges - whole
    to_edge = area[whole] + part * (piece[whole] + part * (piece[whole + 1] - piece[whole]) / 2)
    shape = np.diff(to_edge) * samples / (stop - start)
    return np.append(shape, tempo(np.array((stop - start) / rate))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Pulse:
    """One pulse: from foot to foot, in samples since the segment's start; two are consecutive where one's ``stop`` is
    the other's ``start``. ``patch`` (samples + 1,)."""

    start: float
    stop: float
    patch: F32


@dataclass(slots=True)
class CutterState:
    """State between hops. ``filtered`` and ``wave``, the same after the gain, end where the next hop begins; ``foot``
    is the last one found."""

    beats: BeatState = field(default_factory=BeatState)
    filtered: F64 = field(default_factory=lambda: np.zeros(0))
    wave: F64 = field(default_factory=lambda: np.zeros(0))
    foot: float | None = None


class PulseCutter:
    """Pure function of state and hop."""

    def __init__(self, rate: float, samples: int) -> None:
        """``rate`` Hz of the wave, ``samples`` of a resampled beat."""
        self.rate, self.samples = rate, samples
        self._detector = BeatDetector(rate)
        # The longest pulse, the search for its foot, and the hop and refractory time after which it is known.
        self._keep = round((LONGEST + 2.0) * rate)

    def step(self, state: CutterState, filtered: F64, patch: F32, valid: bool) -> list[Pulse]:
        """One hop as :meth:`edge.frontend.Frontend.step` gives it, (hop,) each: beats and feet are found in the
        ``filtered`` wave, which has no steps of the gain in it, and cut from the normalised ``patch``. ``valid``: none
        of it is missing, the front end has settled and the raw wave moves; after an invalid hop the cutter starts anew.

        Updates the state and returns the pulses that this hop completed, in order.
        """
        if not valid:
            state.beats = BeatState(position=state.beats.position + len(patch))
            state.filtered, state.wave, state.foot = np.zeros(0), np.zeros(0), None
            return []
        state.filtered = np.concatenate([state.filtered, filtered])[-self._keep :]
        state.wave = np.concatenate([state.wave, patch.astype(np.float64)])[-self._keep :]
        beats = self._detector.step(state.beats, filtered)
        pulses = []
        for beat in beats:
            before, state.foot = state.foot, self._foot(state, beat)
            if before is not None and state.foot is not None:
                pulses += self._between(state, before, state.foot)
        return pulses

    def _foot(self, state: CutterState, beat: Beat) -> float | None:
        origin = state.beats.position - len(state.filtered)
        top = int(beat.position) - origin
        since = max(0, top - round(LOOK_BACK * self.rate))
        if top - since < 1 or top + 1 >= len(state.filtered):
            return None
        rise = state.filtered[since : top + 1]
        low = since + len(rise) - 1 - int(np.argmin(rise[::-1]))  # the last of equal minima
        part = beat.position - origin - top
        height = (1 - part) * state.filtered[top] + part * state.filtered[top + 1] - state.filtered[low]
        return max(float(origin + low), beat.position - float(height) / beat.slope)

    def _between(self, state: CutterState, start: float, stop: float) -> list[Pulse]:
        origin = state.beats.position - len(state.wave)
        if start < origin or not SHORTEST <= (stop - start) / self.rate <= LONGEST:
            return []
        return [Pulse(start, stop, beat_patch(state.wave, start - origin, stop - origin, self.samples, self.rate))]


def cut_pulses(filtered: F64, patches: F32, valid: NDArray[np.bool_], rate: float, samples: int) -> list[Pulse]:
    """The pulses of a whole recording, (hops, hop) each: the same steps, one after the other."""
    cutter, state = PulseCutter(rate, samples), CutterState()
    hops = zip(filtered, patches, valid, strict=True)
    return [pulse for wave, patch, good in hops for pulse in cutter.step(state, wave, patch, bool(good))]
