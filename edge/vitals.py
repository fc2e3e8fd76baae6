"""Everything a hop says without the encoder: the wave, its quality, its beats, their rhythm.

Kept apart from the tokens so that the trainer fits the quality and rhythm models on exactly what the device sees.
"""

from dataclasses import dataclass
from statistics import median

from edge.beats import BeatDetector, BeatState
from edge.bundle import LogisticModel, RespirationModel
from edge.frontend import F32, Frontend, FrontendConfig, FrontendState
from edge.grid import Hop
from edge.quality import Quality, QualityIndex, QualityState
from edge.respiration import Respiration, RespirationState, RespirationTracker
from edge.rhythm import PulseBeat, Rhythm, RhythmState, RhythmTracker
from firmware_bridge.block import StreamInfo

CALM_RATE = 0.1  # of the new, a believable hop: a memory of some seconds of believable signal
SETTLE_HOPS = 10  # after a start the filter still rings and the beat detector knows nothing


@dataclass(frozen=True, slots=True)
class VitalSigns:
    """One hop. ``t``: its end, s since the stream's start; ``patch`` (hop,): what the encoder is given; ``readable``:
    nothing missing and the sensor on; ``good``: quality is believed (and the warm-up over); ``respiration``: a new
    estimate, None in the hops between two."""

    t: float
    patch: F32
    beats: list[PulseBeat]
    quality: Quality
    rhythm: Rhythm
    readable: bool
    good: bool
    respiration: Respiration | None


@dataclass(slots=True)
class VitalsState:
    """``origin``: the segment's first sensor index; ``hops`` since then; ``calm``: a hop's usual energy while the
    signal was believed, None before it ever was."""

    origin: int
    frontend: FrontendState
    quality: QualityState
    beats: BeatState
    rhythm: RhythmState
    respiration: RespirationState
    hops: int = 0
    calm: float | None = None

    def copy(self) -> "VitalsState":
        """A snapshot: stepping either leaves the other as it is."""
        return VitalsState(
            self.origin,
            self.frontend.copy(),
            self.quality.copy(),
            self.beats.copy(),
            self.rhythm.copy(),
            self.respiration.copy(),
            self.hops,
            self.calm,
        )


class Vitals:
    """For one stream's timing; may serve many states."""

    def __init__(
        self,
        config: FrontendConfig,
        info: StreamInfo,
        *,
        warmup_hops: int,
        quality: LogisticModel | None,
        rhythm: LogisticModel | None,
        respiration: RespirationModel | None = None,
    ) -> None:
        self.config, self.warmup_hops = config, warmup_hops
        self._period, self._grid_period = info.period_ns / 1e9, 1.0 / config.rate
        # Raw reflectance counts fall as blood volume rises; the models know pulses that rise.
        self._polarity = -1.0 if info.scale < 0 else 1.0
        self._frontend = Frontend(config)
        self._beats = BeatDetector(config.rate, info.resolution)
        self._quality = QualityIndex(config.rate, config.hop, quality)
        self._rhythm = RhythmTracker(rhythm)
        self._respiration = RespirationTracker(config.rate, config.hop, respiration)

    def start(self, origin: int) -> VitalsState:
        """The state at a segment that begins at sensor index ``origin``."""
        return VitalsState(
            origin,
            self._frontend.start(),
            self._quality.start(),
            BeatState(),
            RhythmState(),
            self._respiration.start(),
        )

    def time(self, state: VitalsState, position: float) -> float:
        """Grid position in this segment → s since the stream's start."""
        return state.origin * self._period + position * self._grid_period

    def step(self, state: VitalsState, hop: Hop) -> VitalSigns:
        """One hop; updates ``state``."""
        samples = self._polarity * hop.samples
        filtered, patch = self._frontend.step(state.frontend, samples)
        state.hops += 1
        t = self.time(state, state.hops * self.config.hop)
        positions = [beat.position for beat in self._beats.step(state.beats, filtered)]
        quality = self._quality.step(state.quality, samples, filtered, positions, hop.flags, hop.missing)
        if quality.state == "good":
            usual = median(state.frontend.energies)
            state.calm = usual if state.calm is None else state.calm + CALM_RATE * (usual - state.calm)
        settled = state.hops > SETTLE_HOPS
        readable = settled and quality.state not in ("off", "saturated", "missing")
        good = quality.state == "good" and state.hops > self.warmup_hops
        times = [self.time(state, position) for position in positions]
        beats, rhythm = self._rhythm.step(state.rhythm, t, times, readable, good)
        intervals = [(position, beat.ibi) for position, beat in zip(positions, beats, strict=True)]
        respiration = self._respiration.step(state.respiration, samples, intervals, readable, good)
        return VitalSigns(t, patch, beats, quality, rhythm, readable, good, respiration)
