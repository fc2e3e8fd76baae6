"""The whole-hop pipeline: ``step(state, hop) → (state, outcome)``.

Offline tokenization *is* the same steps over a file, so streaming equals offline by construction. All state is one
:class:`PipelineState` of small dataclasses: ``copy`` is a snapshot, and a segment's first hop starts afresh.
"""

from dataclasses import dataclass

import numpy as np

from edge.alarms import AlarmLimits, Alarms, AlarmState, Event, Withheld
from edge.bundle import Bundle
from edge.engines import Engine, EngineState
from edge.frontend import F32
from edge.grid import Hop
from edge.novelty import Novelty, NoveltyState
from edge.npy import read_array
from edge.observer import Observer
from edge.quality import Quality
from edge.rate import HeartRate, RateEstimator
from edge.readouts import Readouts, ReadoutState
from edge.respiration import Respiration
from edge.rhythm import PulseBeat, Rhythm
from edge.support import Support
from edge.vitals import Vitals, VitalSigns, VitalsState
from firmware_bridge.block import StreamInfo


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
    cannot be told; ``withheld``: onsets that were not raised for want of support."""

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
    withheld: list[Withheld]
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
        support = Support(manifest.support) if manifest.support is not None else None
        self._alarms = Alarms(limits or AlarmLimits(), support)
        self._observe = Observer(manifest.frontend, manifest.warmup_hops)

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
        found = self._alarms.step(state.alarms, self._observe(state.vitals, signs))
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
            ended + [event for event in found if isinstance(event, Event)],
            [event for event in found if isinstance(event, Withheld)],
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
