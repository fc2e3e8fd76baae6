"""How long after the heart's beat its pulse arrives, followed through a recording: what puts an ECG and a PPG in step.

The pulse-arrival delay (R peak to pulse foot) differs by person and by sensor, and two devices' clocks drift apart. A
tokenizer that pairs patch with patch sees another joint pattern at every delay. Here the delay is measured from the
signals alone, block by block, and :func:`delayed` takes it out.

Beats are never matched one to one, because a missed or extra beat would break the chain. Every pulse foot is compared
with *all* R peaks around it: the delays of true pairs agree, those of wrong pairs spread with the heart's own
variability. The density of these delays therefore has its sharpest peak at the true one and blunter ones a beat to
either side (the cyclic ambiguity). A path through the blocks' densities that pays for every change of delay (Viterbi)
settles what one block alone could not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.gating import pulse_peaks, r_peaks

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

BLOCK, STEP = 60.0, 30.0  # s: each estimate looks at a minute, and there are two a minute
EARLIEST, LATEST = -0.8, 2.2  # s: the delays looked for; a monitor adds up to 1 s to the 0.1 to 0.5 s of a body
GRID = 0.008  # s
WIDTH = 0.016  # s: standard deviation of the kernel, about what detectors and breathing make of a true delay
NEAR = 0.06  # s: a foot this close to the delay belongs to it
TYPICAL, PRIOR = 0.3, 0.02  # s, and what a second away from it costs: decides only between equals
MOVING = 2.0  # what a second of change between two blocks costs, in shares of feet explained
FEWEST = 10  # feet in a block; with fewer nothing is claimed
BELIEVED = 0.5  # share of the feet that must lie near the delay


@dataclass(frozen=True)
class DelayTrack:
    """Pulse-arrival delay over a recording. ``time`` (blocks,) s, the blocks' centres; ``delay`` (blocks,) s;
    ``confidence`` (blocks,): the share of a block's pulse feet that lie within 60 ms of an R peak plus the delay."""

    time: F64
    delay: F64
    confidence: F64

    @property
    def believed(self) -> NDArray[np.bool_]:
        """The blocks whose delay explains most of their pulse feet."""
        return np.asarray(self.confidence >= BELIEVED)

    def at(self, seconds: F64) -> F64:
        """The delay at these times, s: on straight lines between believed blocks, 0 where there is none at all."""
        known = self.believed
        if not known.any():
            return np.zeros(len(seconds))
        return np.interp(seconds, self.time[known], self.delay[known])


def pulse_feet(ppg: F32, rate: float) -> F64:
    """Pulse feet in a normalised PPG, fractional sample indices, shape ``(n,)``: where the tangent at the steepest
    point of the upstroke meets the level of the minimum before it (intersecting tangents, Chiu et al. 1991)."""
    reach = max(2, round(0.4 * rate))
    feet = []
    for peak in pulse_peaks(ppg, rate):
        upstroke = ppg[max(0, peak - reach) : peak + 1].astype(np.float64)
        lowest = int(np.argmin(upstroke))
        slope = np.diff(upstroke[lowest:])
        if len(slope) == 0 or slope.max() <= 0:
            continue
        steepest = int(np.argmax(slope))
        height = (upstroke[lowest + steepest] + upstroke[lowest + steepest + 1]) / 2 - upstroke[lowest]
        feet.append(peak - len(upstroke) + 1 + lowest + steepest + 0.5 - height / slope[steepest])
    return np.array(feet, dtype=np.float64)


def _candidates(feet: F64, beats: F64) -> tuple[F64, NDArray[np.int64]]:
    """Delays (pairs,) from every R peak within reach of a foot, and the foot (pairs,) each belongs to."""
    first, last = np.searchsorted(beats, feet - LATEST), np.searchsorted(beats, feet - EARLIEST)
    count = last - first
    foot = np.repeat(np.arange(len(feet)), count)
    beat = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    return feet[foot] - beats[beat], foot


def _density(delays: F64, feet: int, grid: F64) -> F64:
    """Kernel sum of ``delays`` at ``grid`` over the number of feet: 1 where every foot has a beat at that delay."""
    edges = np.append(grid - GRID / 2, grid[-1] + GRID / 2)
    counts = np.histogram(delays, edges)[0].astype(np.float64)
    reach = np.arange(-8, 9) * GRID
    return np.convolve(counts, np.exp(-0.5 * (reach / WIDTH) ** 2), mode="same") / max(1, feet)


def _best_path(scores: F64, grid: F64) -> NDArray[np.int64]:
    """Index into ``grid`` for each row of ``scores`` (blocks, delays): the path of greatest sum less its movement."""
    move = MOVING * np.abs(grid[:, None] - grid[None])
    total, back = scores[0], []
    for row in scores[1:]:
        reached = total[None] - move
        back.append(reached.argmax(1))
        total = reached.max(1) + row
    path = [int(total.argmax())]
    for step in reversed(back):
        path.append(int(step[path[-1]]))
    return np.array(path[::-1])


def estimate_delay(ppg: F32, ecg: F32, rate: float) -> DelayTrack:
    """The delay from R peak to pulse foot through a recording.

    ``ppg`` and ``ecg``: the whole recording behind the front end (units of its running RMS), shape ``(n,)`` each, at
    ``rate`` Hz. In a strictly regular rhythm delays a whole beat apart cannot be told from each other; the one nearer
    to 0.3 s is taken then, and the patterns in the patches are the same either way.
    """
    feet, beats = pulse_feet(ppg, rate) / rate, r_peaks(ecg, rate) / rate
    centres = np.arange(STEP, max(len(ppg) / rate, 1.5 * STEP), STEP)
    delays, foot = _candidates(feet, beats)
    grid = np.arange(EARLIEST, LATEST + GRID / 2, GRID)
    scores = np.zeros((len(centres), len(grid)))
    inside = [(feet >= centre - BLOCK / 2) & (feet < centre + BLOCK / 2) for centre in centres]
    for i, these in enumerate(inside):
        if these.sum() >= FEWEST:
            scores[i] = _density(delays[these[foot]], int(these.sum()), grid)
    path = _best_path(scores - PRIOR * np.abs(grid - TYPICAL), grid)
    track, confidence = grid[path], np.zeros(len(centres))
    for i, these in enumerate(inside):
        near = delays[these[foot]] - track[i]
        near = near[np.abs(near) <= NEAR]
        if these.sum() >= FEWEST and len(near):
            track[i] += np.median(near)
            confidence[i] = min(1.0, len(near) / these.sum())
    return DelayTrack(centres, track, confidence)


def delayed(samples: F64, delay: float | F64) -> F64:
    """``samples`` (n,) made to come ``delay`` samples later (one number, or one for each sample of the result).

    Cubic interpolation between samples; NaN where the result reaches beyond the recording or onto a missing sample.
    """
    from scipy.ndimage import map_coordinates

    wanted = np.arange(len(samples)) - delay
    nearest = np.round(wanted).astype(np.int64)
    inside = (nearest >= 0) & (nearest < len(samples))
    here = np.isfinite(samples)
    if not here.any():
        return np.full(len(samples), np.nan)
    index = np.arange(len(samples))
    whole = samples if here.all() else np.interp(index, index[here], samples[here])
    moved = np.asarray(map_coordinates(whole, [wanted], order=3, mode="nearest"), dtype=np.float64)
    moved[~inside] = np.nan
    moved[inside] = np.where(here[nearest[inside]], moved[inside], np.nan)
    return moved
