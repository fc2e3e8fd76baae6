"""The whole-hop pipeline: ``step(state, hop) → Outcome``.

Offline tokenization *is* the same steps over a file, so streaming equals offline by construction. All state is one
:class:`PipelineState` of small dataclasses: ``copy`` is a snapshot, and a segment's first hop starts afresh.
"""

from dataclasses import dataclass

import numpy as np

from edge.alarms import AlarmLimits, Alarms, AlarmState, Event, Evidence, Observation
from edge.beats import BeatDetector, BeatState
from edge.bundle import Bundle
from edge.engines import Engine, EngineState
from edge.frontend import F32, F64, Frontend, FrontendState
from edge.grid import Hop
from edge.novelty import Novelty, NoveltyState
from edge.npy import read_array
from edge.quality import Quality, QualityIndex, QualityState
from edge.rhythm import PulseBeat, Rhythm, RhythmState, RhythmTracker
from firmware_bridge.block import StreamInfo

PAUSE_HOPS_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Token:
    """A patch's token ``id`` and its probability ``p``; ``t`` s: the patch's start since the stream's start."""

    t: float
    id: int
    p: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one hop brought. ``t``: end of the hop, s since the stream's start; ``patch``: what the encoder saw,
    (hop,); ``embedding`` (dim,); ``token`` is None while warming up and wherever a sample it rests on is missing."""

    t: float
    patch: F32
    embedding: F32
    token: Token | None
    beats: list[PulseBeat]
    quality: Quality
    rhythm: Rhythm
    novelty: float | None
    novelty_score: float | None
    events: list[Event]
    missing: int


@dataclass(slots=True)
class PipelineState:
    """Everything that lives between hops. ``origin``: the segment's first sensor index; ``clean``: hops since the
    last one with a missing sample."""

    origin: int
    hops: int
    clean: int
    frontend: FrontendState
    engine: EngineState
    quality: QualityState
    beats: BeatState
    rhythm: RhythmState
    novelty: NoveltyState
    alarms: dict[str, AlarmState]
    t: float = 0.0

    def copy(self) -> "PipelineState":
        """A snapshot: stepping either leaves the other as it is."""
        alarms = {name: AlarmState(s.onset, s.since, s.known) for name, s in self.alarms.items()}
        return PipelineState(
            self.origin,
            self.hops,
            self.clean,
            self.frontend.copy(),
            self.engine.copy(),
            self.quality.copy(),
            self.beats.copy(),
            self.rhythm.copy(),
            self.novelty.copy(),
            alarms,
            self.t,
        )


class Pipeline:
    """One bundle, one engine, one stream's timing; may serve many states."""

    def __init__(self, bundle: Bundle, engine: Engine, info: StreamInfo, limits: AlarmLimits | None = None) -> None:
        manifest = bundle.manifest
        self.manifest, self.engine = manifest, engine
        self._period = info.period_ns / 1e9
        self._polarity = -1.0 if info.scale < 0 else 1.0
        self._frontend = Frontend(manifest.frontend)
        rate, hop = manifest.frontend.rate, manifest.frontend.hop
        self._grid_period = 1.0 / rate
        self._beats = BeatDetector(rate)
        self._quality = QualityIndex(rate, hop, manifest.quality)
        self._rhythm = RhythmTracker(manifest.rhythm)
        self._novelty: Novelty | None = None
        if manifest.novelty is not None:
            table = read_array(bundle, manifest.novelty.transitions)
            self._novelty = Novelty(manifest.novelty, table, manifest.encoder.codebook_size)
        self._alarms = Alarms(limits or AlarmLimits())
        self._pause_hops = int(np.ceil(PAUSE_HOPS_SECONDS / manifest.frontend.hop_seconds))

    def start(self, origin: int = 0) -> PipelineState:
        """The state at a segment that begins at sensor index ``origin``."""
        return PipelineState(
            origin,
            0,
            0,
            self._frontend.start(),
            self.engine.start(),
            self._quality.start(),
            BeatState(),
            RhythmState(),
            NoveltyState(),
            self._alarms.start(),
        )

    def step(self, state: PipelineState | None, hop: Hop) -> tuple[PipelineState, Outcome]:
        """One hop; updates and returns the state (pass None to begin)."""
        ended: list[Event] = []
        if state is None or hop.segment is not None:
            if state is not None and hop.segment is not None:
                ended = self._alarms.end(state.alarms, state.t, hop.segment.reason)
            state = self.start(hop.segment.start if hop.segment else hop.start)
        samples = hop.samples if self._polarity > 0 else -hop.samples
        filtered, patch = self._frontend.step(state.frontend, samples)
        output = self.engine.step(state.engine, patch)
        state.hops += 1
        state.clean = 0 if hop.missing else state.clean + 1
        state.t = now = self._time(state, state.hops * len(filtered))

        positions = [beat.position for beat in self._beats.step(state.beats, filtered)]
        quality = self._quality.step(state.quality, samples, filtered, positions, hop.flags, hop.missing)
        readable = quality.state not in ("off", "flat", "saturated", "missing")
        good = quality.state == "good" and state.hops > self.manifest.warmup_hops
        times = [self._time(state, p) for p in positions]
        beats, rhythm = self._rhythm.step(state.rhythm, now, times, readable, good)
        token, p_novel, score = self._tokenize(state, output.scores)
        events = self._alarms.step(state.alarms, self._observe(state, quality, rhythm, readable, good))
        outcome = Outcome(
            now,
            patch,
            output.embedding,
            token,
            beats,
            quality,
            rhythm,
            p_novel,
            score,
            ended + events,
            hop.missing,
        )
        return state, outcome

    def finish(self, state: PipelineState) -> list[Event]:
        """End what is active when the stream ends."""
        return self._alarms.end(state.alarms, state.t, "end of stream")

    def _time(self, state: PipelineState, position: float) -> float:
        """Grid position in this segment → s since the stream's start."""
        return state.origin * self._period + position * self._grid_period

    def _tokenize(self, state: PipelineState, scores: F32) -> tuple[Token | None, float | None, float | None]:
        lookahead = self.manifest.encoder.lookahead
        if state.clean <= lookahead:
            # This token's patch, or what was seen after it, has a missing sample, or does not exist.
            if state.clean == 0:
                state.novelty = NoveltyState()
            return None, None, None
        shifted = np.exp(scores - scores.max())
        probabilities = shifted / shifted.sum()
        best = int(scores.argmax())
        hop = self.manifest.frontend.hop
        token = Token(self._time(state, (state.hops - 1 - lookahead) * hop), best, float(probabilities[best]))
        if self._novelty is None or state.hops <= self.manifest.warmup_hops:
            return token, None, None
        score = self._novelty.step(state.novelty, best, probabilities)
        return token, None if score is None else self._novelty.p_value(score), score

    def _observe(
        self, state: PipelineState, quality: Quality, rhythm: Rhythm, readable: bool, good: bool
    ) -> Observation:
        energies: F64 = np.asarray(state.frontend.energies)
        usual = float(np.median(energies))
        recent = float(energies[-self._pause_hops :].mean())
        loudness = float(np.log10(recent / usual)) if usual > 0 and recent > 0 else 0.0
        last = state.rhythm.last_beat
        evidence: Evidence = {"sqi": round(quality.sqi, 3), "state": quality.state}
        if rhythm.hr is not None:
            evidence["hr"] = round(rhythm.hr, 1)
        if rhythm.p_irregular is not None:
            evidence["p_irregular"] = round(rhythm.p_irregular, 3)
        if last is not None:
            evidence["seconds_since_beat"] = round(state.t - last, 2)
        evidence.update({name: round(value, 3) for name, value in rhythm.features.items()})
        warm = state.hops > self.manifest.warmup_hops
        return Observation(
            state.t,
            warm,
            quality.state,
            readable and quality.state != "warmup",
            good,
            rhythm.hr,
            rhythm.p_irregular,
            last,
            loudness,
            evidence,
        )
