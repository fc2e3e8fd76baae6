"""Recordings → paired windows of patches, through the very front end that runs on the device.

The hops of a whole recording go through :meth:`edge.frontend.Frontend.step` one after the other, so a window cut from
the middle carries the filter and gain state a live stream would have there. Windows are rows of one long array of
patches: overlapping ones share their memory.
"""

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.frontend import Frontend, FrontendConfig, FrontendState
from firmware_bridge.block import Signal
from trainer.alignment import delayed, estimate_delay
from trainer.gating import GateConfig, HopFacts, Verdict, judge
from trainer.recordings import F64, Recording
from trainer.splits import Part, part_of

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class WindowConfig:
    """The model's grid (Hz, samples a hop), the front end's bands and gain, and how windows are paired, cut and gated.

    ``ecg_delay`` (s) makes the ECG come later than it was recorded, or earlier where negative: a deliberate
    misalignment. ``align`` then moves the ECG by the estimated pulse-arrival delay, so that an R peak and the foot of
    its own pulse fall together (:mod:`trainer.alignment`). Neither touches the PPG.
    """

    rate: float = 125.0
    hop: int = 50
    hops: int = 50
    stride: int = 25
    gain_hops: int = 24
    clip: float = 5.0
    order: int = 2
    ppg_band: tuple[float, float] = (0.5, 8.0)
    ecg_band: tuple[float, float] = (0.5, 40.0)
    settle_hops: int = 5  # left out after each (re)start: the filter still rings and the gain knows nothing
    restart_gap: float = 1.0  # s; a longer gap restarts the front end, a shorter one is bridged
    gate: GateConfig = field(default_factory=GateConfig)
    align: bool = False
    ecg_delay: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """For a run folder's config and the cache's key."""
        return asdict(self)

    def frontend(self, signal: Signal) -> FrontendConfig:
        """The front end of ``signal``: Butterworth band-pass sections and running gain, as a bundle states them."""
        from scipy.signal import butter

        band = self.ppg_band if signal == "ppg" else self.ecg_band
        sos = butter(self.order, band, "bandpass", fs=self.rate, output="sos")
        return FrontendConfig(self.rate, self.hop, sos.tolist(), self.gain_hops, self.clip)


def saved_config(raw: object) -> WindowConfig | None:
    """The configuration a run folder holds (as JSON gives :meth:`WindowConfig.to_dict` back), None if it is none.

    A field that did not exist when the run was made stands at its default.
    """
    if not isinstance(raw, dict):
        return None
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    try:
        return WindowConfig(**{**values, "gate": GateConfig(**values["gate"])})
    except (TypeError, KeyError):
        return None


@dataclass(frozen=True, slots=True)
class Patches:
    """One channel of a whole recording: ``patches`` (hops, hop) float32; ``valid`` and ``flat`` (hops,); ``filtered``
    (hops, hop), the same before the gain, in the recording's units."""

    patches: F32
    valid: NDArray[np.bool_]
    flat: NDArray[np.bool_]
    filtered: F64


def _bridge(samples: F64) -> F64:
    """Missing samples filled on a straight line between their neighbours: keeps the filter's state continuous."""
    here = np.isfinite(samples)
    if here.all():
        return samples
    index = np.arange(len(samples))
    return np.asarray(np.interp(index, index[here], samples[here]) if here.any() else np.zeros(len(samples)))


def _long_gaps(missing: NDArray[np.bool_], longest: int) -> NDArray[np.bool_]:
    """True where a sample lies in a run of more than ``longest`` missing ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    gone = np.zeros(len(missing), dtype=bool)
    for start, end in edges.reshape(-1, 2):
        gone[start:end] = end - start > longest
    return gone


def _any_in_hop(samples: NDArray[np.bool_], hop: int) -> NDArray[np.bool_]:
    return np.asarray(samples.reshape(-1, hop).max(axis=1, initial=False))


def to_grid(samples: F64, rate: float, grid: float) -> F64:
    """``samples`` at ``rate`` Hz (NaN: missing) on a grid of ``grid`` Hz; a polyphase filter, offline only."""
    if rate == grid:
        return samples
    from fractions import Fraction

    from scipy.signal import resample_poly

    ratio = Fraction(grid / rate).limit_denominator(1000)
    resampled: F64 = np.asarray(resample_poly(_bridge(samples), ratio.numerator, ratio.denominator), dtype=np.float64)
    nearest = np.minimum(np.round(np.arange(len(resampled)) * rate / grid).astype(np.int64), len(samples) - 1)
    resampled[~np.isfinite(samples[nearest])] = np.nan
    return resampled


def run_frontend(samples: F64, config: WindowConfig, signal: Signal) -> Patches:
    """All hops of one channel on the grid, shape ``(n,)`` with NaN for missing, through the device's front end."""
    hop = config.hop
    count = len(samples) // hop
    samples = samples[: count * hop]
    missing = ~np.isfinite(samples)
    hops = _bridge(samples).reshape(count, hop)
    touched = _any_in_hop(missing, hop)
    gone = _any_in_hop(_long_gaps(missing, round(config.restart_gap * config.rate)), hop)
    frontend = Frontend(config.frontend(signal))
    patches, valid = np.zeros((count, hop), dtype=np.float32), np.zeros(count, dtype=bool)
    filtered = np.zeros((count, hop))
    state: FrontendState | None = None
    settled = 0
    for i in range(count):
        if gone[i]:
            state = None
            continue
        if state is None:
            state, settled = frontend.start(), i + config.settle_hops
        filtered[i], patches[i] = frontend.step(state, hops[i])
        valid[i] = not touched[i] and i >= settled
    return Patches(patches, valid, np.ptp(hops, axis=1) == 0, filtered)


@dataclass(frozen=True, slots=True)
class RecordingWindows:
    """The patches of both channels of one recording and its windows: first hop of each, and the gate's verdict."""

    ppg: F32
    ecg: F32
    starts: I64
    verdicts: NDArray[np.int8]


def paired_ecg(ppg: Patches, ecg: F64, config: WindowConfig) -> Patches:
    """The ECG's patches beside the PPG's ``ppg``: ``ecg`` (n,) on the grid, NaN for missing, moved as ``config`` says.

    The delay is estimated behind the two front ends, whose own delays differ by some 60 ms: that is where the tokens
    are made.
    """
    if config.ecg_delay:
        ecg = delayed(ecg, config.ecg_delay * config.rate)
    patches = run_frontend(ecg, config, "ecg")
    if not config.align:
        return patches
    track = estimate_delay(ppg.patches.ravel(), patches.patches.ravel(), config.rate)
    return run_frontend(delayed(ecg, track.at(np.arange(len(ecg)) / config.rate) * config.rate), config, "ecg")


def cut(recording: Recording, config: WindowConfig) -> RecordingWindows:
    """Read one recording and cut its windows, every ``stride`` hops."""
    ppg, ecg = (to_grid(channel, recording.rate, config.rate) for channel in recording.read())
    p = run_frontend(ppg, config, "ppg")
    e = paired_ecg(p, ecg, config)
    starts = np.arange(0, len(p.valid) - config.hops + 1, config.stride, dtype=np.int64)
    facts = HopFacts(p.valid & e.valid, p.flat, e.flat)
    verdicts = judge(p.patches, e.patches, facts, starts, config.hops, config.rate, config.clip, config.gate)
    return RecordingWindows(p.patches, e.patches, starts, verdicts)


@dataclass(frozen=True)
class Windows:
    """A set of paired windows.

    ``first`` is each window's row in the long arrays ``ppg_hops`` and ``ecg_hops`` (all hops, hop); ``recording``
    its place in ``recordings`` (name, patient and group); ``start`` its first hop within the recording.
    """

    ppg_hops: F32
    ecg_hops: F32
    hops: int
    first: I64
    start: I64
    recording: I64
    verdict: NDArray[np.int8]
    recordings: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, index: NDArray[np.integer] | slice) -> "Windows":
        """The windows at ``index``."""
        fields = ("first", "start", "recording", "verdict")
        return replace(self, **{name: getattr(self, name)[index] for name in fields})

    @cached_property
    def ppg(self) -> F32:
        """PPG patches, (windows, hops, hop)."""
        return self._gather(self.ppg_hops)

    @cached_property
    def ecg(self) -> F32:
        """ECG patches, (windows, hops, hop)."""
        return self._gather(self.ecg_hops)

    def signal(self, signal: Signal) -> F32:
        """The patches of one signal, (windows, hops, hop)."""
        return self.ppg if signal == "ppg" else self.ecg

    def _gather(self, rows: F32) -> F32:
        return np.asarray(rows[self.first[:, None] + np.arange(self.hops)], dtype=np.float32)

    @property
    def patients(self) -> NDArray[np.str_]:
        """Each window's patient, as ``dataset/patient``."""
        names = np.array([f"{r['dataset']}/{r['patient']}" for r in self.recordings])
        return np.asarray(names[self.recording])

    @property
    def groups(self) -> NDArray[np.str_]:
        """Each window's folder (``AF_wfdb``, ``Non_AF_wfdb``, …)."""
        return np.asarray(np.array([r["group"] for r in self.recordings])[self.recording])

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Whether each window passed the quality gate."""
        return np.asarray(self.verdict == Verdict.OK)

    def part(self, part: Part, *, gated: bool = True, overlap: bool = False, limit: int | None = None) -> "Windows":
        """The windows of one part of the split, in order of recording and time.

        ``gated`` keeps those the quality gate passed; otherwise all that have no missing sample. Without
        ``overlap`` windows that share hops with their predecessor are left out. ``limit`` keeps that many, spread
        evenly.
        """
        parts = np.array([part_of(r["dataset"], r["patient"]) for r in self.recordings])[self.recording]
        keep = (parts == part) & (self.ok if gated else self.verdict != Verdict.MISSING)
        if not overlap:
            keep &= self.start % self.hops == 0
        index = np.flatnonzero(keep)
        if limit is not None and len(index) > limit:
            index = index[np.linspace(0, len(index) - 1, limit).round().astype(np.int64)]
        return self.take(index)
