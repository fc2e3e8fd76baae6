"""What the quality index is worth in telling a right pulse rate from a wrong one."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.alarms.cases import BIDMC, CHALLENGE, Case
from benchmarks.alarms.intervals import Estimate, ratio
from trainer.bootstrap import over_people
from trainer.heads.observe import EVERY_SECONDS
from trainer.heads.quality_head import AGREE_BPM

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class QualityRow(msgspec.Struct, frozen=True):
    """The quality index on the test people: ``right``: share of examples whose rate is within 5 bpm of the ECG's;
    ``auroc`` of the index in telling them; ``trusted``: share right of those it believes."""

    group: str
    examples: int
    people: int
    right: Estimate
    auroc: Estimate
    trusted: Estimate


GROUPS: dict[str, tuple[str, ...]] = {
    "BIDMC and Challenge 2015": (BIDMC, CHALLENGE),
    "BIDMC": (BIDMC,),
    "Challenge 2015": (CHALLENGE,),
}


def score(cases: Sequence[Case]) -> list[QualityRow]:
    """One example every 4 s, where the index had beats to judge by and the ECG has a rate."""
    rows = []
    for group, datasets in GROUPS.items():
        sqi: list[F64] = []
        right: list[Bools] = []
        good: list[Bools] = []
        people: list[NDArray[np.str_]] = []
        for case in cases:
            if case.recording.dataset not in datasets or not case.test:
                continue
            step = max(1, round(EVERY_SECONDS / case.watched.hop))
            due = np.arange(step - 1, len(case.watched.t), step)
            truth = case.reference.rates(case.watched.t[due])
            use = case.watched.judged[due] & np.isfinite(truth)
            error = np.abs(case.watched.beats_hr[due] - truth)[use]
            sqi.append(case.watched.sqi[due][use])
            good.append(case.watched.good[due][use])
            right.append(np.nan_to_num(error, nan=np.inf) <= AGREE_BPM)
            people.append(np.full(int(use.sum()), case.person))
        if people and sum(map(len, people)):
            rows.append(
                _row(group, np.concatenate(sqi), np.concatenate(right), np.concatenate(good), np.concatenate(people))
            )
    return rows


def _row(group: str, sqi: F64, right: Bools, good: Bools, people: NDArray[np.str_]) -> QualityRow:
    def auroc(at: I64) -> float:
        return float(roc_auc_score(right[at], sqi[at])) if 0 < right[at].mean() < 1 else float("nan")

    names = people.tolist()
    found = over_people(auroc, people)
    value, low, high = ((v if np.isfinite(v) else None) for v in (found.value, found.low, found.high))
    return QualityRow(
        group=group,
        examples=len(sqi),
        people=found.people,
        right=ratio(right, np.ones(len(right)), names),
        auroc=Estimate(value, low, high),
        trusted=ratio(right & good, good, names),
    )
