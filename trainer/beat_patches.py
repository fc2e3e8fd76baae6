"""Beat-aligned patches beside fixed ones: each pulse from foot to foot, with the ECG of the heartbeat that caused it.

Both beats are resampled to the same number of samples and carry their duration as one more value
(:func:`trainer.pulse_cutter.tempo`), so a beat is one patch of ``samples + 1`` values and everything that learns from
fixed patches learns from these. The pulse wave is cut by the causal :class:`trainer.pulse_cutter.PulseCutter`; the ECG,
which only the teacher sees, from R peak to R peak.

Which R peak caused a pulse is not simply the last one before its foot: a monitor adds delays of its own, and at 120 bpm
a pulse that arrives after 0.55 s comes after the *next* R peak. So the delay of the recording is estimated first
(:mod:`trainer.alignment`), and the R peak is sought around the foot less that delay.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.alignment import DelayTrack, estimate_delay
from trainer.gating import Verdict, r_peaks
from trainer.pulse_cutter import LONGEST, SHORTEST, beat_patch, cut_pulses
from trainer.recordings import Recording
from trainer.splits import Part
from trainer.windows import F32, I64, Patches, WindowConfig, Windows, run_frontend, saved_config, to_grid


@dataclass(frozen=True)
class BeatConfig:
    """How beats are cut: ``samples`` of a resampled beat; ``beats`` a window and ``stride`` beats between windows.

    ``near`` (s): how far from the recording's own delay a pulse may arrive after its R peak. ``alike``: the largest
    difference of the logarithms of the two beats' durations; more is a missed beat or a pulse that never came.
    """

    samples: int = 64
    beats: int = 27  # about 20 s; training at one phase leaves the last one out
    stride: int = 13
    near: float = 0.15
    alike: float = 0.35
    windows: WindowConfig = field(default_factory=WindowConfig)

    @property
    def hop(self) -> int:
        """Values of a patch: the samples and the tempo."""
        return self.samples + 1

    @property
    def hops(self) -> int:
        """Patches of a window."""
        return self.beats

    @property
    def rate(self) -> float:
        """Hz of the grid the beats are cut from."""
        return self.windows.rate

    def to_dict(self) -> dict[str, object]:
        """For a run folder's config and the cache's key."""
        return asdict(self)


def saved_beat_config(raw: object) -> BeatConfig | None:
    """The configuration a run folder holds (as JSON gives :meth:`BeatConfig.to_dict` back), None if it is none."""
    if not isinstance(raw, dict):
        return None
    grid = saved_config(raw.get("windows"))
    try:
        return None if grid is None else BeatConfig(**{**raw, "windows": grid})
    except TypeError:
        return None


@dataclass(frozen=True)
class WaveOnly:
    """An augmentation of the wave alone: a patch's last value, its tempo, is not of the sensor's making."""

    augmentation: Callable[[Tensor], Tensor]

    def __call__(self, patches: Tensor) -> Tensor:
        """(batch, patches, samples + 1) → same shape."""
        return torch.cat([self.augmentation(patches[..., :-1]), patches[..., -1:]], -1)


@dataclass(frozen=True)
class BeatWindows(Windows):
    """:class:`trainer.windows.Windows` whose patches are beats, ``start`` counts beats.

    ``ppg_hops`` and ``ecg_hops`` are (all beats, samples + 1); a pulse without a heartbeat has zeros there, but never
    in an ``ok`` window.

    ``seconds`` (all beats, 2): when each pulse begins and ends in its recording; ``owner`` (all beats,): its recording.
    """

    seconds: NDArray[np.float64]
    owner: I64

    def part(self, part: Part, *, gated: bool = True, overlap: bool = False, limit: int | None = None) -> "BeatWindows":
        """As :meth:`trainer.windows.Windows.part`; without overlap, each window that begins after the last taken."""
        found = super().part(part, gated=gated, overlap=True)
        keep = np.ones(len(found), dtype=bool)
        if not overlap:
            end = -1
            for i, first in enumerate(found.first):
                keep[i] = first >= end
                end = first + self.hops if keep[i] else end
        index = np.flatnonzero(keep)
        if limit is not None and len(index) > limit:
            index = index[np.linspace(0, len(index) - 1, limit).round().astype(np.int64)]
        taken = found.take(index)
        assert isinstance(taken, BeatWindows)
        return taken


@dataclass(frozen=True, slots=True)
class RecordingBeats:
    """The beats of one recording, (beats, samples + 1) each, with their times (beats, 2) in s, which of them are
    ``paired``, which ones follow on the one before (``follows``), and its windows: first beat and verdict.

    ``r_peaks``: how many heartbeats the ECG has there.
    """

    ppg: F32
    ecg: F32
    seconds: NDArray[np.float64]
    paired: NDArray[np.bool_]
    follows: NDArray[np.bool_]
    r_peaks: int
    starts: I64
    verdicts: NDArray[np.int8]


def causes(feet: NDArray[np.float64], peaks: NDArray[np.float64], track: DelayTrack, near: float) -> I64:
    """Which of the R ``peaks`` (s) caused the pulse that begins at each of ``feet`` (s): its index, -1 for none.

    The one nearest to the foot less the recording's delay there, within ``near`` s; no R peak causes two pulses (the
    nearer keeps it).
    """
    cause = np.full(len(feet), -1, dtype=np.int64)
    if not len(peaks) or not len(feet) or not track.believed.any():
        return cause
    wanted = feet - track.at(feet)
    after = np.searchsorted(peaks, wanted).clip(1, max(1, len(peaks) - 1))
    low, high = peaks[after - 1], peaks[after.clip(max=len(peaks) - 1)]
    nearest = np.where(wanted - low <= high - wanted, after - 1, after.clip(max=len(peaks) - 1))
    distance = np.abs(peaks[nearest] - wanted)
    taken: set[int] = set()
    for i in np.argsort(distance, kind="stable"):
        if distance[i] > near:
            break
        if int(nearest[i]) not in taken:
            taken.add(int(nearest[i]))
            cause[i] = nearest[i]
    return cause


def _stretches(flags: NDArray[np.bool_], follows: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Maximal ``[begin, end)`` of true ``flags`` in which every one but the first ``follows`` the one before."""
    goes_on = flags[:-1] & flags[1:] & follows[1:]  # from each to the next
    begins = np.flatnonzero(flags & ~np.append(False, goes_on)[: len(flags)])
    ends = np.flatnonzero(flags & ~np.append(goes_on, False)[: len(flags)]) + 1
    return [(int(begin), int(end)) for begin, end in zip(begins, ends, strict=True)]


def centred(peaks: I64, ecg: F32, rate: float) -> NDArray[np.float64]:
    """R ``peaks`` (n,) of a normalised ECG (samples,) to a fraction of a sample: the centre of the slope energy within
    60 ms. The top of the smoothed energy that finds them is flat, and a beat cut some samples off is another beat."""
    energy = np.gradient(ecg.astype(np.float64)) ** 2 if len(ecg) > 1 else np.zeros(len(ecg))
    reach = round(0.06 * rate)
    offset = np.arange(-reach, reach + 1)
    near = np.pad(energy, reach)[peaks[:, None] + offset + reach]
    total = near.sum(1)
    return np.asarray(peaks + np.divide((near * offset).sum(1), total, out=np.zeros(len(peaks)), where=total > 0))


def _starts(stretches: list[tuple[int, int]], config: BeatConfig) -> list[int]:
    return [start for begin, end in stretches for start in range(begin, end - config.beats + 1, config.stride)]


def _heartbeats(
    ecg: Patches, spans: NDArray[np.float64], cause: I64, peaks: NDArray[np.float64], config: BeatConfig
) -> tuple[F32, NDArray[np.bool_]]:
    """The ECG from the R peak that caused each pulse to the next, (pulses, samples + 1), and where it can be used."""
    rate, hop = config.rate, config.windows.hop
    beats, paired = np.zeros((len(spans), config.hop), dtype=np.float32), np.zeros(len(spans), dtype=bool)
    wave, good = ecg.patches.ravel().astype(np.float64), ecg.valid & ~ecg.flat
    for i in np.flatnonzero((cause >= 0) & (cause < len(peaks) - 1)):
        begin, end = max(0.0, float(peaks[cause[i]])), min(len(wave) - 1.0, float(peaks[cause[i] + 1]))
        lasts, pulse = (end - begin) / rate, (spans[i, 1] - spans[i, 0]) / rate
        whole = good[int(begin) // hop : int(end) // hop + 1].all()
        if whole and SHORTEST <= lasts <= LONGEST and abs(np.log(lasts / pulse)) <= config.alike:
            beats[i], paired[i] = beat_patch(wave, begin, end, config.samples, rate), True
    return beats, paired


def _cut_windows(
    ppg: F32, ecg: F32, paired: NDArray[np.bool_], follows: NDArray[np.bool_], config: BeatConfig
) -> tuple[I64, NDArray[np.int8]]:
    """First beat and verdict of each window: every ``stride`` beats of each stretch of paired beats, and of each
    stretch of pulses those windows in which some have no heartbeat."""
    unpaired = np.concatenate([[0], np.cumsum(~paired)])
    every = _starts(_stretches(np.ones(len(paired), dtype=bool), follows), config)
    mixed = [start for start in every if unpaired[start + config.beats] > unpaired[start]]
    starts = np.array(sorted(_starts(_stretches(paired, follows), config) + mixed), dtype=np.int64)
    verdicts = np.full(len(starts), Verdict.OK, dtype=np.int8)
    top, gate = 0.98 * config.windows.clip, config.windows.gate  # a clipped wave averaged over a share of the beat
    for i, start in enumerate(starts):
        rows = slice(start, start + config.beats)
        if not paired[rows].all():
            verdicts[i] = Verdict.RATES_DISAGREE
        ppg_clipped, ecg_clipped = (float((np.abs(beats[rows, :-1]) >= top).mean()) for beats in (ppg, ecg))
        if ppg_clipped > gate.ppg_clipped or ecg_clipped > gate.ecg_clipped:
            verdicts[i] = Verdict.CLIPPED
    return starts, verdicts


def cut_beats(recording: Recording, config: BeatConfig) -> RecordingBeats:
    """Read one recording, cut its pulses, find the heartbeat of each, and cut windows of consecutive beats.

    A window is OK where every pulse has its heartbeat and little is clipped. Windows in which some pulse has none
    (``RATES_DISAGREE``) are kept for whoever needs only the pulse wave.
    """
    grid = config.windows
    ppg, ecg = (to_grid(channel, recording.rate, grid.rate) for channel in recording.read())
    p, e = run_frontend(ppg, grid, "ppg"), run_frontend(ecg, grid, "ecg")
    pulses = cut_pulses(p.filtered, p.patches, p.valid & ~p.flat, grid.rate, config.samples)
    peaks = centred(r_peaks(e.patches.ravel(), grid.rate), e.patches.ravel(), grid.rate)
    track = estimate_delay(p.patches.ravel(), e.patches.ravel(), grid.rate)
    spans = np.array([(pulse.start, pulse.stop) for pulse in pulses]).reshape(-1, 2)
    cause = causes(spans[:, 0] / grid.rate, peaks / grid.rate, track, config.near)

    ppg_beats = np.array([pulse.patch for pulse in pulses], dtype=np.float32).reshape(-1, config.hop)
    ecg_beats, paired = _heartbeats(e, spans, cause, peaks, config)
    follows = np.zeros(len(pulses), dtype=bool)
    follows[1:] = spans[1:, 0] == spans[:-1, 1]
    starts, verdicts = _cut_windows(ppg_beats, ecg_beats, paired, follows, config)
    return RecordingBeats(ppg_beats, ecg_beats, spans / grid.rate, paired, follows, len(peaks), starts, verdicts)
