"""Challenge 2015: of the bedside monitor's true alarms, how many does the pulse wave alone find; of its false ones,
on how many does it stay silent?"""

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np

from benchmarks.alarms.cases import Case
from benchmarks.alarms.intervals import Estimate, ratio, wilson
from edge.alarms import AlarmLimits
from trainer.heads.witness import shows

ALARM_AT = 300.0  # s: 5:00, when the bedside monitor alarmed
EVENT_WITHIN = 10.0  # s before it, in which the event lies
ALLOWANCE = 8.0  # s after it, in which ours may still come (where the record goes on: half end at 5:00)
ELSEWHERE = tuple(range(30, 260, 30))  # s: where windows of the same length are looked at for comparison

# Which of our alarms answers to which of the Challenge's; the last two are outside what a pulse wave can name.
ANSWERS: dict[str, tuple[str, ...]] = {
    "Asystole": ("pulse_lost",),
    "Bradycardia": ("brady",),
    "Tachycardia": ("tachy",),
    "Ventricular_Tachycardia": ("pulse_lost", "tachy", "irregular"),
    "Ventricular_Flutter_Fib": ("pulse_lost", "tachy", "irregular"),
}
CLAIMED = ("Asystole", "Bradycardia", "Tachycardia")


class Finding(msgspec.Struct, frozen=True):
    """One record. ``ours``: all our alarms active in the interval; ``answered``: one of those that answer to it was;
    ``raised`` s from 5:00 to when the first of them was raised in the interval, None where it was active
    before; ``ecg_shows``: the ECG meets the limits of ours in the interval; ``pause`` the longest
    stretch without a pulse beat, s, any part of which lies in the interval; ``interval_end`` s; ``readable`` share of
    the interval's hops."""

    record: str
    alarm: str
    true: bool
    test: bool
    answered: bool
    raised: float | None
    ecg_shows: bool
    ours: list[str]
    pause: float
    readable: float
    interval_end: float


class ChallengeRow(msgspec.Struct, frozen=True):
    """One alarm type. ``sensitivity``: found of true; ``suppression``: silent of false.

    ``raised``: found by an alarm raised in the interval (the others were active before); ``by_five``: found by 5:00;
    ``delay``: median of those raised, s from 5:00; ``ecg_shows``: true ones in which the ECG meets our own limits in
    the interval; ``elsewhere``: share of windows of the same length earlier in these records with ours active.
    """

    alarm: str
    ours: list[str]
    claimed: bool
    part: str
    true: int
    found: int
    raised: int
    by_five: int
    ecg_shows: int
    sensitivity: Estimate
    delay: float | None
    false: int
    fired: int
    suppression: Estimate
    elsewhere: Estimate


def _longest_pause(beats: Sequence[float], begin: float, end: float) -> float:
    inside = [b for b in beats if b < end]
    edges = [0.0, *inside, end]
    return max((b - a for a, b in pairwise(edges) if b > begin), default=0.0)


def find(case: Case, limits: AlarmLimits) -> Finding:
    """What our alarms did around a record's 5:00."""
    label, watched = case.label, case.watched
    assert label is not None, "only Challenge records come here"
    begin, end = ALARM_AT - EVENT_WITHIN, min(ALARM_AT + ALLOWANCE, watched.seconds)
    answers = ANSWERS.get(label.alarm, ())
    first = watched.active(answers, begin, end)
    raised = None if first is None or first == begin else round(first - ALARM_AT, 2)
    names = sorted({alert.name for alert in watched.alerts})
    hops = (watched.t > begin) & (watched.t <= end)
    return Finding(
        record=case.recording.name,
        alarm=label.alarm,
        true=label.true,
        test=case.test,
        answered=first is not None,
        raised=raised,
        ecg_shows=any(shows(case.reference, name, begin, end, limits) for name in answers),
        ours=[name for name in names if watched.active((name,), begin, end) is not None],
        pause=round(_longest_pause(watched.beats.tolist(), begin, end), 2),
        readable=round(float(watched.good[hops].mean()), 3) if hops.any() else 0.0,
        interval_end=round(end, 2),
    )


def _elsewhere(case: Case, names: tuple[str, ...], length: float) -> int:
    return sum(case.watched.active(names, begin, begin + length) is not None for begin in ELSEWHERE)


def score(cases: Sequence[Case], limits: AlarmLimits) -> tuple[list[Finding], list[ChallengeRow]]:
    """Every record's finding, and the rows: each alarm type on all records and on the test part alone."""
    labelled = [case for case in cases if case.label is not None]
    findings = [find(case, limits) for case in labelled]
    rows = []
    for alarm, names in ANSWERS.items():
        for part in ("all", "test"):
            chosen = [
                (case, found)
                for case, found in zip(labelled, findings, strict=True)
                if found.alarm == alarm and (part == "all" or found.test)
            ]
            if chosen:
                rows.append(_row(alarm, names, part, chosen))
    return findings, rows


def _row(alarm: str, names: tuple[str, ...], part: str, chosen: list[tuple[Case, Finding]]) -> ChallengeRow:
    true = [found for _, found in chosen if found.true]
    false = [found for _, found in chosen if not found.true]
    answered = [found for found in true if found.answered]
    delays = [found.raised for found in answered if found.raised is not None]
    fired = sum(found.answered for found in false)
    active = [_elsewhere(case, names, found.interval_end - ALARM_AT + EVENT_WITHIN) for case, found in chosen]
    return ChallengeRow(
        alarm=alarm,
        ours=list(names),
        claimed=alarm in CLAIMED,
        part=part,
        true=len(true),
        found=len(answered),
        raised=len(delays),
        by_five=sum(found.raised is None or found.raised <= 0 for found in answered),
        ecg_shows=sum(found.ecg_shows for found in true),
        sensitivity=wilson(len(answered), len(true)),
        delay=float(np.median(delays)) if delays else None,
        false=len(false),
        fired=fired,
        suppression=wilson(len(false) - fired, len(false)),
        elsewhere=ratio(active, [len(ELSEWHERE)] * len(active), [case.person for case, _ in chosen]),
    )
