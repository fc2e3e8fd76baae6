"""Atrial fibrillation: the `irregular` alarm on subjects that irregularity was not calibrated on."""

from collections.abc import Sequence

import msgspec
import numpy as np

from benchmarks.alarms.cases import PERFORM, Case
from benchmarks.alarms.intervals import Estimate, per_hour, ratio, wilson
from trainer.heads.people import AF_GROUP, in_first_half


class AFSubject(msgspec.Struct, frozen=True):
    """One subject: ``alarms`` of irregularity, ``delay`` s from the start to the first, ``active`` share of the
    readable time, ``readable`` share of the whole."""

    record: str
    af: bool
    alarms: int
    delay: float | None
    active: float | None
    readable: float


class AFResult(msgspec.Struct, frozen=True):
    """The subjects that irregularity was not calibrated on. ``found``: AF subjects with at least one alarm;
    ``active``: share of their readable time; ``falsely``: non-AF subjects with at least one; ``false_per_hour``."""

    af: int
    found: int
    share: Estimate
    delay: float | None
    worst_delay: float | None
    active: Estimate
    non_af: int
    falsely: int
    false_share: Estimate
    false_per_hour: Estimate
    false_active: Estimate
    hours: float
    subjects: list[AFSubject]


def score(cases: Sequence[Case]) -> AFResult | None:
    """The `irregular` alarm on MIMIC PERform AF's second half; None without such recordings."""
    chosen = [c for c in cases if c.recording.dataset == PERFORM and not in_first_half(c.recording)]
    if not chosen:
        return None
    sick = [case for case in chosen if case.recording.group == AF_GROUP]
    well = [case for case in chosen if case.recording.group != AF_GROUP]
    subjects = [_subject(case) for case in chosen]
    delays = [s.delay for s in subjects if s.af and s.delay is not None]
    falsely = sum(s.alarms > 0 for s in subjects if not s.af)
    hours = [case.watched.seconds / 3600 for case in well]
    return AFResult(
        af=len(sick),
        found=len(delays),
        share=wilson(len(delays), len(sick)),
        delay=float(np.median(delays)) if delays else None,
        worst_delay=max(delays, default=None),
        active=_active(sick),
        non_af=len(well),
        falsely=falsely,
        false_share=wilson(falsely, len(well)),
        false_per_hour=per_hour([s.alarms for s in subjects if not s.af], hours, [case.person for case in well]),
        false_active=_active(well),
        hours=round(sum(hours), 3),
        subjects=subjects,
    )


def _subject(case: Case) -> AFSubject:
    watched = case.watched
    starts = [alert.start for alert in watched.alerts if alert.name == "irregular"]
    good = int(watched.good.sum())
    active = int((watched.during("irregular") & watched.good).sum())
    return AFSubject(
        record=case.recording.name,
        af=case.recording.group == AF_GROUP,
        alarms=len(starts),
        delay=round(min(starts), 2) if starts else None,
        active=round(active / good, 3) if good else None,
        readable=round(good * watched.hop / watched.seconds, 3),
    )


def _active(cases: list[Case]) -> Estimate:
    active = [(c.watched.during("irregular") & c.watched.good).sum() for c in cases]
    return ratio(active, [c.watched.good.sum() for c in cases], [c.person for c in cases])
