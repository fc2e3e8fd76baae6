"""Pulse rate against the ECG's."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.alarms import peer
from benchmarks.alarms.cases import BIDMC, PERFORM, Case
from benchmarks.alarms.intervals import Estimate, ratio
from trainer.heads.people import AF_GROUP
from trainer.heads.quality_head import AGREE_BPM

F64 = NDArray[np.float64]

OURS = "Pulsecode"
GROUPS: dict[str, Callable[[Case], bool]] = {
    "BIDMC": lambda case: case.recording.dataset == BIDMC,
    "BIDMC, test people": lambda case: case.recording.dataset == BIDMC and case.test,
    "PERform non-AF": lambda case: case.recording.dataset == PERFORM and case.recording.group != AF_GROUP,
    "PERform AF": lambda case: case.recording.dataset == PERFORM and case.recording.group == AF_GROUP,
}


class RateRow(msgspec.Struct, frozen=True):
    """Mean absolute error, bpm, over the ``windows`` with a rate, the share of them within 5 bpm, and ``coverage``:
    the share of windows with a rate, of those the ECG has one for. ``inside``: share of truths that the rate's own
    interval holds, and its median reach ``half`` on either side, bpm."""

    group: str
    who: str
    windows: int
    people: int
    mae: Estimate
    within: Estimate
    coverage: Estimate
    inside: Estimate = Estimate()
    half: float | None = None
    missing: str = ""


def errors(case: Case) -> tuple[F64, F64]:
    """Pulse rate minus ECG rate and the ECG's, bpm, over the hops whose rate is valid and that the ECG judges."""
    truth = case.reference.rates(case.watched.t)
    use = case.watched.valid & np.isfinite(truth)
    return (case.watched.hr - truth)[use], truth[use]


def _row(group: str, who: str, rated: list[tuple[str, F64, F64]], halves: list[F64] | None = None) -> RateRow:
    """``rated``: person, rates (NaN: none) and the ECG's (NaN: none) of each record; ``halves``: how far the interval
    of each rate reaches on either side, where it has one."""
    people = [person for person, _, _ in rated]
    judged = [(rate[np.isfinite(truth)], truth[np.isfinite(truth)]) for _, rate, truth in rated]
    error = [np.abs(rate - truth)[np.isfinite(rate)] for rate, truth in judged]
    counts = [len(e) for e in error]
    inside, half = Estimate(), None
    if halves is not None:
        reach = [h[np.isfinite(t) & np.isfinite(r)] for (_, r, t), h in zip(rated, halves, strict=True)]
        known = [np.isfinite(h) for h in reach]
        if sum(int(k.sum()) for k in known):
            hits = [(e[k] <= h[k]).sum() for e, h, k in zip(error, reach, known, strict=True)]
            inside = ratio(hits, [k.sum() for k in known], people)
            half = round(float(np.median(np.concatenate([h[k] for h, k in zip(reach, known, strict=True)]))), 2)
    return RateRow(
        group=group,
        who=who,
        windows=sum(counts),
        people=len(set(people)),
        mae=ratio([e.sum() for e in error], counts, people),
        within=ratio([(e <= AGREE_BPM).sum() for e in error], counts, people),
        coverage=ratio(counts, [len(truth) for _, truth in judged], people),
        inside=inside,
        half=half,
    )


def _believed(case: Case) -> F64:
    return np.where(case.watched.valid, case.watched.hr, np.nan)


def _at(case: Case, values: F64) -> F64:
    """Values by hop at the peer's marks: of the last hop that ended by then."""
    at = np.searchsorted(case.watched.t, case.marks + 1e-6) - 1
    return np.where(at >= 0, values[np.maximum(at, 0)], np.nan)


def score(cases: Sequence[Case]) -> list[RateRow]:
    """The monitor at every hop; the peer every ten seconds, on all its windows and on those the monitor believes."""
    rows = []
    for group, belongs in GROUPS.items():
        chosen = [case for case in cases if belongs(case)]
        if not chosen:
            continue
        ours = [(c.person, _believed(c), c.reference.rates(c.watched.t)) for c in chosen]
        halves = [c.watched.half for c in chosen]
        rows.append(_row(group, OURS, ours, halves))
        every = [(c.person, c.watched.hr, truth) for c, (_, _, truth) in zip(chosen, ours, strict=True)]
        rows.append(_row(group, f"{OURS}, all it has", every, halves))
        good = [
            (c.person, np.where(c.watched.good, c.watched.beats_hr, np.nan), truth)
            for c, (_, _, truth) in zip(chosen, ours, strict=True)
        ]
        rows.append(_row(group, "beat intervals, good pulse", good))
        if missing := peer.missing():
            rows.append(RateRow(group, peer.NAME, 0, 0, Estimate(), Estimate(), Estimate(), missing=missing))
            continue
        theirs = [(c.person, c.peer_rates, c.reference.rates(c.marks)) for c in chosen if c.peer_rates is not None]
        rows.append(_row(group, peer.NAME, theirs))
        same = [
            (person, np.where(np.isfinite(_at(c, _believed(c))), rates, np.nan), truth)
            for c, (person, rates, truth) in zip(chosen, theirs, strict=True)
        ]
        rows.append(_row(group, f"{peer.NAME}, believed", same))
    return rows
