"""Beat detection against the ECG's R peaks."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.alarms import peer
from benchmarks.alarms.cases import CHALLENGE, Case
from benchmarks.alarms.intervals import Estimate, ratio
from benchmarks.alarms.rates import GROUPS as RATE_GROUPS
from benchmarks.alarms.rates import OURS

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

TOLERANCE = 0.150  # s, as ANSI/AAMI EC57 matches beats
LARGEST_DELAY = 1.0  # s from an R peak to its pulse at the sensor, with what monitors add
BIN = 0.02  # s
SETTLE, TAIL = 10.0, 1.0  # s at the start and the end that nobody is judged on

GROUPS: dict[str, Callable[[Case], bool]] = {
    **RATE_GROUPS,
    "Challenge 2015": lambda case: case.recording.dataset == CHALLENGE,
}


class BeatRow(msgspec.Struct, frozen=True):
    """``where``: the whole recording, or what the monitor's quality index believes. ``delay``: median over records of
    the delay that was removed, s."""

    group: str
    who: str
    where: str
    beats: int
    people: int
    f1: Estimate
    sensitivity: Estimate
    ppv: Estimate
    delay: float | None
    missing: str = ""


def pulse_delay(peaks: F64, beats: F64) -> float:
    """The record's median delay from R peak to pulse beat, s; 0 where there is no pair.

    The pairs are those near the most frequent delay below 1 s: a plain "next beat" would pair with the wrong one
    wherever the delay is longer than an R–R interval, or beats are missed.
    """
    if not len(peaks) or not len(beats):
        return 0.0
    first = np.searchsorted(beats, peaks)
    last = np.searchsorted(beats, peaks + LARGEST_DELAY)
    lags = np.concatenate([beats[a:b] - peak for peak, a, b in zip(peaks, first, last, strict=True)])
    if not len(lags):
        return 0.0
    counts, _ = np.histogram(lags, np.arange(0, LARGEST_DELAY + BIN, BIN))
    mode = (int(np.convolve(counts, np.ones(5), "same").argmax()) + 0.5) * BIN
    return float(np.median(lags[np.abs(lags - mode) <= TOLERANCE]))


def match(truth: F64, found: F64, tolerance: float = TOLERANCE) -> tuple[Bools, Bools]:
    """Pairs sorted times one to one within ``tolerance`` s, as many as can be; True where one has a partner."""
    paired, partner = np.zeros(len(truth), bool), np.zeros(len(found), bool)
    i = j = 0
    while i < len(truth) and j < len(found):
        if abs(truth[i] - found[j]) <= tolerance:
            paired[i] = partner[j] = True
            i, j = i + 1, j + 1
        elif truth[i] < found[j]:
            i += 1
        else:
            j += 1
    return paired, partner


def _good_at(case: Case, times: F64) -> Bools:
    at = np.searchsorted(case.watched.t, times)
    return np.asarray((at < len(case.watched.t)) & case.watched.good[np.minimum(at, len(case.watched.t) - 1)])


def _counts(case: Case, beats: F64, *, believed: bool) -> tuple[int, int, int, float]:
    """Beats found, missed and falsely found, and the delay that was removed, s."""
    delay = pulse_delay(case.reference.peaks, beats)
    truth = case.reference.peaks + delay
    paired, partner = match(truth, beats)
    end = case.watched.seconds - TAIL
    use_truth, use_beats = (truth > SETTLE) & (truth < end), (beats > SETTLE) & (beats < end)
    if believed:
        use_truth &= _good_at(case, truth)
        # A pair is judged by its R peak alone, or one across an edge would count by half.
        use_beats &= _good_at(case, beats)
    tp = int((paired & use_truth).sum())
    return tp, int((~paired & use_truth).sum()), int((~partner & use_beats).sum()), delay


def _row(group: str, who: str, cases: list[Case], beats: Sequence[F64], *, believed: bool) -> BeatRow:
    counts = [_counts(case, found, believed=believed) for case, found in zip(cases, beats, strict=True)]
    tp, fn, fp = np.array([c[:3] for c in counts]).T
    people = [case.person for case in cases]
    return BeatRow(
        group=group,
        who=who,
        where="believed" if believed else "all",
        beats=int((tp + fn).sum()),
        people=len(set(people)),
        f1=ratio(2 * tp, 2 * tp + fn + fp, people),
        sensitivity=ratio(tp, tp + fn, people),
        ppv=ratio(tp, tp + fp, people),
        delay=float(np.median([c[3] for c in counts])),
    )


def score(cases: Sequence[Case]) -> list[BeatRow]:
    """The monitor and the peer on the same recordings, each with its own delay removed."""
    rows = []
    for group, belongs in GROUPS.items():
        chosen = [case for case in cases if belongs(case)]
        if not chosen:
            continue
        for believed in (False, True):
            rows.append(_row(group, OURS, chosen, [c.watched.beats for c in chosen], believed=believed))
            if missing := peer.missing():
                rows.append(
                    BeatRow(group, peer.NAME, rows[-1].where, 0, 0, Estimate(), Estimate(), Estimate(), None, missing)
                )
                continue
            theirs = [c.peer_beats for c in chosen if c.peer_beats is not None]
            rows.append(_row(group, peer.NAME, chosen, theirs, believed=believed))
    return rows
