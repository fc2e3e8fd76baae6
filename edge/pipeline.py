"""The whole-hop pipeline: ``step(state, hop) → (state, outcome)``.

Offline tokenization *is* the same steps over a file, so streaming equals offline by construction. All state is one
:class:`PipelineState` of small dataclasses: ``copy`` is a snapshot, and a segment's first hop starts afresh.
"""

from dataclasses import dataclass

import numpy as np

from edge.alarms import AlarmLimits, Alarms, AlarmState, Event, Evidence, Observation
from edge.bundle import Bundle
from edge.engines import Engine, EngineState
from edge.frontend import F32
from edge.grid import Hop
from edge.novelty import Novelty, NoveltyState
from edge.npy import read_array
from edge.quality import Quality
from edge.rate import HeartRate, RateEstimator
from edge.readouts import Readouts, ReadoutState
from edge.respiration import Respiration
from edge.rhythm import PulseBeat, Rhythm
from edge.vitals import Vitals, VitalSigns, VitalsState
from firmware_bridge.block import StreamInfo

PAUSE_SECONDS = 3.0  # the stretch whose energy tells a lost pulse from motion


@dataclass(frozen=True, slots=True)
class Token:
    """A patch's token ``id`` and its probability ``p``; ``t`` s: the patch's start since the stream's start."""

    t: float
    id: int
    p: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one hop brought. ``t``: end of the hop, s since the stream's start; ``patch`` (hop,): what the encoder
    saw; ``embedding`` (dim,); ``token`` is None until the look-ahead is there and wherever a sample it rests on is
    missing; ``rate``: the heart rate with its uncertainty, None where it cannot be told; ``respiration``: a new
    estimate, None in the hops between two; ``surprise`` nats, smoothed, and ``novelty`` its p-value, None while they
    cannot be told."""

    t: float
    patch: F32
    embedding: F32
    token: Token | None
    beats: list[PulseBeat]
    quality: Quality
    rhythm: Rhythm
    rate: HeartRate | None
    respiration: Respiration | None
    surprise: float | None
    novelty: float | None
    events: list[Event]
    missing: int


@dataclass(slots=True)
class PipelineState:
    """Everything that lives between hops. ``clean``: hops since the last one with a missing sample."""

    vitals: VitalsState
    engine: EngineState
    novelty: NoveltyState
    alarms: dict[str, AlarmState]
    readouts: ReadoutState | None = None
    clean: int = 0
    t: float = 0.0

    def copy(self) -> "PipelineState":
        """A snapshot: stepping either leaves the other as it is."""
        alarms = {name: alarm.copy() for name, alarm in self.alarms.items()}
        readouts = self.readouts.copy() if self.readouts is not None else None
        return PipelineState(
            self.vitals.copy(), self.engine.copy(), self.novelty.copy(), alarms, readouts, self.clean, self.t
        )


class Pipeline:
    """One bundle, one engine, one stream's timing; may serve many states."""

    def __init__(self, bundle: Bundle, engine: Engine, info: StreamInfo, limits: AlarmLimits | None = None) -> None:
        manifest = bundle.manifest
        self.manifest, self.engine = manifest, engine
        self.vitals = Vitals(
            manifest.frontend,
            info,
            warmup_hops=manifest.warmup_hops,
            quality=manifest.quality,
            rhythm=manifest.rhythm,
            respiration=manifest.respiration,
        )
        self._novelty: Novelty | None = None
        if manifest.novelty is not None:
            table = read_array(bundle, manifest.novelty.transitions)
            self._novelty = Novelty(manifest.novelty, table, manifest.encoder.codebook_size)
        self._readouts: Readouts | None = None
        self._rate: RateEstimator | None = None
        if manifest.readout is not None:
            dim = manifest.encoder.heads * manifest.encoder.head_dim
            self._readouts = Readouts(manifest.readout, read_array(bundle, manifest.readout.file), dim)
            self._rate = RateEstimator(manifest.rate) if manifest.rate is not None else None
        self._alarms = Alarms(limits or AlarmLimits())
        self._pause_hops = int(np.ceil(PAUSE_SECONDS / manifest.frontend.hop_seconds))

    def start(self, origin: int = 0) -> PipelineState:
        """The state at a segment that begins at sensor index ``origin``."""
        readouts = self._readouts.start() if self._readouts is not None else None
        return PipelineState(
            self.vitals.start(origin), self.engine.start(), NoveltyState(), self._alarms.start(), readouts
        )

    def step(self, state: PipelineState | None, hop: Hop) -> tuple[PipelineState, Outcome]:
        """One hop; updates and returns the state (pass None to begin)."""
        ended: list[Event] = []
        if state is None or hop.segment is not None:
            if state is not None and hop.segment is not None:
                ended = self._alarms.end(state.alarms, state.t, hop.segment.reason)
            state = self.start(hop.segment.start if hop.segment else hop.start)
        signs = self.vitals.step(state.vitals, hop)
        output = self.engine.step(state.engine, signs.patch)
        state.clean = 0 if hop.missing else state.clean + 1
        state.t = signs.t
        token, surprise, novelty = self._tokenize(state, output.scores)
        rate = self._heart_rate(state, signs, output.embedding)
        events = self._alarms.step(state.alarms, self._observe(state, signs))
        outcome = Outcome(
            signs.t,
            signs.patch,
            output.embedding,
            token,
            signs.beats,
            signs.quality,
            signs.rhythm,
            rate,
            signs.respiration,
            surprise,
            novelty,
            ended + events,
            hop.missing,
        )
        return state, outcome

    def finish(self, state: PipelineState) -> list[Event]:
        """End what is active when the stream ends."""
        return self._alarms.end(state.alarms, state.t, "end of stream")

    def _heart_rate(self, state: PipelineState, signs: VitalSigns, embedding: F32) -> HeartRate | None:
        if self._readouts is None or state.readouts is None:
            return None
        said = self._readouts.step(state.readouts, embedding)
        if self._rate is None or "log_rate" not in said:
            return None
        warm = state.vitals.hops > self.manifest.warmup_hops
        return self._rate(signs.rhythm, signs.quality, said["log_rate"], warm=warm)

    def _tokenize(self, state: PipelineState, scores: F32) -> tuple[Token | None, float | None, float | None]:
        lookahead = self.manifest.encoder.lookahead
        if state.clean <= lookahead:
            # The token's patch, or what is seen after it, has a missing sample, or was before the segment.
            if state.clean == 0:
                state.novelty = NoveltyState()
            return None, None, None
        shifted = np.exp(scores - scores.max())
        probabilities = shifted / shifted.sum()
        best = int(scores.argmax())
        hops = state.vitals.hops
        t = self.vitals.time(state.vitals, (hops - 1 - lookahead) * self.manifest.frontend.hop)
        token = Token(t, best, float(probabilities[best]))
        if self._novelty is None or hops <= self.manifest.warmup_hops:
            return token, None, None
        surprise = self._novelty.step(state.novelty, best, probabilities)
        return token, surprise, None if surprise is None else self._novelty.p_value(surprise)

    def _observe(self, state: PipelineState, signs: VitalSigns) -> Observation:
        energies = np.asarray(state.vitals.frontend.energies)
        recent = float(energies[-self._pause_hops :].mean())
        calm = state.vitals.calm
        usual = float(np.median(energies)) if calm is None else calm
        return Observation(
            now=signs.t,
            warm=state.vitals.hops > self.manifest.warmup_hops,
            sensor=signs.quality.state,
            readable=signs.readable and signs.quality.state != "warmup",
            good=signs.good,
            last_hr=signs.rhythm.last_hr,
            p_irregular=signs.rhythm.p_irregular,
            last_beat=state.vitals.rhythm.last_beat,
            unreadable=state.vitals.rhythm.unreadable,
            calm=calm is not None,
            loudness=float(np.log10(recent / usual)) if usual > 0 and recent > 0 else 0.0,
            evidence=_evidence(signs, state.vitals.rhythm.last_beat),
        )


def _evidence(signs: VitalSigns, last_beat: float | None) -> Evidence:
    """What an alarm tells about what it saw."""
    evidence: Evidence = {"sqi": round(signs.quality.sqi, 3), "state": signs.quality.state}
    if signs.rhythm.hr is not None:
        evidence["hr"] = round(signs.rhythm.hr, 1)
    if signs.rhythm.p_irregular is not None:
        evidence["p_irregular"] = round(signs.rhythm.p_irregular, 3)
    if last_beat is not None:
        evidence["seconds_since_beat"] = round(signs.t - last_beat, 2)
    evidence.update({name: round(value, 3) for name, value in signs.rhythm.features.items()})
    return evidence
