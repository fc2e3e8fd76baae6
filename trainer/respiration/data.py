"""Recordings → what the device's respiration tracker sees every few seconds, with the rate that was really breathed.

The samples go through the device's own code (:mod:`edge.vitals`, :mod:`edge.modulations`), hop by hop. To learn from, a
window is also looked at as if time ran faster or slower: people who breathe 6 or 35 times a minute are rare, and the
network should know what their windows look like, too.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge import modulations, respiration, vitals
from edge.bundle import LogisticModel
from edge.grid import Grid
from edge.modulations import Modulations, ModulationState
from edge.respiration import EVERY_SECONDS, MIN_KNOWN, SECONDS, Spectra, candidate_features
from edge.ring import SampleRing
from edge.vitals import Vitals
from firmware_bridge.block import Notice
from firmware_bridge.source import open_source
from trainer.protocols.cache import Arrays, digest, kept
from trainer.recordings import F64, Recording
from trainer.respiration import reference
from trainer.windows import WindowConfig

LONGEST = 80.0  # s kept of the modulations, so that a window can be looked at slowed down
SCALES = tuple(2.0**x for x in (-1.2, -0.9, -0.6, -0.4, -0.2, 0.2, 0.4, 0.6))  # windows of 14 to 49 s seen as 32 s
RATES = (4.5, 55.0)  # /min: scaled ones beyond are left out
PULSES = (30.0, 220.0)

Labels = Callable[[Recording, F64, float], F64 | None]


@dataclass(frozen=True)
class Breathing:
    """Windows of :data:`edge.respiration.SECONDS`, by record and time, one every
    :data:`edge.respiration.EVERY_SECONDS`.

    ``features`` (n, candidates, features) float32; ``rates`` (n,): what was breathed, /min, NaN where nobody can tell;
    ``known``: whether enough was read to say anything; ``good``: share of hops whose quality is believed; ``records``
    and ``people`` (n,): names; ``ends`` (n,) s. ``scale``: 1, or how much faster than recorded time runs.
    """

    features: NDArray[np.float32]
    rates: F64
    known: NDArray[np.bool_]
    good: F64
    records: NDArray[np.str_]
    people: NDArray[np.str_]
    ends: F64
    scale: F64

    def __len__(self) -> int:
        return len(self.rates)

    def take(self, rows: NDArray[np.bool_]) -> "Breathing":
        """The windows at ``rows``."""
        return replace(self, **{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the device sees at ``t``, and the same of the last :data:`LONGEST` seconds: (values, known) and pulse."""

    t: float
    now: tuple[F64, modulations.Mask]
    pulse: float | None
    long: tuple[F64, modulations.Mask]
    long_pulse: float | None
    good: float


def _seen(recording: Recording, config: WindowConfig, quality: LogisticModel | None) -> Iterator[_Seen]:
    """One each time the device would make an estimate."""
    source = open_source(f"wfdb:{recording.path}", "ppg")
    bridge = round(source.info.rate)
    ring = SampleRing(30 * bridge, bridge)
    frontend = config.frontend("ppg")
    grid = Grid(ring, source.info.period_ns, frontend.rate, frontend.hop)
    device = Vitals(frontend, source.info, warmup_hops=0, quality=quality, rhythm=None)
    breath, longer = (Modulations(frontend.rate, frontend.hop, seconds) for seconds in (SECONDS, LONGEST))
    every, window = (max(1, round(s / frontend.hop_seconds)) for s in (EVERY_SECONDS, SECONDS))
    state, slow, slower = device.start(0), ModulationState(), ModulationState()
    good: list[bool] = []
    for block in source:
        if isinstance(block, Notice):
            continue
        ring.write(block)
        while (hop := grid.next_hop()) is not None:
            if hop.segment is not None:
                state, good = device.start(hop.segment.start), []
                slow, slower = ModulationState(), ModulationState()
            signs = device.step(state, hop)
            origin = device.time(state, 0.0)
            beats = [((beat.t - origin) * frontend.rate, beat.ibi) for beat in signs.beats]
            samples = -hop.samples if source.info.scale < 0 else hop.samples
            breath.step(slow, samples, beats, signs.readable)
            longer.step(slower, samples, beats, signs.readable)
            good = [*good, signs.good if quality is not None else signs.readable][-window:]
            if state.hops % every == 0:
                yield _Seen(
                    signs.t, breath.window(slow), breath.pulse(slow), longer.window(slower), longer.pulse(slower),
                    sum(good) / window,
                )  # fmt: skip


def _rows(
    recording: Recording, config: WindowConfig, quality: LogisticModel | None, labels: Labels, scaled: bool
) -> list[tuple[NDArray[np.float32], float, bool, float, float, float]]:
    """(features, rate, known, good, end, scale) of each window; those of another scale only where there is a rate."""
    slow_rate = Modulations(config.rate, config.hop, SECONDS).slow_rate
    seen = [s for s in _seen(recording, config, quality) if s.t >= SECONDS]
    ends = np.array([s.t for s in seen])
    rates = labels(recording, ends, SECONDS)
    if rates is None:
        return []
    rows = []
    generator = np.random.default_rng(len(seen))
    spectra = {scale: Spectra(round(SECONDS * scale * slow_rate), slow_rate * scale) for scale in (1.0, *SCALES)}
    drawn = generator.choice(SCALES, len(seen))
    scaled_rates = {scale: labels(recording, ends, SECONDS * scale) for scale in SCALES} if scaled else {}
    for i, s in enumerate(seen):
        for scale in (1.0, float(drawn[i]))[: 1 + scaled]:
            told = rates if scale == 1 else scaled_rates[scale]
            rate = float(told[i]) * scale if told is not None else float("nan")
            own = s.pulse if scale == 1 else s.long_pulse
            pulse = None if own is None else own * scale
            if scale != 1 and not (
                s.t >= SECONDS * scale
                and RATES[0] < rate < RATES[1]
                and (pulse is None or PULSES[0] < pulse < PULSES[1])
            ):
                continue
            length = round(SECONDS * scale * slow_rate)
            values, known = s.now if scale == 1 else (s.long[0][:, -length:], s.long[1][:, -length:])
            enough = bool(known[0].mean() >= MIN_KNOWN)
            power = spectra[scale](values, known) if enough else np.zeros((len(values), len(respiration.RATES)))
            features = candidate_features(power, pulse).astype(np.float32)
            rows.append((features, rate, enough and bool(power.any()), s.good, s.t, scale))
    return rows


def breathing(
    recordings: list[Recording],
    config: WindowConfig,
    quality: LogisticModel | None,
    cache: Path,
    labels: Labels,
    *,
    scaled: bool,
    advance: Callable[[], None] = lambda: None,
) -> Breathing:
    """All windows of ``recordings``; ``scaled``: each also once at another speed of time. Kept in ``cache`` by record;
    ``advance`` after each. Raises :class:`BadInput`."""
    code = (modulations, respiration, vitals, reference, sys.modules[__name__])
    parts: list[Arrays] = []
    for recording in recordings:
        files = [recording.path.with_name(recording.path.name + end) for end in (".dat", ".breath", ".breathb")]
        key = digest(str(recording.path), config.to_dict(), quality, labels.__name__, scaled, *files, *code)

        def make(recording: Recording = recording) -> Arrays:
            rows = _rows(recording, config, quality, labels, scaled)
            shape = (len(rows), len(respiration.CANDIDATES), len(respiration.FEATURES))
            names = ("rates", "known", "good", "ends", "scale")
            columns = dict(zip(names, np.array([row[1:] for row in rows]).reshape(-1, 5).T, strict=True))
            return {"features": np.array([row[0] for row in rows], np.float32).reshape(shape), **columns}

        arrays = kept(cache, "respiration", key, make)
        count = len(arrays["rates"])
        names = {"records": recording.name, "people": f"{recording.dataset}/{recording.patient}"}
        parts.append({**arrays, **{name: np.full(count, value) for name, value in names.items()}})
        advance()
    together = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Breathing(
        features=together["features"].astype(np.float32),
        rates=together["rates"].astype(np.float64),
        known=together["known"].astype(bool),
        good=together["good"].astype(np.float64),
        records=together["records"].astype(np.str_),
        people=together["people"].astype(np.str_),
        ends=together["ends"].astype(np.float64),
        scale=together["scale"].astype(np.float64),
    )
