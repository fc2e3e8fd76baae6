"""The virtual patient: ECG and PPG counts from one heart, sample by sample, and the truth behind them.

ECG: the dynamical model of McSharry et al., IEEE TBME 50:289 (2003), a trajectory around a limit cycle whose phase
pushes the voltage up and down at P, Q, R, S and T; in the amplitude form of Sameni et al., IEEE TBME 54:2172 (2007).
Here the phase runs with √RR around each R peak (Bazett) and waits in diastole, so a pause is flat and not a slow T.

PPG: every beat pushes blood into a leaky vessel (two-element windkessel) after a pulse arrival delay, directly and
once more as the reflected wave. What a beat ejects depends on the filling time before it (Frank–Starling): AF gives
pulses of changing height and, after very short intervals, none that can be seen.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.virtual.motion import Motion
from firmware_bridge.virtual.rhythm import Beat, Oscillation, Rhythm
from firmware_bridge.virtual.scenario import Scenario

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

# Phase (rad from the R peak), height (mV), width (rad).
_DEGREE = math.pi / 180
WAVES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "N": (
        (-70 * _DEGREE, 0.13, 0.20),
        (-15 * _DEGREE, -0.10, 0.09),
        (0.0, 1.10, 0.10),
        (15 * _DEGREE, -0.22, 0.10),
        (100 * _DEGREE, 0.30, 0.38),
    ),
    "A": (
        (-15 * _DEGREE, -0.10, 0.09),
        (0.0, 1.10, 0.10),
        (15 * _DEGREE, -0.22, 0.10),
        (100 * _DEGREE, 0.25, 0.38),
    ),
    "V": ((0.0, 1.35, 0.24), (38 * _DEGREE, -0.55, 0.26), (120 * _DEGREE, -0.40, 0.45)),
}
LEAK_S = 1.0  # the voltage relaxes to the baseline
INNER_RATE = 400.0  # Hz at least: a Q wave lasts 30 ms

DC = 110_000  # counts of light that comes back, of 18 bit
DEPTH = 0.018  # of DC that one unit of blood volume takes away
FULL_SCALE = 2**18 - 1
VESSEL_S = 0.42  # run-off of the vessel
ARRIVAL_S = 0.30  # R peak to foot of the pulse
EJECTION_S, EJECTION_WIDTH_S = 0.09, 0.038
REFLECTION, REFLECTION_S, REFLECTION_WIDTH_S = 0.30, 0.31, 0.055
MEAN_VOLUME = 0.6
AMBIENT = 2_500  # counts with no skin on the sensor
PPG_NOISE, ECG_NOISE_MV = 10.0, 0.008
MICROVOLT_MV = 1e-3  # one count of the ECG

REACH_S = 2.5  # how long a beat is felt


@dataclass(frozen=True, slots=True)
class Pulse:
    """Truth about one beat: R peak and foot of its pulse wave (s), and what it ejected (1 = a resting beat)."""

    beat: Beat
    foot: float
    volume: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """``n`` samples from ``index``: ``ppg`` counts (fall as blood volume rises) and ``ecg`` µV, int32 (n,); whether
    skin was on the sensor, whether the converter was at its limit, whether the cable was in, bool (n,)."""

    index: int
    ppg: I32
    ecg: I32
    contact: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    plugged: NDArray[np.bool_]


def stroke_volume(beat: Beat) -> float:
    """What ``beat`` ejects after its filling time; a ventricular beat contracts without the atria's help."""
    filled = max(0.02, 1 - math.exp(-(beat.rr - 0.24) / 0.28))
    return 1.12 * filled * (0.55 if beat.origin == "V" else 1.0)


class Body:
    """Endless samples of ``scenario`` at ``rate`` Hz; the same ``seed`` gives the same samples, however read."""

    def __init__(self, scenario: Scenario, rate: float = 100.0, seed: int = 0) -> None:
        self.scenario, self.rate = scenario, rate
        sequences = np.random.SeedSequence(seed).spawn(4)
        rhythm, self._ppg_noise, self._ecg_noise, slow = (np.random.default_rng(s) for s in sequences)
        self._seed = seed
        self.respiration = Oscillation(0.25, 0.012, slow)
        self._pressure = Oscillation(0.1, 0.01, slow)
        self._fibrillation = Oscillation(6.0, 0.5, slow)
        self._rhythm = Rhythm(scenario, self.respiration, rhythm)
        self._motion_key = (-1, -1)
        self._shaking = Motion(0.0, 0.0, 0.0, slow)
        self._pulses: list[Pulse] = []
        self._fine = max(1, math.ceil(INNER_RATE / rate))  # inner steps a sample
        self._block = max(1, round(rate / 2))  # samples made at a time, whatever is asked for
        self._voltage, self._volume = 0.0, MEAN_VOLUME
        self._made = 0
        self._ready: list[Chunk] = []
        self._read = 0

    def read(self, n: int) -> Chunk:
        """The next ``n`` samples."""
        start, end = self._read, self._read + n
        while self._made < end:
            self._ready.append(self._make())
        parts = [
            [a[max(0, start - c.index) : end - c.index] for a in (c.ppg, c.ecg, c.contact, c.saturated, c.plugged)]
            for c in self._ready
            if c.index < end and c.index + len(c.ppg) > start
        ]
        self._ready = [c for c in self._ready if c.index + len(c.ppg) > end]
        self._read = end
        return Chunk(start, *(np.concatenate(column) for column in zip(*parts, strict=True)))

    def beats(self, until: float) -> list[Beat]:
        """Truth: every beat with its R peak before ``until`` seconds."""
        self._rhythm.extend(until)
        return [beat for beat in self._rhythm.beats if beat.r < until]

    def pulses(self, until: float) -> list[Pulse]:
        """Truth: the pulse wave of every beat before ``until`` seconds, however small."""
        self._extend_pulses(until)
        return [pulse for pulse in self._pulses if pulse.beat.r < until]

    def _extend_pulses(self, until: float) -> None:
        self._rhythm.extend(until)
        for beat in self._rhythm.beats[len(self._pulses) :]:
            breath, pressure = self.respiration.at(beat.r), self._pressure.at(beat.r)
            volume = stroke_volume(beat) * (1 + 0.06 * breath)
            # Less pressure, slower wave: at low volume the pulse comes late as well as small.
            arrival = ARRIVAL_S + 0.012 * breath - 0.012 * pressure + 0.03 * (1 - min(1.0, volume))
            self._pulses.append(Pulse(beat, beat.r + arrival, volume))

    def _make(self) -> Chunk:
        index, n, fine = self._made, self._block, self._fine
        self._made += n
        inner = (index * fine + np.arange(n * fine)) / (self.rate * fine)
        t = inner[::fine]
        step = 1 / (self.rate * fine)
        ecg_push, ppg_push = self._drive(inner)
        voltage, self._voltage = _leaky(ecg_push, step, LEAK_S, self._voltage)
        volume, self._volume = _leaky(ppg_push, step, VESSEL_S, self._volume)
        states = [self.scenario.at(float(at))[0] for at in t]
        contact = np.array([s.contact for s in states])
        breath, motion = self.respiration(t), self._motion(t)
        fibrillating = np.array([s.rhythm == "af" for s in states])
        ecg = voltage[::fine] * (1 + 0.04 * breath) + 0.04 * breath + 0.15 * motion
        ecg += 0.035 * fibrillating * self._fibrillation(t)
        ecg = np.where(contact, ecg, 0.0) + ECG_NOISE_MV * self._ecg_noise.standard_normal(n)
        light = DC * (1 - DEPTH * (volume[::fine] - MEAN_VOLUME + 0.10 * breath + motion))
        light = np.where(contact, light, AMBIENT) + PPG_NOISE * self._ppg_noise.standard_normal(n)
        counts = np.round(light)
        return Chunk(
            index,
            np.clip(counts, 0, FULL_SCALE).astype(np.int32),
            np.round(ecg / MICROVOLT_MV).astype(np.int32),
            contact,
            (counts < 0) | (counts > FULL_SCALE),
            np.array([s.plugged for s in states]),
        )

    def _drive(self, t: F64) -> tuple[F64, F64]:
        """What the beats around ``t`` push into the voltage (mV/s) and the vessel (volumes/s)."""
        ecg, ppg = np.zeros(len(t)), np.zeros(len(t))
        self._extend_pulses(float(t[-1]) + 1.0)  # the P wave comes before its R peak
        for pulse in reversed(self._pulses):
            beat = pulse.beat
            if beat.r < t[0] - REACH_S:
                break
            omega = 2 * math.pi / math.sqrt(min(beat.rr, 1.1))
            phase = np.clip((t - beat.r) * omega, -math.pi, math.pi)
            for centre, height, width in WAVES[beat.origin]:
                d = phase - centre
                ecg -= height * omega / width**2 * d * np.exp(-(d**2) / (2 * width**2)) * (np.abs(phase) < math.pi)
            since = t - pulse.foot
            stretch = min(1.1, max(0.7, math.sqrt(beat.rr / 0.85)))
            ppg += pulse.volume * _bump(since, EJECTION_S, EJECTION_WIDTH_S)
            ppg += pulse.volume * REFLECTION * _bump(since, REFLECTION_S * stretch, REFLECTION_WIDTH_S)
        return ecg, ppg

    def _motion(self, t: F64) -> F64:
        out = np.zeros(len(t))
        segment, start, end = self.scenario.at(float(t[0]))
        while True:
            if segment.motion:
                key = (self._seed, round(start * 1000))
                if key != self._motion_key:
                    self._motion_key = key
                    self._shaking = Motion(start, end, segment.motion, np.random.default_rng(key))
                out += self._shaking(t)
            if end > t[-1]:
                return out
            segment, start, end = self.scenario.at(end + 1e-9)


def _bump(t: F64, centre: float, width: float) -> F64:
    """A Gaussian of unit area."""
    bump: F64 = np.exp(-(((t - centre) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))
    return bump


def _leaky(push: F64, step: float, seconds: float, state: float) -> tuple[F64, float]:
    """``dy/dt = push - y/seconds`` from ``state``; values before each push, and the state after the last."""
    out = np.empty(len(push))
    keep = math.exp(-step / seconds)
    for i, force in enumerate(push.tolist()):
        out[i] = state
        state = keep * state + step * force
    return out, state
